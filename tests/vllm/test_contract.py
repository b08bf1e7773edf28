"""What holds of POST /v1/embeddings with our own engine holds when vLLM computes."""

from tests.contract import CONTRACT

globals().update(CONTRACT)
