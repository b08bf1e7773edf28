"""The nouns that the engine's parts share. Plain Python: no torch, no I/O, no clock."""

from collections.abc import Sequence as Items
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress

import numpy as np

from hexgrid.encoding import Vectors
from hexgrid.errors import HexgridError
from hexgrid.wire import TokenIds


class Submission:
    """The inputs of one `Engine.submit`, and the one Future that answers for all of them.

    The Future gives hidden states float32 [len(token_ids), hidden_size], or the first error. Cancelling it
    drops what has not run yet.
    """

    __slots__ = ("future", "num_open", "sequences", "submitted_at", "vectors")

    def __init__(
        self, token_ids: Items[TokenIds], *, priority: int, hidden_size: int, submitted_at: float
    ) -> None:
        self.future: Future[Vectors] = Future()
        self.vectors = np.empty((len(token_ids), hidden_size), dtype=np.float32)
        self.num_open = len(token_ids)
        self.submitted_at = submitted_at
        self.sequences = [
            Sequence(ids, priority, self, index) for index, ids in enumerate(token_ids)
        ]


class Sequence:
    """One input's token ids: what the scheduler orders and the runner computes."""

    __slots__ = ("index", "num_tokens", "priority", "submission", "token_ids")

    def __init__(
        self, token_ids: TokenIds, priority: int, submission: Submission, index: int
    ) -> None:
        self.token_ids = token_ids
        self.num_tokens = len(token_ids)
        self.priority = priority  # lower runs earlier
        self.submission = submission
        self.index = index

    @property
    def done(self) -> bool:
        """Whether nobody waits for this any more: the submission failed or was cancelled."""
        return self.submission.future.done()

    def answer(self, hidden: Vectors) -> None:
        """Hand in this sequence's hidden state [H]; the last one of a submission resolves it."""
        submission = self.submission
        submission.vectors[self.index] = hidden
        submission.num_open -= 1
        if submission.num_open == 0:
            with suppress(InvalidStateError):  # cancelled at this moment
                submission.future.set_result(submission.vectors)

    def fail(self, error: HexgridError) -> None:
        """Resolve the whole submission with `error`; its other sequences are no longer wanted."""
        with suppress(InvalidStateError):
            self.submission.future.set_exception(error)


Batch = list[Sequence]
