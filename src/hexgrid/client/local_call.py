"""One call on a model of this process: the hops of a request without HTTP. Imports torch."""

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, NamedTuple

import msgspec

from hexgrid.client.answers import Embedded
from hexgrid.client.batching import Batch
from hexgrid.client.failures import in_call
from hexgrid.encoding import Vectors
from hexgrid.engine.sequence import salt_of
from hexgrid.engine.served_model import ServedModel, instruction_prompt
from hexgrid.errors import HexgridError, ModelNotFoundError, RequestError, SchemaError
from hexgrid.model import pooling
from hexgrid.tokenizer import Truncation
from hexgrid.wire import EmbeddingRequest, TokenIds

_PROMPT_FIELDS = ("input_type", "prompt_name", "instruction")


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
        model.check_dimensions(request.dimensions)
        self.inputs = inputs
        self._model = model
        self._request = request
        self._prompt = _prompt(request, model)
        self._truncation = _truncation(request, model.max_model_len)
        self._salt = salt_of(None, request.cache_salt)

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return self._request.dimensions or self._model.embedding_dimension

    def start(self, batch: Batch) -> Started:
        """Tokenize a batch and give it to the engine."""
        try:
            encoded = self._model.tokenizer.encode(
                self._with_prompt(batch),
                add_special_tokens=self._request.add_special_tokens is not False,
                truncation=self._truncation,
            )
            self._model.tokenizer.check_ids(encoded.token_ids)
            future = self._model.engine.submit(
                encoded.token_ids, priority=self._request.priority or 0, salt=self._salt
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
            dimensions=self._request.dimensions,
            normalize=self._request.use_activation is not False,
        )
        return Embedded(vectors, started.num_tokens, started.num_truncated)

    def _with_prompt(self, batch: Batch) -> Any:
        inputs = self.inputs[batch.start : batch.stop]
        if self._prompt is None:
            return inputs
        if not isinstance(inputs[0], str):
            raise RequestError(
                "A prompt is text before text; token-ID input must carry its own", param="input"
            )
        return [f"{self._prompt}{text}" for text in inputs]


def _prompt(request: EmbeddingRequest, model: ServedModel) -> str | None:
    asked = {
        name: value for name in _PROMPT_FIELDS if (value := getattr(request, name)) is not None
    }
    if len(asked) > 1:
        raise RequestError(
            f"Only one of {', '.join(asked)} can be given; each puts a prompt before the input",
            param=next(iter(asked)),
        )
    for param, value in asked.items():
        if param == "instruction":
            return instruction_prompt(value)
        return model.prompt(value, param=param)
    return None


def _truncation(request: EmbeddingRequest, most: int) -> Truncation | None:
    count = request.truncate_prompt_tokens
    if count is None:
        return None
    if count != -1 and not 1 <= count <= most:
        raise RequestError(
            f"truncate_prompt_tokens must be -1 (the model's maximum) or from 1 to {most}, got {count}",
            param="truncate_prompt_tokens",
        )
    return Truncation(most if count == -1 else count, request.truncation_side or "right")
