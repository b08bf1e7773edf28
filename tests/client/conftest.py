"""The three ways to the same vectors: both clients of a real server, and a model of this process."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import httpx2
import pytest

from hexgrid import AsyncClient, Client, Embedder
from hexgrid.engine.served_model import ServedModel
from tests.server.gated_runner import GatedRunner
from tests.server.running import serving_one


class Awaited:
    """AsyncClient as if its calls waited: a loop of its own runs them."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._client = AsyncClient(*args, **options)
        self._loop = asyncio.Runner()

    def __repr__(self) -> str:
        return repr(self._client)

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)
        if not asyncio.iscoroutinefunction(call):
            return call
        return lambda *args, **options: self._loop.run(call(*args, **options))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._loop as loop:
            loop.run(self._client.aclose())


# The Client, or what behaves as it does.
AnyClient = Client | Awaited
each_client = pytest.mark.parametrize("new_client", [Client, Awaited], ids=["sync", "async"])


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a proxy nor a server of this machine's has to do with the tests."""
    monkeypatch.setenv("NO_PROXY", "*")
    for name in ("HEXGRID_API_KEY", "HEXGRID_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def server(tiny_model: ServedModel) -> Iterator[httpx2.Client]:
    """A bare client of a server of the model "m"."""
    with serving_one(tiny_model) as client:
        yield client


@pytest.fixture(scope="module")
def url(server: httpx2.Client) -> str:
    return str(server.base_url)


@pytest.fixture(scope="module")
def embedder(tiny_checkpoint: Path) -> Iterator[Embedder]:
    """The same model in this process."""
    with Embedder(tiny_checkpoint, dtype="float32") as embedder:
        yield embedder


@pytest.fixture(params=["sync", "async", "in process"])
def caller(request: pytest.FixtureRequest, url: str, embedder: Embedder) -> Iterator[Any]:
    """Each of the three, two requests at a time and few inputs in each."""
    if request.param == "in process":
        yield embedder
    else:
        kind = Client if request.param == "sync" else Awaited
        with kind(url, concurrency=2, max_batch_tokens=60) as client:
            yield client


@pytest.fixture
def runner() -> Iterator[GatedRunner]:
    """A runner whose gate opens at the latest when the test ends, so that its engine can stop."""
    runner = GatedRunner()
    yield runner
    runner.gate.set()
