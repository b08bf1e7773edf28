"""The vectors of a call, put together from its batches in whatever order they come."""

import threading

import numpy as np

from hexgrid.client.answers import Embedded
from hexgrid.client.batching import Batch
from hexgrid.client.progress import OnProgress
from hexgrid.encoding import Vectors
from hexgrid.errors import RemoteError


class Collected:
    """What has come of `num_inputs` inputs; any thread may add."""

    def __init__(self, num_inputs: int, on_progress: OnProgress) -> None:
        self._num_inputs = num_inputs
        self._on_progress = on_progress
        self._vectors: Vectors | None = None
        self._num_done = self._num_tokens = self._num_truncated = 0
        self._lock = threading.Lock()

    def add(self, batch: Batch, found: Embedded) -> None:
        """These inputs are done.

        Raises:
            RemoteError: their vectors are not as wide as the others.
        """
        with self._lock:
            if len(found.vectors) == self._num_inputs:
                self._vectors = found.vectors
            else:
                self._room(found.vectors.shape[1])[batch.start : batch.stop] = found.vectors
            self._num_done += len(found.vectors)
            self._num_tokens += found.num_tokens
            self._num_truncated += found.num_truncated
            self._on_progress(self._num_done, self._num_inputs)

    def result(self, width: int) -> Embedded:
        """All of them; `width` is that of no vectors at all."""
        assert self._num_done == self._num_inputs, "somebody has ended before the work"
        vectors = np.empty((0, width), np.float32) if self._vectors is None else self._vectors
        return Embedded(vectors, self._num_tokens, self._num_truncated)

    def _room(self, width: int) -> Vectors:
        if self._vectors is None:
            self._vectors = np.empty((self._num_inputs, width), np.float32)
        if self._vectors.shape[1] != width:
            raise RemoteError(
                f"The server answered vectors of {width} dimensions, and others of {self._vectors.shape[1]}"
            )
        return self._vectors
