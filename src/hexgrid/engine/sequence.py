"""The nouns that the engine's parts share. Plain Python: no torch, no I/O, no clock."""

import hashlib
from array import array
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from hexgrid.encoding import Vectors
from hexgrid.errors import HexgridError
from hexgrid.wire import TokenIds

Key = bytes
# Whose a computation is: what is kept of it serves only others of the same salt. It changes no vector.
Salt = bytes
NO_SALT: Salt = b""


def salt_of(*parts: str | None) -> Salt:
    """What is equal for equal parts, and for no others (a digest of 16 bytes); NO_SALT where all are None."""
    if parts.count(None) == len(parts):
        return NO_SALT
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = b"" if part is None else part.encode(errors="surrogatepass")
        digest.update(f"{part is None} {len(data)} ".encode() + data)
    return digest.digest()


def key_of(token_ids: TokenIds, salt: Salt = NO_SALT) -> Key:
    """What is equal for equal token ids and salts, and for no others (a digest of 32 bytes)."""
    return hashlib.blake2b(array("q", token_ids).tobytes(), digest_size=32, key=salt).digest()


class TimedFuture(Future[Vectors]):
    """A Future that knows what its answer took; to be read once it is done.

    Times are seconds on the clock of `submitted_at`. For `forward_seconds` at least one of the inputs ran,
    alone or in company; for `queue_seconds`, the rest of the time until the last was answered, none did.
    """

    def __init__(self, submitted_at: float) -> None:
        super().__init__()
        self.submitted_at = submitted_at
        self.forward_seconds = 0.0
        self.num_cached = 0  # inputs whose vectors were at hand, in memory or on disk
        self._last_end = submitted_at

    @property
    def queue_seconds(self) -> float:
        return max(0.0, self._last_end - self.submitted_at - self.forward_seconds)

    def note_run(self, start: float, end: float) -> None:
        """Some of the inputs ran from `start` to `end`; the order of calls is that of the ends."""
        self.forward_seconds += max(0.0, end - max(start, self._last_end))
        self._last_end = max(end, self._last_end)


class Submission:
    """The inputs of one `Engine.submit`, and the one Future that answers for all of them.

    The Future gives hidden states float32 [num_inputs, hidden_size], or the first error. Cancelling it
    drops what has not run yet and nobody else waits for.
    """

    __slots__ = ("future", "num_open", "priority", "sequences", "vectors")

    def __init__(
        self, num_inputs: int, *, priority: int, hidden_size: int, submitted_at: float
    ) -> None:
        self.future = TimedFuture(submitted_at)
        self.vectors = np.empty((num_inputs, hidden_size), dtype=np.float32)
        self.num_open = num_inputs
        self.priority = priority  # lower runs earlier
        self.sequences: list[Sequence] = []  # those that it waits for; none once it is over

    @property
    def submitted_at(self) -> float:
        return self.future.submitted_at

    def answer(self, index: int, hidden: Vectors) -> None:
        """Take the hidden state [H] of input `index`; the last one resolves the Future."""
        self.vectors[index] = hidden
        self.num_open -= 1
        if self.num_open == 0:
            with suppress(InvalidStateError):  # cancelled at this moment
                self.future.set_result(self.vectors)

    def fail(self, error: HexgridError) -> None:
        """Resolve the whole submission with `error`; its other inputs are no longer wanted."""
        with suppress(InvalidStateError):
            self.future.set_exception(error)


class Place(NamedTuple):
    """Where a Sequence's hidden state goes: one input of `submission`, by its place there."""

    submission: Submission
    position: int


class Sequence:
    """Token ids that are computed once, for every place that waits for them.

    What the scheduler orders and the runner computes. It has the priority of the submission it was made for.
    """

    __slots__ = ("key", "num_tokens", "places", "priority", "salt", "token_ids")

    def __init__(self, token_ids: TokenIds, key: Key, place: Place, salt: Salt = NO_SALT) -> None:
        self.token_ids = token_ids
        self.key = key  # of the ids and the salt
        self.salt = salt
        self.num_tokens = len(token_ids)
        self.priority = place.submission.priority
        self.places: list[Place] = []
        self.wait_at(place)

    def wait_at(self, place: Place) -> None:
        """Answer at `place` as well."""
        self.places.append(place)
        place.submission.sequences.append(self)

    def moved_up(self, place: Place) -> "Sequence":
        """Another for `place`, whose submission is more urgent, and for whoever still waits for this one."""
        sequence = Sequence(self.token_ids, self.key, place, self.salt)
        for each in self.places:
            if not each.submission.future.done():
                sequence.wait_at(each)
        return sequence

    @property
    def done(self) -> bool:
        """Whether nobody waits for this any more: every submission failed or was cancelled."""
        return all(place.submission.future.done() for place in self.places)

    def answer(self, hidden: Vectors) -> None:
        """Hand in this sequence's hidden state [H]."""
        for submission, index in self.places:
            submission.answer(index, hidden)

    def note_run(self, start: float, end: float) -> None:
        """Let everyone who waits know when this ran."""
        for submission, _ in self.places:
            submission.future.note_run(start, end)

    def note_cached(self, at: float) -> None:
        """Let everyone who waits know that nothing had to run, as was found at the time `at`."""
        for submission, _ in self.places:
            submission.future.num_cached += 1
            submission.future.note_run(at, at)

    def fail(self, error_at: Callable[[int], HexgridError]) -> None:
        """Fail every submission with the error for its own index of this input."""
        for submission, index in self.places:
            submission.fail(error_at(index))


Batch = list[Sequence]
