"""Whether an upstream is used. Plain numbers: no I/O, and the caller has the clock.

The rules:
1. A closed breaker lets calls through. A call that fails by the upstream's fault makes it half-open: nothing
   goes through, and the upstream is asked at once whether it still gives the right vectors.
2. If it does, the breaker closes. If it does not, or if this is one of several failures with no good call in
   between, the breaker is open for a while, which doubles each time, and then half-open again.
3. A good call, and nothing else, forgets the failures before it: who answers questions but fails at work is
   used less and less.
"""

from typing import Literal

State = Literal["closed", "half-open", "open"]
STATES: tuple[State, ...] = ("closed", "half-open", "open")

_FAILURES_IN_A_ROW = 3
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0


class Breaker:
    """Of one upstream, which begins half-open; times are seconds on any monotonic clock."""

    def __init__(self) -> None:
        self.state: State = "half-open"
        self.opens_until = 0.0
        # From its opening until it closes again, also while it is half-open in between.
        self.is_down = False
        self._num_failures = 0

    def call_worked(self) -> None:
        """A call was answered well."""
        self._num_failures = 0

    def call_failed(self, now: float) -> None:
        """A call failed by the upstream's fault."""
        if self.state != "closed":  # one of several that ran at the same time
            return
        self._num_failures += 1
        if self._num_failures < _FAILURES_IN_A_ROW:
            self.state = "half-open"
        else:
            self._open(now)

    def question_worked(self) -> None:
        """What it was asked while half-open, it answered well."""
        self.state, self.is_down = "closed", False

    def question_failed(self, now: float) -> None:
        """It did not."""
        self._num_failures += 1
        self._open(now)

    def wait_is_over(self) -> None:
        """It is to be asked again."""
        self.state = "half-open"

    def _open(self, now: float) -> None:
        self.state, self.is_down = "open", True
        wait = _FIRST_WAIT * 2 ** min(self._num_failures - 1, 10)
        self.opens_until = now + min(wait, _LONGEST_WAIT)
