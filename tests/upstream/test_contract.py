"""What holds of POST /v1/embeddings with our own engine holds when another server computes."""

from tests.contract import CONTRACT

globals().update(CONTRACT)
