"""One call for the vectors of many inputs: which requests it takes, where their vectors go. No I/O.

Several workers, tasks or threads, hold a conversation each until no inputs are left.
"""

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from hexgrid.client.answers import Embedded, read_embeddings
from hexgrid.client.batching import Batch, Batches, Limits
from hexgrid.client.exchange import Conversation, Request, exchange
from hexgrid.client.failures import in_call
from hexgrid.client.progress import OnProgress
from hexgrid.encoding import Vectors
from hexgrid.errors import BodyTooLargeError, HexgridError, RemoteError, RequestError
from hexgrid.wire import TokenIds


class EmbedJob:
    """See `worker`; `result` is for when all workers have come to their end."""

    def __init__(
        self,
        inputs: list[str] | list[TokenIds],
        fields: Mapping[str, Any],
        limits: Limits,
        *,
        url: str,
        max_retries: int,
        on_progress: OnProgress,
    ) -> None:
        self._inputs = inputs
        self._fields = {**fields, "encoding_format": "base64"}
        self._limits = limits
        self._batches = Batches(inputs, limits)
        self._url = url
        self._max_retries = max_retries
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._vectors: Vectors | None = None
        self._num_done = self._num_tokens = self._num_truncated = 0
        self._model = ""

    def worker(self) -> Conversation[None]:
        """Embeds batches until none is left.

        Raises:
            HexgridError: the first failure that lasts; `index` is that of the call's inputs.
        """
        while (batch := self._batches.take()) is not None:
            try:
                yield from self._embed(batch)
            except HexgridError as error:
                raise in_call(
                    error, batch.start, batch.stop, len(self._inputs)
                ) from error.__cause__

    def result(self) -> Embedded:
        """What all workers have brought."""
        assert self._num_done == len(self._inputs), "a worker has ended before its work"
        vectors = self._vectors
        if vectors is None:
            vectors = np.empty((0, self._fields.get("dimensions", 0)), np.float32)
        return Embedded(vectors, self._num_tokens, self._num_truncated, self._model)

    def _embed(self, batch: Batch) -> Conversation[None]:
        inputs = self._inputs[batch.start : batch.stop]
        request = Request("/embeddings", _body(inputs, self._fields))
        try:
            reply = yield from exchange(request, url=self._url, max_retries=self._max_retries)
        except BodyTooLargeError:
            if len(inputs) == 1:
                raise
            self._limits.lower(max_inputs=(len(inputs) + 1) // 2)
            self._batches.put_back(batch)
            return
        found = read_embeddings(reply.content, reply.headers, len(inputs), self._url)
        if isinstance(inputs[0], str):
            self._limits.learn(inputs, found.num_tokens)
        self._keep(batch, found)

    def _keep(self, batch: Batch, found: Embedded) -> None:
        with self._lock:
            if len(found.vectors) == len(self._inputs):
                self._vectors = found.vectors
            elif self._vectors is None:
                width = found.vectors.shape[1]
                self._vectors = np.empty((len(self._inputs), width), np.float32)
            elif self._vectors.shape[1] != found.vectors.shape[1]:
                raise RemoteError(
                    f"{self._url} answered vectors of {found.vectors.shape[1]} dimensions, and before of "
                    f"{self._vectors.shape[1]}"
                )
            self._vectors[batch.start : batch.stop] = found.vectors
            self._num_done += len(found.vectors)
            self._num_tokens += found.num_tokens
            self._num_truncated += found.num_truncated
            self._model = found.model
            self._on_progress(self._num_done, len(self._inputs))


def _body(inputs: list[str] | list[TokenIds], fields: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps({"input": inputs, **fields})
    except orjson.JSONEncodeError as error:
        for index, each in enumerate(inputs):
            if isinstance(each, str) and not _is_unicode(each):
                raise RequestError(
                    f"Input {index} holds half of a surrogate pair, which is no text",
                    param="input",
                    index=index,
                ) from None
        raise RequestError(f"An input or option cannot be sent: {error}") from None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
