"""hexgrid: a self-hosted embeddings server for Qwen3-Embedding."""

__version__ = "0.1.0"
