"""The upstreams of one model: who is used, and what is done when one fails.

The rules:
1. A call goes to the upstream with the fewest outstanding tokens among those whose breaker is closed and
   that are not busy.
2. A call that fails by an upstream's fault is made again: computing twice harms nobody. But one that may have
   been what broke an upstream goes to few of them, so that no input breaks them all.
3. Inputs that one upstream refuses are tried with one other. If that takes them, the first is at fault.
4. Who has failed is used again after it has given the vector that all others give.
"""

import asyncio
import logging
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from typing import Protocol

from prometheus_client import Counter

from hexgrid.encoding import Vectors
from hexgrid.engine.remote_engine import InputsRefusedError, RemoteBusyError, RemoteDownError
from hexgrid.upstream.terms import MisfitError, Terms
from hexgrid.upstream.upstream import (
    CallFailedError,
    CallRefusedError,
    Upstream,
    UpstreamBusyError,
)
from hexgrid.wire import TokenIds

# How often an upstream that is used is asked whether it is alive.
_LOOK_SECONDS = 2.0
# After how many failures in a row to answer that.
_MISSED_LOOKS = 2
# Calls that inputs are worth, and failures that they may have caused, a hang counting twice.
_MOST_CALLS, _MOST_FAILURES = 10, 3
_MOST_REFUSALS = 2
_RETRY_SECONDS = 1.0

_logger = logging.getLogger(__name__)


class Owned(Protocol):
    """A process of ours that the upstreams depend on."""

    async def ended(self) -> str:
        """Return when it has ended, and how that was."""
        ...

    def close(self) -> None:
        """End it."""
        ...


@dataclass
class _Work:
    """Inputs to be computed together, and what came of it."""

    token_ids: Items[TokenIds]
    salt: bytes
    seconds: float  # that a call may take
    num_calls: int = 0
    num_failures: int = 0
    refused_by: list[Upstream] = field(default_factory=list)
    refusal: str | None = None

    @property
    def is_worth_a_call(self) -> bool:
        return (
            self.num_calls < _MOST_CALLS
            and self.num_failures < _MOST_FAILURES
            and len(self.refused_by) < _MOST_REFUSALS
        )


class Fleet:
    """See `remote_engine.Remote`."""

    def __init__(
        self,
        upstreams: Items[Upstream],
        terms: Terms,
        *,
        call_seconds: Callable[[int], float],
        retries: Counter,
        owned: Owned | None = None,
    ) -> None:
        """`call_seconds` is the longest that a call of so many tokens may take."""
        self.hidden_size = terms.hidden_size
        self._upstreams = upstreams
        self._terms = terms
        self._call_seconds = call_seconds
        self._retries = retries
        self._owned = owned
        self._news = asyncio.Event()  # replaced by a new one whenever a breaker has changed
        self._on_change: Callable[[], None] = lambda: None

    @property
    def num_workers(self) -> int:
        """See `Remote.num_workers`."""
        return sum(upstream.is_usable for upstream in self._upstreams)

    @property
    def is_down(self) -> bool:
        """See `Remote.is_down`."""
        return all(upstream.breaker.is_down for upstream in self._upstreams)

    async def meet(self, seconds: float, report: Callable[[str], None]) -> None:
        """Return when all that can be asked fit, and that is one at least.

        Raises:
            MisfitError: one is not what the model can be served with.
            CallFailedError: none can be asked within so many seconds, or what they depend on has ended.
        """
        told: dict[int, str] = {}
        over = asyncio.create_task(_end(self._owned, seconds))
        try:
            while not over.done():
                for upstream in self._upstreams:
                    await self._meet(upstream, report, told)
                if self.num_workers:
                    return
                await asyncio.wait([over], timeout=_RETRY_SECONDS)
            raise CallFailedError(". ".join([over.result(), *told.values()]))
        finally:
            over.cancel()

    async def watch(self, on_change: Callable[[], None]) -> str:
        """See `Remote.watch`."""
        self._on_change = on_change
        following = [asyncio.create_task(self._follow(each)) for each in self._upstreams]
        over = asyncio.create_task(_end(self._owned, None))
        try:
            done, _ = await asyncio.wait([over, *following], return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result() or ""  # of those that follow, none ends but by a bug
        finally:
            for task in (over, *following):
                task.cancel()
            await self.stop()

    async def stop(self) -> None:
        """Close every connection."""
        for upstream in self._upstreams:
            await upstream.close()
        await asyncio.sleep(0)  # transports close in the loop's next round

    def close(self) -> None:
        """See `Remote.close`."""
        if self._owned is not None:
            self._owned.close()

    async def compute(self, token_ids: Items[TokenIds], salt: bytes) -> Vectors:
        """See `Remote.compute`."""
        work = _Work(token_ids, salt, self._call_seconds(sum(map(len, token_ids))))
        while work.is_worth_a_call:
            upstream = await self._choose(work.refused_by)
            if upstream is None:
                break
            vectors = await self._try(upstream, work)
            if vectors is not None:
                return vectors
        if work.refusal is not None:
            raise InputsRefusedError(work.refusal)
        self._raise_busy()
        raise RemoteDownError

    async def _try(self, upstream: Upstream, work: "_Work") -> Vectors | None:
        """One call; None if it gave no vectors, which is noted."""
        assert upstream.asking is not None, "its breaker is closed, so it has been met"
        if work.num_calls:
            self._retries.inc()
        work.num_calls += 1
        try:
            vectors = await upstream.vectors(
                upstream.asking, work.token_ids, work.salt, work.seconds
            )
        except CallFailedError as error:
            self._note_failure(upstream, error)
            work.num_failures += error.may_have_run + error.hung
        except UpstreamBusyError as error:
            upstream.busy_until = asyncio.get_running_loop().time() + error.retry_after
        except CallRefusedError as error:
            work.refused_by.append(upstream)
            work.refusal = str(error)
        else:
            upstream.breaker.call_worked()
            for other in work.refused_by:
                self._note_failure(other, CallFailedError(f"It refused alone: {work.refusal}"))
            return vectors
        return None

    async def _choose(self, but: Items[Upstream]) -> Upstream | None:
        """Whom to call; waits for those that are just asked whether they can be used."""
        while True:
            now = asyncio.get_running_loop().time()
            others = [each for each in self._upstreams if each not in but]
            usable = [each for each in others if each.is_usable and each.busy_until <= now]
            if usable:
                return min(usable, key=lambda upstream: upstream.outstanding_tokens)
            if all(each.is_usable or each.breaker.is_down for each in others):
                return None
            await self._news.wait()

    def _raise_busy(self) -> None:
        """Raise RemoteBusyError if somebody could be called but for that."""
        now = asyncio.get_running_loop().time()
        waits = [u.busy_until - now for u in self._upstreams if u.is_usable]
        busy = [wait for wait in waits if wait > 0]
        if busy:
            raise RemoteBusyError(max(1, round(min(busy))))

    def _note_failure(self, upstream: Upstream, error: CallFailedError) -> None:
        _logger.warning("A call of upstream %d failed: %s", upstream.number, error)
        upstream.breaker.call_failed(asyncio.get_running_loop().time())
        self._tell()

    def _tell(self) -> None:
        """Wake everyone who waits for a change."""
        self._news.set()
        self._news = asyncio.Event()
        self._on_change()

    async def _follow(self, upstream: Upstream) -> str:
        """Look after one upstream for ever."""
        told: dict[int, str] = {}
        while True:
            if upstream.breaker.state == "closed":
                await self._look(upstream)
            elif upstream.breaker.state == "open":
                upstream.abort_calls()
                now = asyncio.get_running_loop().time()
                await asyncio.sleep(upstream.breaker.opens_until - now)
                upstream.breaker.wait_is_over()
            else:
                await self._ask_again(upstream, told)
            self._tell()

    async def _ask_again(self, upstream: Upstream, told: dict[int, str]) -> None:
        try:
            await self._meet(upstream, _logger.warning, told)
        except MisfitError as error:
            self._fails_to_fit(upstream, str(error), _logger.error, told)
        else:
            if upstream.is_usable:
                told.clear()
                _logger.warning("Upstream %d is used again", upstream.number)

    async def _look(self, upstream: Upstream) -> None:
        """Return when the breaker is no longer closed; that it is not alive is noted as a failed call."""
        num_missed = 0
        while upstream.is_usable:
            news = self._news
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await news.wait()
            except TimeoutError:
                num_missed = 0 if await upstream.is_alive() else num_missed + 1
                if num_missed == _MISSED_LOOKS:
                    self._note_failure(upstream, CallFailedError("It is not alive"))

    async def _meet(
        self, upstream: Upstream, report: Callable[[str], None], told: dict[int, str]
    ) -> None:
        """Ask an upstream, which may be used then or is waited for; what is wrong is told once.

        Raises:
            MisfitError: it is not the model.
        """
        try:
            await self._terms.meet(upstream)
        except CallFailedError as error:
            self._fails_to_fit(upstream, str(error), report, told)
        else:
            upstream.breaker.question_worked()

    def _fails_to_fit(
        self,
        upstream: Upstream,
        reason: str,
        report: Callable[[str], None],
        told: dict[int, str],
    ) -> None:
        upstream.breaker.question_failed(asyncio.get_running_loop().time())
        text = f"Upstream {upstream.number} ({upstream.address}) is not used: {reason}"
        if told.get(upstream.number) != text:
            report(text)
        told[upstream.number] = text


async def _end(owned: Owned | None, seconds: float | None) -> str:
    """Return when `owned` has ended or the time is over, and which; never, where there is neither."""
    try:
        async with asyncio.timeout(seconds):
            if owned is not None:
                return await owned.ended()
            await asyncio.Event().wait()
    except TimeoutError:
        pass
    return f"No upstream could be used within {seconds:g} seconds"
