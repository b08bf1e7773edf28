"""One call on a model of this process: the hops of a request without HTTP. Imports torch."""

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from hexgrid.client.answers import Embedded
from hexgrid.client.batching import Batch
from hexgrid.client.failures import in_call
from hexgrid.encoding import Vectors
from hexgrid.engine.sequence import salt_of
from hexgrid.engine.served_model import ServedModel
from hexgrid.errors import HexgridError, ModelNotFoundError, SchemaError
from hexgrid.model import pooling
from hexgrid.server.call_encoding import check_encoded, encode
from hexgrid.server.embedding_call import RequestIds
from hexgrid.server.forms.openai import parse_embeddings
from hexgrid.text_reader import always_wanted
from hexgrid.tokenizer import Encoded
from hexgrid.wire import EmbeddingRequest, TokenIds


class Started(NamedTuple):
    """A batch that the engine has."""

    batch: Batch
    future: Future[Vectors]
    num_tokens: int
    num_truncated: int


class LocalCall:
    """What is asked of the model, checked as a server would.

    Raises:
        RequestError: the model cannot do it.
    """

    def __init__(
        self,
        model: ServedModel,
        inputs: list[str] | list[TokenIds],
        fields: Mapping[str, Any],
    ) -> None:
        try:
            request = msgspec.convert(fields, EmbeddingRequest)
        except msgspec.ValidationError as error:
            problem, _, path = str(error).partition(" - at `$.")
            name = path.rstrip("`")
            raise SchemaError(f"{name}: {problem}", param=name) from None
        if request.model and request.model not in model.names:
            raise ModelNotFoundError(
                f"The model `{request.model}` is not the one here, {model.name}"
            )
        self.inputs = inputs
        self._model = model
        # As of a request with an empty text, which stands for each input.
        placed = replace(request, input="")
        self._call = parse_embeddings(placed, RequestIds(None, "local"))
        check_encoded(self._call, model, Encoded([], 0))

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return self._call.dimensions or self._model.embedding_dimension

    def start(self, batch: Batch) -> Started:
        """Tokenize a batch and give it to the engine."""
        (part,) = self._call.parts
        part = replace(part, inputs=self.inputs[batch.start : batch.stop])
        call = replace(self._call, parts=(part,))
        try:
            encoded = encode(call, self._model, len(self.inputs), always_wanted)
            check_encoded(call, self._model, encoded)
            future = self._model.engine.submit(
                encoded.token_ids,
                priority=call.priority,
                salt=salt_of(None, call.cache_salt),
            )
        except HexgridError as error:
            raise in_call(error, *batch, len(self.inputs)) from None
        return Started(batch, future, encoded.num_tokens, encoded.num_truncated)

    def end(self, started: Started) -> Embedded:
        """Wait for a batch's vectors."""
        try:
            hidden = started.future.result()
        except HexgridError as error:
            raise in_call(error, *started.batch, len(self.inputs)) from error.__cause__
        vectors = pooling.finish(
            hidden,
            dimensions=self._call.dimensions,
            normalize=self._call.normalize,
        )
        return Embedded(vectors, started.num_tokens, started.num_truncated)
