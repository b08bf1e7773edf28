"""The two seams of hexgrid, and only two: what computes vectors, and what runs one batch."""

from collections.abc import Callable, Generator
from collections.abc import Sequence as Items
from concurrent.futures import Future
from typing import Protocol

from hexgrid.encoding import Vectors
from hexgrid.engine.sequence import NO_SALT, Salt
from hexgrid.wire import TokenIds


class DeviceLostError(Exception):
    """What a Runner raises when it may be that no later pass succeeds in this process."""


class Engine(Protocol):
    """Turns token ids into hidden states. All ids were made by our tokenizer or checked by it."""

    hidden_size: int
    # Resolved, from any thread, when the engine will answer nothing any more until there is a new process:
    # with the reason, after whoever waited has been answered.
    death: Future[str]

    def submit(
        self, token_ids: Items[TokenIds], *, priority: int = 0, salt: Salt = NO_SALT
    ) -> Future[Vectors]:
        """Queue non-empty id lists, none longer than the model takes; lower `priority` runs earlier.

        Nothing that is computed or kept is shared between different salts.

        The Future gives hidden states float32 [len(token_ids), hidden_size] in the same order, or a
        HexgridError. Cancelling it drops what has not run yet. Any thread may call.

        Raises:
            OverloadedError: too many tokens wait already.
            EngineClosedError: the engine has stopped.
            EngineUnwellError: no forward pass works at the moment, or ever again.
        """
        ...

    def retry_after(self) -> int:
        """Seconds, at least one, in which what waits now will be computed at the rate measured so far."""
        ...

    def check_health(self) -> None:
        """Return when requests can be answered, else raise what `submit` would; never waits."""
        ...

    def close(self) -> None:
        """Finish what runs, answer what waits with EngineClosedError, and stop."""
        ...


class Runner(Protocol):
    """Runs one batch at a time on one device. Called from the engine's thread alone."""

    hidden_size: int
    # Whether `run` returns before the device is done, so that the next batch can be prepared meanwhile.
    runs_async: bool

    def run(self, token_ids: Items[TokenIds], salts: Items[Salt] = ()) -> Callable[[], Vectors]:
        """Start a forward pass; calling the result waits for hidden states float32 [B, hidden_size].

        What is kept for later passes serves only inputs of the same salt; `salts` is empty, or one an input.
        Either call may raise anything; the runner must be able to run the next batch all the same, but
        after DeviceLostError. Too little memory is a MemoryError.
        """
        ...

    def steps(self, token_ids: TokenIds) -> Generator[None, None, Vectors]:
        """One input in steps of at most a batch's work, which end with its hidden state [1, hidden_size].

        Between two steps `run` may be called. Not for devices that run asynchronously.
        """
        ...

    def run_float32(self, token_ids: Items[TokenIds]) -> Vectors:
        """The same in float32 throughout, slower and at once."""
        ...
