"""Conversations as text: a checkpoint's chat template, rendered where it can do no harm."""
