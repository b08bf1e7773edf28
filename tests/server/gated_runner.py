"""A Runner whose forward passes wait at a gate, so that a test decides what is running and what waits."""

import threading
from collections.abc import Callable, Generator, Sequence

import numpy as np

from hexgrid.encoding import Vectors
from hexgrid.engine.sequence import Salt
from hexgrid.wire import TokenIds
from tests.server.running import DEADLINE


class GatedRunner:
    """See `protocols.Runner`. An input's hidden state is its first id, repeated."""

    hidden_size = 64
    runs_async = False

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.started: list[TokenIds] = []  # every input whose forward pass has begun
        self._news = threading.Condition()

    def run(self, token_ids: Sequence[TokenIds], _: Sequence[Salt] = ()) -> Callable[[], Vectors]:
        with self._news:
            self.started += token_ids
            self._news.notify_all()
        assert self.gate.wait(DEADLINE)
        hidden = np.array([[float(ids[0])] * self.hidden_size for ids in token_ids], np.float32)
        return lambda: hidden

    def steps(self, token_ids: TokenIds) -> Generator[None, None, Vectors]:
        yield
        return self.run([token_ids])()

    def run_float32(self, token_ids: Sequence[TokenIds]) -> Vectors:
        return self.run(token_ids)()

    def wait_until_started(self, count: int) -> None:
        """Return when the forward passes of `count` inputs have begun."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.started) >= count, DEADLINE)
