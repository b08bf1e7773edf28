"""Which path speaks which API."""

from typing import Any

from hexgrid.server.forms import cohere, ollama, openai, scores, tei
from hexgrid.server.forms.form import Form

FORMS: tuple[tuple[str, Form[Any]], ...] = (
    ("/v1/embeddings", openai.EMBEDDINGS),
    ("/pooling", openai.POOLING),
    ("/score", scores.SCORE),
    ("/v1/score", scores.SCORE),
    ("/rerank", scores.RERANK),
    ("/v1/rerank", scores.RERANK),
    ("/v2/rerank", scores.RERANK),
    ("/v2/embed", cohere.EMBED),
    ("/embed", tei.EMBED),
    ("/similarity", tei.SIMILARITY),
    ("/api/embed", ollama.EMBED),
    ("/api/embeddings", ollama.EMBEDDINGS),
)
