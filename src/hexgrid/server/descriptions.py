"""What other servers' clients ask before or besides embedding: GET /load, TEI's /info, Ollama's /api/tags."""

import hashlib
import math
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from hexgrid import __version__
from hexgrid.config import ServerConfig
from hexgrid.engine.served_model import ServedModel
from hexgrid.errors import ForbiddenError
from hexgrid.model.checkpoint import expected_shapes
from hexgrid.server.auth import client_of
from hexgrid.server.embeddings import EmbeddingPath
from hexgrid.server.registry import Models
from hexgrid.server.tokenization import json_response
from hexgrid.wire import (
    OllamaModel,
    OllamaModelDetails,
    OllamaModels,
    ServerLoad,
    TeiEmbeddingModel,
    TeiInfo,
    TeiModelType,
)

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1}
_UNITS = ((1e9, "B"), (1e6, "M"), (1e3, "K"))


class Descriptions:
    """The endpoints and what they tell of."""

    def __init__(
        self,
        models: Models,
        config: ServerConfig,
        embeddings: EmbeddingPath,
        *,
        tokenizer_threads: int,
    ) -> None:
        self._models = models
        self._config = config
        self._embeddings = embeddings
        self._tokenizer_threads = tokenizer_threads
        self._started = datetime.now(UTC).isoformat()

    async def load(self, _: Request) -> Response:
        """How many requests to embed are being answered."""
        return json_response(ServerLoad(server_load=self._embeddings.num_running))

    async def tei_info(self, request: Request) -> Response:
        """The first model that the client may use, and the server's limits."""
        model = next(self._models.allowed(client_of(request.scope)), None)
        if model is None:
            raise ForbiddenError("This API key may not use any model that is served here")
        return json_response(
            TeiInfo(
                model_id=model.name,
                model_dtype=model.precision,
                model_type=TeiModelType(embedding=TeiEmbeddingModel()),
                max_concurrent_requests=self._config.max_concurrent_requests,
                max_input_length=model.max_model_len,
                max_batch_tokens=model.max_num_batched_tokens,
                max_client_batch_size=self._config.max_num_inputs,
                tokenization_workers=self._tokenizer_threads,
                version=__version__,
            )
        )

    async def ollama_models(self, request: Request) -> Response:
        """One entry a served name that the client may use, aliases too."""
        return json_response(
            OllamaModels(
                models=[
                    self._ollama_model(name, model)
                    for model in self._models.allowed(client_of(request.scope))
                    for name in model.names
                ]
            )
        )

    def _ollama_model(self, name: str, model: ServedModel) -> OllamaModel:
        num_parameters = sum(map(math.prod, expected_shapes(model.config).values()))
        return OllamaModel(
            name=name,
            model=name,
            modified_at=self._started,
            size=num_parameters * _BYTES.get(model.precision, 2),
            # Clients cut it to its first characters; to hash the weights would take seconds of the start.
            digest=hashlib.sha256(f"{model.root} {model.config}".encode()).hexdigest(),
            details=OllamaModelDetails(
                family="qwen3",
                families=["qwen3"],
                parameter_size=_shown(num_parameters),
                quantization_level=model.precision,
            ),
        )


def _shown(count: int) -> str:
    """A count as Ollama shows it: 595.8M."""
    size, unit = next(((size, unit) for size, unit in _UNITS if count >= size), (1.0, ""))
    return f"{count / size:.1f}{unit}"
