"""Every kind of call that a soaked server meets, and whether it was answered as it must be."""

import asyncio
import base64
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Any

import httpx2
import numpy as np

from tests.soak.pool import HEAVY_TOKENS, Item, Pool

_PATH = "/v1/embeddings"
_TIMEOUT = 120.0  # seconds, after which an accepted request counts as forgotten
_MOST_OFF = 1e-4  # of a number of a unit vector in float32
_HEAVY_INPUTS = 64
HEAVY_REQUEST_TOKENS = _HEAVY_INPUTS * HEAVY_TOKENS
_WRONG: list[tuple[dict[str, Any] | bytes, int]] = [
    (b"{", 400),
    ({"input": []}, 400),
    ({"input": "a", "dimensions": 0}, 400),
    ({"input": [10**9]}, 400),
    ({"input": "a", "model": "nobody"}, 404),
]


class Calls:
    """Calls of one server; `problems` says what must not have happened, and how often."""

    def __init__(self, url: str, pool: Pool, *, key: str, limited_key: str, seed: int = 0) -> None:
        self.problems: Counter[str] = Counter()
        self.statuses: Counter[tuple[str, int]] = Counter()  # by kind
        self.latencies: dict[tuple[str, int], list[tuple[float, float]]] = {}  # (end, seconds)
        self.num_cancelled = 0
        self.num_heavy_tokens = 0  # of the answered ones
        self._pool = pool
        self._keys = {"limited": limited_key}
        self._key = key
        self._chance = random.Random(seed)
        self._client = httpx2.AsyncClient(
            base_url=url,
            timeout=_TIMEOUT,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
            trust_env=False,
        )
        self._kinds: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self.short, 50),
            (self.batch, 10),
            (self.long, 5),
            (self.cached, 15),
            (self.wrong, 8),
            (self.cancelled, 6),
            (self.limited, 6),
        ]

    async def close(self) -> None:
        await self._client.aclose()

    async def any(self) -> None:
        """A call of some kind."""
        calls, weights = zip(*self._kinds, strict=True)
        await self._chance.choices(calls, weights)[0]()

    async def short(self) -> None:
        await self._ask("short", [self._chance.choice(self._pool.short)])

    async def batch(self) -> None:
        await self._ask("batch", self._chance.sample(self._pool.short, self._chance.randint(2, 32)))

    async def long(self) -> None:
        await self._ask("long", [self._chance.choice(self._pool.long)])

    async def cached(self) -> None:
        await self._ask("cached", [self._chance.choice(self._pool.hot)])

    async def limited(self) -> None:
        """With a key that may ask now and then only."""
        await self._ask("limited", [self._chance.choice(self._pool.hot)], also=429)

    async def heavy(self) -> None:
        """Many tokens, which a server with a full queue refuses."""
        items = self._chance.sample(self._pool.heavy, _HEAVY_INPUTS)
        if await self._ask("heavy", items, also=429) == 200:
            self.num_heavy_tokens += HEAVY_REQUEST_TOKENS

    async def wrong(self) -> None:
        body, expected = self._chance.choice(_WRONG)
        answer = await self._post("wrong", body)
        if answer is not None and answer.status_code != expected:
            self.problems[f"wrong: {answer.status_code} instead of {expected}"] += 1

    async def cancelled(self) -> None:
        """The client goes away in the middle; if it is too late for that, never mind."""
        items = self._chance.sample(self._pool.short, 8)
        try:
            async with asyncio.timeout(self._chance.uniform(0.0, 0.03)):
                await self._post("cancelled", _body(items))
        except TimeoutError:
            self.num_cancelled += 1

    async def _ask(self, kind: str, items: Sequence[Item], *, also: int = 200) -> int | None:
        """Ask for vectors and check them; the status `also` is good as well."""
        answer = await self._post(kind, _body(items))
        if answer is None:
            return None
        if answer.status_code == 200:
            if not _is_right(answer.json(), items):
                self.problems[f"{kind}: wrong vectors"] += 1
        elif answer.status_code != also:
            self.problems[f"{kind}: {answer.status_code} {answer.text[:100]}"] += 1
        elif "retry-after" not in answer.headers:
            self.problems[f"{kind}: no Retry-After"] += 1
        return answer.status_code

    async def _post(self, kind: str, body: dict[str, Any] | bytes) -> httpx2.Response | None:
        headers = {"authorization": f"Bearer {self._keys.get(kind, self._key)}"}
        start = perf_counter()
        try:
            if isinstance(body, bytes):
                answer = await self._client.post(_PATH, content=body, headers=headers)
            else:
                answer = await self._client.post(_PATH, json=body, headers=headers)
        except httpx2.HTTPError as error:
            self.problems[f"{kind}: not answered ({type(error).__name__})"] += 1
            return None
        end = perf_counter()
        place = (kind, answer.status_code)
        self.statuses[place] += 1
        self.latencies.setdefault(place, []).append((end, end - start))
        return answer


def _body(items: Sequence[Item]) -> dict[str, Any]:
    return {"input": [item.input for item in items], "encoding_format": "base64"}


def _is_right(body: dict[str, Any], items: Sequence[Item]) -> bool:
    found = [np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in body["data"]]
    if len(found) != len(items):
        return False
    expected = np.stack([item.vector for item in items])
    return bool(np.abs(np.stack(found) - expected).max() <= _MOST_OFF)
