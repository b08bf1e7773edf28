"""What turns Sequences into vectors: scheduling, running, answering. Knows nothing of HTTP."""
