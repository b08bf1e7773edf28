"""Cases against a server, on several connections at a time, with good requests between them."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import psutil

from tests.fuzz.answers import Answer, MalformedError, fault_of
from tests.fuzz.cases import FIRST_SPOILT, Case, heavy, light, make_case
from tests.fuzz.hostile import AUTHORIZATION, EMBEDDINGS
from tests.fuzz.line import Line, dial
from tests.fuzz.requests import Request, post
from tests.soak.pool import Item

_CONNECTIONS = 128  # a tenth of them waits until the server does not
_CASES_BETWEEN = 20  # the good requests of one worker
_GOOD_AT_A_TIME = 2  # on one connection
_CASES_A_SAMPLE = 200  # of memory
_MORE_ASKED = 0.25  # of the connections that stay open after a case
_LARGE_BYTES = 2**20
_LARGE_AT_A_TIME = 2  # more, and our own copies of them keep every connection waiting
_CLOSED = "closed without an answer"
_MOST_DELAY = 0.5  # seconds; whoever was later than that the server may have closed
_MOST_OFF = 1e-4  # of a number of a unit vector in float32
_ENDINGS = b"\r\n"


@dataclass
class Seen:
    """What came of the cases; a fault is the case and what was wrong."""

    num_cases: int = 0
    num_good: int = 0
    seconds: float = 0.0
    statuses: Counter[str] = field(default_factory=Counter)  # of answers, and ends without one
    kinds: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[Case, str]] = field(default_factory=list)
    problems: Counter[str] = field(default_factory=Counter)  # not of one case
    memory: list[tuple[int, int]] = field(default_factory=list)  # (cases so far, bytes)


class Campaign:
    """Sends cases of `seed` to the server at `port`, which is process `pid`."""

    def __init__(self, port: int, pid: int, items: list[Item], seed: int) -> None:
        self.seen = Seen()
        self._port = port
        self._process = psutil.Process(pid)
        self._items = items
        self._seed = seed
        self._large = asyncio.Semaphore(_LARGE_AT_A_TIME)

    async def run(self, indices: Sequence[int]) -> Seen:
        """Send the cases of these numbers."""
        if any(len(light()) <= index < FIRST_SPOILT for index in indices):
            heavy()  # takes a second, in which no connection should wait for us
        todo = iter(indices)
        start = perf_counter()
        await asyncio.gather(*(self._work(todo, number) for number in range(_CONNECTIONS)))
        self.seen.seconds = perf_counter() - start
        return self.seen

    async def _work(self, todo: Iterator[int], number: int) -> None:
        chance = random.Random(f"{self._seed} worker {number}")
        for count, index in enumerate(todo):
            case = make_case(self._seed, index)
            if sum(map(len, case.pieces)) > _LARGE_BYTES:
                async with self._large:
                    await self._send(case, chance)
            else:
                await self._send(case, chance)
            if count % _CASES_BETWEEN == 0:
                async with dial(self._port) as line:
                    for _ in range(_GOOD_AT_A_TIME):
                        await self._ask_good(line, chance)

    async def _send(self, case: Case, chance: random.Random) -> None:
        seen = self.seen
        fault, delay = await self._try(case, chance)
        while fault == _CLOSED and delay > _MOST_DELAY:
            seen.statuses["again"] += 1
            fault, delay = await self._try(case, chance)
        if fault is not None:
            seen.faults.append((case, fault))
        seen.num_cases += 1
        seen.kinds[case.kind] += 1
        if seen.num_cases % _CASES_A_SAMPLE == 0:
            seen.memory.append((seen.num_cases, self._process.memory_info().rss))

    async def _try(self, case: Case, chance: random.Random) -> tuple[str | None, float]:
        """What was wrong with the server, and for how many seconds we kept it waiting."""
        delay = 0.0
        try:
            async with dial(self._port) as line:
                fault = await self._exchange(line, case, chance)
                delay = line.delay
        except MalformedError as error:
            fault = str(error)
        except TimeoutError:
            fault = "neither an answer nor an end"
        except OSError as error:
            fault = f"no connection: {error}"
        return fault, delay

    async def _exchange(self, line: Line, case: Case, chance: random.Random) -> str | None:
        """What is wrong with the answers on this connection."""
        sent = case.sent
        sending = asyncio.create_task(line.send(case.pieces))
        if case.end != "wait":
            await sending
        if case.end == "leave":
            line.leave()
            self.seen.statuses["left"] += 1
            return None
        if case.end == "half-close":
            line.half_close()
        try:
            fault, last = await self._read_first(line, case)
            may_go_on = fault is None and last is not None and not last.ends and case.end == "wait"
            if may_go_on and b"HEAD" not in sent and chance.random() < _MORE_ASKED:
                await sending
                fault = await self._ask_more(line, sent, chance)
        finally:
            sending.cancel()
        return fault

    async def _ask_more(self, line: Line, sent: bytes, chance: random.Random) -> str | None:
        """Whatever was left of the case, the connection must not lose its place."""
        await line.send([_VERSION.to_bytes(chance)])
        while (answer := await line.answer()) is not None:
            fault = self._look_at(answer, sent)
            if fault is not None or answer.ends or b'{"version"' in answer.body:
                return fault
        return None

    async def _read_first(self, line: Line, case: Case) -> tuple[str | None, Answer | None]:
        answer = await line.answer(has_body=not case.sent.lstrip(_ENDINGS).startswith(b"HEAD "))
        if answer is not None:
            return self._look_at(answer, case.sent), answer
        self.seen.statuses["closed"] += 1
        if case.end == "wait" and case.sent.strip(_ENDINGS):
            return _CLOSED, None
        return None, None

    def _look_at(self, answer: Answer, sent: bytes) -> str | None:
        self.seen.statuses[str(answer.status)] += 1
        return fault_of(answer, sent)

    async def _ask_good(self, line: Line, chance: random.Random) -> None:
        """A request that has nothing wrong; its vectors must be right."""
        items = chance.sample(self._items, 2)
        body = json.dumps({"input": [item.input for item in items]}).encode()
        await line.send([post(EMBEDDINGS, body, AUTHORIZATION).to_bytes(chance)])
        answer = await line.answer()
        self.seen.num_good += 1
        if answer is None or answer.status != 200:
            said = "nothing" if answer is None else f"{answer.status} {answer.body[:200]!r}"
            self.seen.problems[f"a good request was answered by {said}"] += 1
            return
        found = np.array([row["embedding"] for row in json.loads(answer.body)["data"]])
        if np.abs(found - np.stack([item.vector for item in items])).max() > _MOST_OFF:
            self.seen.problems["a good request got wrong vectors"] += 1


_VERSION = Request(b"GET", b"/version", [AUTHORIZATION])
