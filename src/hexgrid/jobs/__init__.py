"""Many texts in files -> their vectors in a file: what runs for hours, and can go on where it was killed."""
