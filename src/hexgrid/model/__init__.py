"""Qwen3 as an embedding model: checkpoints, the packed forward pass, pooling. Knows nothing of requests."""
