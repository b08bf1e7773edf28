"""What the server answers: every method of every path, for the description and for whoever asks them all."""

from dataclasses import dataclass
from typing import Any

from hexgrid import wire
from hexgrid.server.batches import objects


@dataclass(frozen=True)
class Operation:
    """One method of one path; without a request it takes no body, without a response it answers none.

    `example` is a body that any server answers, if it has what the body names.
    """

    method: str
    path: str
    summary: str
    request: Any = None
    response: Any = None
    example: dict[str, Any] | None = None
    takes_form: bool = False  # a file in a form of multipart/form-data, which has no struct
    content_type: str = "application/json"
    public: bool = False
    embeds: bool = False  # so that its answers have the headers of those
    raw: bool = False  # so that the answer can be raw bytes, too

    @property
    def of_batches(self) -> bool:
        """Whether it is a 404 without --batch-dir, or without what it names."""
        return self.path.startswith(("/v1/files", "/v1/batches"))


_TEXT = "The capital of China is Beijing."
_TEXTS = [_TEXT, "Gravity attracts two bodies towards each other."]
_EMBED = {"input": _TEXTS}
_RERANK = {"query": "Explain gravity", "documents": _TEXTS}
_SCORE = {"queries": "Explain gravity", "documents": _TEXTS}

OPERATIONS = (
    Operation(
        "post",
        "/v1/embeddings",
        "Embed one text, many texts, token ids, or conversations",
        wire.EmbeddingRequest,
        wire.EmbeddingResponse,
        _EMBED,
        embeds=True,
        raw=True,
    ),
    Operation(
        "post",
        "/pooling",
        "The same in the form of vLLM's pooling",
        wire.PoolingRequest,
        wire.PoolingResponse,
        _EMBED,
        embeds=True,
        raw=True,
    ),
    *(
        Operation(
            "post",
            path,
            "Cosines of pairs of texts",
            wire.ScoreRequest,
            wire.ScoreResponse,
            _SCORE,
            embeds=True,
        )
        for path in ("/score", "/v1/score")
    ),
    *(
        Operation(
            "post",
            path,
            "Documents by their cosine with a query, best first",
            wire.RerankRequest,
            wire.RerankResponse,
            _RERANK,
            embeds=True,
        )
        for path in ("/rerank", "/v1/rerank", "/v2/rerank")
    ),
    Operation(
        "post",
        "/v2/embed",
        "Embed in the form of Cohere",
        wire.CohereEmbedRequest,
        wire.CohereEmbedResponse,
        {"texts": _TEXTS, "input_type": "search_document", "embedding_types": ["float"]},
        embeds=True,
    ),
    Operation(
        "post",
        "/invocations",
        "SageMaker's path: embeds, reranks or scores, as the body's fields say",
        wire.EmbeddingRequest | wire.RerankRequest | wire.ScoreRequest,
        wire.EmbeddingResponse | wire.RerankResponse | wire.ScoreResponse,
        _EMBED,
        embeds=True,
        raw=True,
    ),
    Operation(
        "post",
        "/embed",
        "Embed in the form of Text Embeddings Inference",
        wire.TeiEmbedRequest,
        list[list[float]],
        {"inputs": _TEXTS},
        embeds=True,
    ),
    Operation(
        "post",
        "/similarity",
        "Cosines of one sentence with others, in the form of Text Embeddings Inference",
        wire.TeiSimilarityRequest,
        list[float],
        {"inputs": {"source_sentence": "Explain gravity", "sentences": _TEXTS}},
        embeds=True,
    ),
    Operation(
        "post",
        "/api/embed",
        "Embed in the form of Ollama",
        wire.OllamaEmbedRequest,
        wire.OllamaEmbedResponse,
        _EMBED,
        embeds=True,
    ),
    Operation(
        "post",
        "/api/embeddings",
        "One text in the older form of Ollama: the hidden state, not normalised",
        wire.OllamaEmbeddingsRequest,
        wire.OllamaEmbeddingsResponse,
        {"prompt": _TEXT},
        embeds=True,
    ),
    Operation(
        "get", "/api/tags", "The served models in the form of Ollama", response=wire.OllamaModels
    ),
    Operation("get", "/api/version", "The server's version, for Ollama", response=wire.Version),
    Operation(
        "get",
        "/info",
        "Model and limits in the form of Text Embeddings Inference",
        response=wire.TeiInfo,
    ),
    Operation(
        "get", "/load", "Requests to embed that are being answered", response=wire.ServerLoad
    ),
    Operation("get", "/v1/models", "The served models", response=wire.ModelList),
    Operation(
        "post",
        "/v1/files",
        "Upload a batch's requests",
        response=objects.FileObject,
        takes_form=True,
    ),
    Operation(
        "get",
        "/v1/files",
        "The key's files",
        response=objects.FileList,
    ),
    Operation("get", "/v1/files/{file_id}", "A file", response=objects.FileObject),
    Operation("delete", "/v1/files/{file_id}", "Delete a file", response=objects.FileDeleted),
    Operation(
        "get",
        "/v1/files/{file_id}/content",
        "What is in a file",
        content_type="application/octet-stream",
    ),
    Operation(
        "post",
        "/v1/batches",
        "Begin a batch",
        objects.BatchRequest,
        objects.Batch,
        {
            "input_file_id": "file-0123456789abcdef01234567",
            "endpoint": objects.ENDPOINT,
            "completion_window": objects.COMPLETION_WINDOW,
        },
    ),
    Operation(
        "get",
        "/v1/batches",
        "The key's batches, newest first",
        response=objects.BatchList,
    ),
    Operation("get", "/v1/batches/{batch_id}", "A batch", response=objects.Batch),
    Operation("post", "/v1/batches/{batch_id}/cancel", "Cancel a batch", response=objects.Batch),
    Operation(
        "post",
        "/tokenize",
        "Token ids of a text",
        wire.TokenizeRequest,
        wire.TokenizeResponse,
        {"prompt": _TEXT},
    ),
    Operation(
        "post",
        "/detokenize",
        "Text of token ids",
        wire.DetokenizeRequest,
        wire.DetokenizeResponse,
        {"tokens": [785, 6722, 315, 5616, 374, 26549, 13]},
    ),
    Operation("get", "/health", "200 when requests can be answered, else 503", public=True),
    Operation("get", "/ping", "The same, for SageMaker"),
    Operation("post", "/ping", "The same, for SageMaker"),
    Operation("get", "/live", "200 unless only a new process helps, then 503", public=True),
    Operation("get", "/ready", "200 once requests can be answered, else 503", public=True),
    Operation("get", "/version", "The server's version", response=wire.Version),
    Operation("get", "/metrics", "Prometheus metrics", content_type="text/plain"),
    Operation("get", "/openapi.json", "This document"),
)
