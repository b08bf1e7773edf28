"""How many inputs go into one request: by tokens, guessed from characters until the server counts them.

What is learnt is kept between calls. No I/O; any thread may call.
"""

import math
import threading
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hexgrid.wire import TokenIds

# Before the server has counted any: of English, somewhat fewer than there are.
_CHARS_PER_TOKEN = 3.0
# What was learnt counts so much less with each answer; texts of another kind are soon known.
_FADING = 0.5
# Each text's EOS.
_TOKENS_AROUND = 1
# Of the tokens that the server says it takes, so many are asked for: guesses may be too low.
_SAFE_SHARE = 0.75


class Batch(NamedTuple):
    """Inputs from `start` to before `stop` of a call."""

    start: int
    stop: int


class Limits:
    """What one request may hold, and how many tokens characters are."""

    def __init__(self, *, max_tokens: int, max_inputs: int) -> None:
        self.max_tokens = max_tokens
        self.max_inputs = max_inputs
        self._chars, self._tokens = _CHARS_PER_TOKEN, 1.0
        self._lock = threading.Lock()

    @property
    def tokens_per_char(self) -> float:
        return self._tokens / self._chars

    def learn(self, num_texts: int, num_chars: int, num_tokens: int) -> None:
        """The server has counted so many tokens in these."""
        num_tokens -= _TOKENS_AROUND * num_texts
        if num_chars > 0 and num_tokens > 0:
            with self._lock:
                self._chars = self._chars * _FADING + num_chars
                self._tokens = self._tokens * _FADING + num_tokens

    def lower(self, *, max_tokens: int | None, max_inputs: int | None) -> None:
        """The server takes no more than that (None: it does not say)."""
        with self._lock:
            if max_tokens is not None:
                self.max_tokens = max(1, min(self.max_tokens, int(max_tokens * _SAFE_SHARE)))
            if max_inputs is not None:
                self.max_inputs = max(1, min(self.max_inputs, max_inputs))


class Batches:
    """The inputs of one call, cut into requests as they are taken."""

    def __init__(self, inputs: Sequence[str] | Sequence[TokenIds], limits: Limits) -> None:
        self._limits = limits
        self._are_texts = bool(inputs) and isinstance(inputs[0], str)
        # [N + 1]: characters, or ids, before each input.
        self._before = np.zeros(len(inputs) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, inputs), np.int64, len(inputs)), out=self._before[1:])
        self._todo = deque([Batch(0, len(inputs))] if inputs else ())
        self._lock = threading.Lock()

    @property
    def are_left(self) -> bool:
        """Whether there is one to take."""
        return bool(self._todo)

    def count(self) -> int:
        """About how many there will be."""
        num_inputs = len(self._before) - 1
        tokens = self._tokens(Batch(0, num_inputs))[-1] if num_inputs else 0
        most = self._limits
        return max(math.ceil(tokens / most.max_tokens), math.ceil(num_inputs / most.max_inputs), 1)

    def take(self) -> Batch | None:
        """The next one; None when there is none, unless inputs are put back later."""
        with self._lock:
            if not self._todo:
                return None
            start, end = self._todo.popleft()
            stop = min(end, start + self._limits.max_inputs)
            tokens = self._tokens(Batch(start, stop))
            fitting = int(np.searchsorted(tokens, self._limits.max_tokens, side="right"))
            stop = start + max(1, fitting)
            if stop < end:
                self._todo.appendleft(Batch(stop, end))
            return Batch(start, stop)

    def put_back(self, batch: Batch) -> None:
        """It was too much: its inputs come again, as the limits are now and in halves at the most."""
        middle = (batch.start + batch.stop) // 2
        with self._lock:
            self._todo.extendleft([Batch(middle, batch.stop), Batch(batch.start, middle)])

    def counted(self, batch: Batch, num_tokens: int) -> None:
        """The server has found so many tokens in a batch."""
        if self._are_texts:
            num_chars = int(self._before[batch.stop] - self._before[batch.start])
            self._limits.learn(batch.stop - batch.start, num_chars, num_tokens)

    def _tokens(self, batch: Batch) -> NDArray[np.float64]:
        """About how many tokens the first input has, the first two, and so on: [len(batch)]."""
        start, stop = batch
        sizes: NDArray[np.float64] = np.subtract(
            self._before[start + 1 : stop + 1], self._before[start], dtype=np.float64
        )
        if self._are_texts:
            sizes *= self._limits.tokens_per_char
            sizes += _TOKENS_AROUND * np.arange(1, stop - start + 1)
        return sizes
