"""One small body for a path of each form: two inputs where it takes them, the first of them TEXT."""

from typing import Any

from tests.server.running import TEXT

_OPENAI = {"input": [TEXT, "hello"]}
_SCORE = {"queries": [TEXT], "documents": ["hello"]}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/embeddings": _OPENAI,
    "/pooling": _OPENAI,
    "/score": _SCORE,
    "/rerank": {"query": TEXT, "documents": ["hello"]},
    "/v2/embed": {"texts": [TEXT, "hello"]},
    "/embed": {"inputs": [TEXT, "hello"]},
    "/similarity": {"inputs": {"source_sentence": TEXT, "sentences": ["hello"]}},
    "/api/embed": {"input": [TEXT, "hello"]},
    "/api/embeddings": {"prompt": TEXT},
    "/invocations": _SCORE,
}
# How each asks for inputs to be cut to the model's maximum, where it does not do so anyway.
CUTS: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {"truncate_prompt_tokens": -1},
    "/pooling": {"truncate_prompt_tokens": -1},
    "/score": {"truncate_prompt_tokens": -1},
    "/rerank": {"truncate_prompt_tokens": -1},
    "/v2/embed": {},
    "/embed": {"truncate": True},
    "/similarity": {"parameters": {"truncate": True}},
    "/api/embed": {},
    "/invocations": {"truncate_prompt_tokens": -1},
}


def num_inputs(path: str) -> int:
    """Inputs of the path's body."""
    return 1 if path == "/api/embeddings" else 2
