"""How many inputs go into one request: by tokens, guessed from characters until the server counts them.

What is learnt is kept between calls. No I/O; any thread may call.
"""

import math
import threading
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from hexgrid.wire import TokenIds

# Before the server has counted any: of English, somewhat fewer than there are.
_CHARS_PER_TOKEN = 3.0
# What was learnt counts so much less with each answer; texts of another kind are soon known.
_FADING = 0.5
# The EOS.
_TOKENS_AROUND = 1


class Limits:
    """What one request may hold."""

    def __init__(self, *, max_tokens: int, max_inputs: int) -> None:
        self.max_tokens = max_tokens
        self.max_inputs = max_inputs
        self._chars, self._tokens = _CHARS_PER_TOKEN, 1.0
        self._lock = threading.Lock()

    def tokens_of(self, each: str | TokenIds) -> float:
        """About how many tokens an input has."""
        if isinstance(each, str):
            return len(each) * self._tokens / self._chars + _TOKENS_AROUND
        return len(each)

    def num_requests(self, inputs: Sequence[str] | Sequence[TokenIds]) -> int:
        """About how many requests the inputs are."""
        tokens = sum(map(self.tokens_of, inputs))
        return max(1, math.ceil(tokens / self.max_tokens), math.ceil(len(inputs) / self.max_inputs))

    def learn(self, texts: Sequence[str], num_tokens: int) -> None:
        """The server has counted these."""
        chars, tokens = sum(map(len, texts)), num_tokens - _TOKENS_AROUND * len(texts)
        if chars > 0 and tokens > 0:
            with self._lock:
                self._chars = self._chars * _FADING + chars
                self._tokens = self._tokens * _FADING + tokens

    def lower(self, *, max_tokens: int | None = None, max_inputs: int | None = None) -> None:
        """The server takes no more than that."""
        with self._lock:
            self.max_tokens = max(1, min(self.max_tokens, max_tokens or self.max_tokens))
            self.max_inputs = max(1, min(self.max_inputs, max_inputs or self.max_inputs))


class Batch(NamedTuple):
    """Inputs from `start` to before `stop` of a call."""

    start: int
    stop: int


class Batches:
    """The inputs of one call, cut into requests as they are taken."""

    def __init__(self, inputs: Sequence[str] | Sequence[TokenIds], limits: Limits) -> None:
        self._inputs = inputs
        self._limits = limits
        self._todo = deque([Batch(0, len(inputs))])
        self._lock = threading.Lock()

    def take(self) -> Batch | None:
        """The next ones; None when there are none, unless some are put back later."""
        with self._lock:
            if not self._todo or self._todo[0].start == self._todo[0].stop:
                return None
            start, end = self._todo.popleft()
            stop = self._stop(start, end)
            if stop < end:
                self._todo.appendleft(Batch(stop, end))
            return Batch(start, stop)

    def put_back(self, batch: Batch) -> None:
        """They were too many: they come again, as the limits are now, and in halves at the most."""
        middle = (batch.start + batch.stop + 1) // 2
        with self._lock:
            self._todo.extendleft([Batch(middle, batch.stop), Batch(batch.start, middle)])

    def _stop(self, start: int, end: int) -> int:
        left = float(self._limits.max_tokens)
        end = min(end, start + self._limits.max_inputs)
        for index in range(start, end):
            left -= self._limits.tokens_of(self._inputs[index])
            if left < 0 and index > start:
                return index
        return end
