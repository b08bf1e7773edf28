"""A Runner for the engine's tests: recognisable rows, failures on demand, and a gate to hold it at."""

import math
import threading
from collections.abc import Callable, Generator, Iterator, Sequence

import numpy as np

from hexgrid.encoding import Vectors
from hexgrid.engine.sequence import Salt
from hexgrid.wire import TokenIds

# Seconds after which a wait has failed; no test comes near it.
DEADLINE = 30.0

# Ids with a meaning: a batch that holds one of the first two fails, the others spoil their own row.
FAILS_IN_RUN, FAILS_IN_COLLECT = 90_001, 90_002
NAN_ONCE, INFINITE_ONCE, NAN_ALWAYS, FAILS_IN_FLOAT32 = 90_003, 90_004, 90_005, 90_006
_BAD = {NAN_ONCE: np.nan, INFINITE_ONCE: np.inf, NAN_ALWAYS: np.nan, FAILS_IN_FLOAT32: np.nan}


def row_of(token_ids: TokenIds) -> list[float]:
    """The hidden state that FakeRunner gives an input."""
    return [len(token_ids), token_ids[0], token_ids[-1], sum(token_ids) % 2**20]


class FakeRunner:
    """See `protocols.Runner`. Batches are numbered from 0; from `num_allowed` on they do not finish."""

    hidden_size = 4

    def __init__(self, *, runs_async: bool = False) -> None:
        self.runs_async = runs_async
        self.batches: list[list[TokenIds]] = []  # in the order of `run`
        self.salts: list[list[Salt]] = []  # of their inputs
        self.collected: list[int] = []  # numbers of batches, in the order of their results
        self.in_float32: list[TokenIds] = []
        self.most_in_flight = 0
        self.num_allowed = math.inf
        self.faults: Iterator[Exception] = iter(())  # of the next passes
        self.gives_nan = False  # in every row, while it is set
        self.memory = math.inf  # tokens of the largest batch that there is room for
        self.num_steps = 1  # of a long input
        self.on_step: Callable[[int], None] = lambda _: None
        self._news = threading.Condition()
        self._handed_out: Vectors | None = None

    def run(
        self, token_ids: Sequence[TokenIds], salts: Sequence[Salt] = ()
    ) -> Callable[[], Vectors]:
        number = len(self.batches)
        with self._news:
            self.batches.append(list(token_ids))
            self.salts.append(list(salts))
            self._news.notify_all()
        self.most_in_flight = max(self.most_in_flight, len(self.batches) - len(self.collected))
        if not self.runs_async:
            self._wait_at_gate(number)
        fault = next(self.faults, None)
        if fault is not None:
            self.collected.append(number)
            raise fault
        if sum(map(len, token_ids)) > self.memory:
            self.collected.append(number)
            raise MemoryError(f"no room for {token_ids}")
        if _holds(token_ids, FAILS_IN_RUN):
            self.collected.append(number)
            raise ValueError(f"cannot run {token_ids}")
        return lambda: self._collect(number)

    def steps(self, token_ids: TokenIds) -> Generator[None, None, Vectors]:
        """Counts as a batch; `on_step` is called in each of its `num_steps` steps."""
        collect = self.run([token_ids])
        for number in range(self.num_steps):
            self.on_step(number)
            yield
        return collect()

    def run_float32(self, token_ids: Sequence[TokenIds]) -> Vectors:
        self.in_float32 += token_ids
        if _holds(token_ids, FAILS_IN_FLOAT32):
            raise ValueError(f"cannot run {token_ids}")
        hidden = np.array([row_of(ids) for ids in token_ids], np.float32)
        hidden[[self.gives_nan or NAN_ALWAYS in ids for ids in token_ids]] = np.nan
        return hidden

    def allow(self, num_batches: float) -> None:
        """Let the first `num_batches` finish, and no other."""
        with self._news:
            self.num_allowed = num_batches
            self._news.notify_all()

    def wait_for_batches(self, count: int) -> None:
        """Return when `count` batches have been started."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.batches) >= count, DEADLINE)

    def _collect(self, number: int) -> Vectors:
        if self.runs_async:
            self._wait_at_gate(number)
        self.collected.append(number)
        batch = self.batches[number]
        if _holds(batch, FAILS_IN_COLLECT):
            raise ValueError(f"cannot finish {batch}")
        if self._handed_out is not None:  # a runner may use its memory again
            self._handed_out.fill(-1)
        hidden = np.array([row_of(ids) for ids in batch], np.float32)
        for row, ids in enumerate(batch):
            for token_id in set(ids) & _BAD.keys():
                hidden[row, 2] = _BAD[token_id]
        if self.gives_nan:
            hidden.fill(np.nan)
        self._handed_out = hidden
        return hidden

    def _wait_at_gate(self, number: int) -> None:
        with self._news:
            assert self._news.wait_for(lambda: number < self.num_allowed, DEADLINE)


def _holds(batch: Sequence[TokenIds], token_id: int) -> bool:
    return any(token_id in ids for ids in batch)
