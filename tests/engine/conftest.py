"""Engines for the tests, closed in the end."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hexgrid.engine.result_store import ResultStore
from tests.engine.bench import Bench, Opener


@pytest.fixture
def open_store(tmp_path: Path) -> Callable[[], ResultStore]:
    """The same store each time; the engine that it is given to closes it."""
    return lambda: ResultStore(tmp_path, fingerprint="fake", hidden_size=4, max_bytes=2**20)


@pytest.fixture
def open_bench() -> Iterator[Opener]:
    benches: list[Bench] = []

    def open_(**settings: Any) -> Bench:
        benches.append(Bench(**settings))
        return benches[-1]

    yield open_
    for bench in benches:
        bench.release()
        bench.engine.close()


@pytest.fixture
def bench(open_bench: Opener) -> Bench:
    return open_bench()
