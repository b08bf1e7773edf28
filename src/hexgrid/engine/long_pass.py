"""An input longer than a batch may be, on its way through the model in steps, between which batches run.

Alone on the processor it would keep every short input waiting for as long as it takes, which for tens of
thousands of tokens is minutes.
"""

from collections.abc import Generator
from time import perf_counter

from hexgrid.encoding import Vectors
from hexgrid.engine.sequence import Sequence

# Of the time that a batch took, what the long input gets before the next one: short inputs then wait half as
# long again, and it is not starved.
SHARE = 0.5


class LongPass:
    """The steps of one sequence; `seconds` is the time they took."""

    def __init__(self, sequence: Sequence, steps: Generator[None, None, Vectors]) -> None:
        self.sequence = sequence
        self.seconds = 0.0
        self._steps = steps

    def advance(self, seconds: float) -> Vectors | None:
        """Run one step, and more until `seconds` are over; the hidden states [1, H] in the end.

        None before that, or when nobody waits for them any more.

        Raises what a step raises.
        """
        started = perf_counter()
        now = started
        try:
            while True:
                next(self._steps)
                now = perf_counter()
                if now - started >= seconds or self.sequence.done:
                    return None
        except StopIteration as end:
            now = perf_counter()
            hidden: Vectors = end.value
            return hidden
        finally:
            self.seconds += now - started
