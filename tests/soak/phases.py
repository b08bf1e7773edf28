"""What a server is put through: mixed load, then an overload, then the time to recover."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import psutil

from hexgrid.server.key_store import KeyStore, Limits
from tests.cli.hexgrid_process import Serving, serve
from tests.soak.calls import HEAVY_REQUEST_TOKENS, Calls
from tests.soak.pool import LONG_TOKENS, PRECISION, Pool

_CALLERS = 12
_HEAVY_CALLERS = 3
# Small enough that most inputs are computed.
_RESULT_CACHE_BYTES = 300_000
_PREFIX_CACHE_BYTES = 16 * 2**20  # full before memory is looked at
# A second's worth or two, and no less than all callers of the mixed load can have waiting, so that none of
# them is refused.
_QUEUED_TOKENS = max(4 * HEAVY_REQUEST_TOKENS, _CALLERS * (LONG_TOKENS + 1))
_LIMITED_RPM = 30
_SAMPLE_SECONDS = 0.1
OVERLOAD = 20  # times what the server can do


@dataclass(frozen=True)
class Plan:
    """Seconds of each phase."""

    steady: float
    capacity: float
    overload: float
    recovery: float

    @classmethod
    def of(cls, seconds: float) -> "Plan":
        """All of it in about so many seconds."""
        return cls(0.7 * seconds, 0.08 * seconds, 0.12 * seconds, 0.1 * seconds)


@dataclass
class Observed:
    """What a soak saw, in seconds since its process began to count and in bytes."""

    calls: Calls
    memory: list[tuple[float, int]] = field(default_factory=list)
    began: dict[str, float] = field(default_factory=dict)  # phases
    ended: dict[str, float] = field(default_factory=dict)
    capacity: float = 0.0  # heavy tokens a second
    overload: float = 0.0  # the same, as they were asked for
    recovered: list[tuple[float, int]] = field(default_factory=list)  # (time, heavy tokens so far)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self.began[name] = perf_counter()
        yield
        self.ended[name] = perf_counter()

    def seconds(self, name: str) -> float:
        """How long a phase was."""
        return self.ended[name] - self.began[name]


class Soaked:
    """A real server with keys and usage in `directory`, under these calls."""

    def __init__(self, server: Serving, pool: Pool, keys: tuple[str, str]) -> None:
        self._process = psutil.Process(server.process.pid)
        self.seen = Observed(Calls(server.url, pool, key=keys[0], limited_key=keys[1]))

    async def run(self, plan: Plan) -> Observed:
        """All phases, one after the other."""
        seen, calls = self.seen, self.seen.calls
        async with self._sampling():
            with seen.phase("steady"):
                await _closed_loop(calls.any, plan.steady, _CALLERS)
            with seen.phase("capacity"):
                await _closed_loop(calls.heavy, plan.capacity, _HEAVY_CALLERS)
            seen.capacity = calls.num_heavy_tokens / seen.seconds("capacity")
            with seen.phase("overload"):
                await self._overload(plan.overload)
            with seen.phase("recovery"):
                await _closed_loop(self._noted_heavy, plan.recovery, _HEAVY_CALLERS)
        await calls.close()
        return seen

    async def _overload(self, seconds: float) -> None:
        """Ask in an even stream, whatever the answers; then wait for those that were accepted."""
        pause = HEAVY_REQUEST_TOKENS / (OVERLOAD * max(1.0, self.seen.capacity))
        start = perf_counter()
        asked: list[asyncio.Task[None]] = []
        while (now := perf_counter()) < start + seconds:
            asked.append(asyncio.create_task(self.seen.calls.heavy()))
            await asyncio.sleep(max(0.0, start + len(asked) * pause - now))
        self.seen.overload = len(asked) * HEAVY_REQUEST_TOKENS / (perf_counter() - start)
        await asyncio.gather(*asked)

    async def _noted_heavy(self) -> None:
        await self.seen.calls.heavy()
        self.seen.recovered.append((perf_counter(), self.seen.calls.num_heavy_tokens))

    @asynccontextmanager
    async def _sampling(self) -> AsyncIterator[None]:
        async def sample() -> None:
            while True:
                self.seen.memory.append((perf_counter(), self._process.memory_info().rss))
                await asyncio.sleep(_SAMPLE_SECONDS)

        task = asyncio.create_task(sample())
        try:
            yield
        finally:
            task.cancel()


def soak(plan: Plan, pool: Pool, directory: Path) -> Observed:
    """Put `hexgrid serve` through `plan`; it has counted in `directory` / "usage" and stopped by then."""
    store = KeyStore(directory / "keys.sqlite3")
    keys = store.create("soak", Limits()), store.create("limited", Limits(rpm=_LIMITED_RPM))
    with serve(
        *("--dtype", PRECISION, "--key-store", str(store.file)),
        *("--usage-dir", str(directory / "usage"), "--log-level", "warning"),
        *("--result-cache-bytes", str(_RESULT_CACHE_BYTES)),
        *("--prefix-cache-bytes", str(_PREFIX_CACHE_BYTES)),
        *("--max-num-queued-tokens", str(_QUEUED_TOKENS)),
    ) as server:
        with server.client() as client:
            assert client.get("/ready").status_code == 200
        seen = asyncio.run(Soaked(server, pool, keys).run(plan))
        with server.client() as client:
            if client.get("/ready").status_code != 200:
                seen.calls.problems["not ready at the end"] += 1
        if (code := server.stop()) != 0:
            seen.calls.problems[f"exit code {code}"] += 1
        for word in ("Traceback", "ERROR", "CRITICAL"):
            if word in server.stderr:
                seen.calls.problems[f"{word} in the log"] += 1
    return seen


async def _closed_loop(
    call: Callable[[], Awaitable[None]], seconds: float, num_callers: int
) -> None:
    end = perf_counter() + seconds

    async def caller() -> None:
        while perf_counter() < end:
            await call()

    await asyncio.gather(*(caller() for _ in range(num_callers)))
