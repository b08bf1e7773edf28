"""Whose caches a request uses: everybody's, its salt's, its client's; and that it changes no vector."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hexgrid.config import EngineConfig
from hexgrid.config.settings import Secret
from hexgrid.engine.native import open_model
from hexgrid.metrics import Metrics
from hexgrid.server.key_store import KeyStore, Limits
from tests.server.running import KEY, embed, metric, serving, vectors

# Long enough that its beginning is worth keeping.
INPUTS = [list(range(100, 140)), [5, 6]]
HEADS = [[*range(200, 240), own] for own in range(3)]


@contextmanager
def cached(
    checkpoint: Path, tmp_path: Path, **settings: Any
) -> Iterator[tuple[httpx2.Client, ...]]:
    """A server with all caches: clients with the keys of "one", of "two", and of the operator."""
    config = EngineConfig(dtype="float32", result_cache_dir=tmp_path / "results")
    metrics = Metrics()
    model = open_model(["m"], checkpoint, config, metrics)
    store = KeyStore(tmp_path / "keys.sqlite3")
    keys = [store.create(name, Limits()) for name in ("one", "two")]
    with serving(
        [model],
        metrics,
        api_key=(Secret(KEY),),
        key_store=tmp_path / "keys.sqlite3",
        **settings,
    ) as client:
        clients = [
            httpx2.Client(
                base_url=client.base_url,
                headers={"authorization": f"Bearer {key}"},
                trust_env=False,
            )
            for key in (*keys, KEY)
        ]
        yield tuple(clients)
        for each in clients:
            each.close()


def hits(client: httpx2.Client) -> tuple[float, float]:
    """Inputs answered from the memory, and computed."""
    return metric(client, "result_cache_hits_total"), metric(client, "result_cache_misses_total")


def test_without_isolation_a_client_hits_what_another_one_sent(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    with cached(tiny_checkpoint, tmp_path) as (one, two, own):
        first = vectors(embed(one, INPUTS))
        assert hits(own) == (0, 2)
        second = vectors(embed(two, INPUTS))

        assert hits(own) == (2, 2)
        assert first.tolist() == second.tolist()


def test_with_isolation_each_client_hits_only_what_it_sent_itself(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    with cached(tiny_checkpoint, tmp_path, isolate_caches=True) as (one, two, own):
        found = [vectors(embed(client, INPUTS)) for client in (one, two, own)]
        assert hits(own) == (0, 6)
        assert metric(own, "result_store_hits_total") == 0
        again = [vectors(embed(client, INPUTS)) for client in (one, two, own)]

        assert hits(own) == (6, 6)
        assert all((each == found[0]).all() for each in (*found, *again))


def test_with_isolation_a_shared_beginning_is_shared_with_oneself_only(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    with cached(tiny_checkpoint, tmp_path, isolate_caches=True) as (one, two, own):
        for head in HEADS:
            vectors(embed(one, head))
        reused = metric(own, "prefix_cache_tokens_total")
        assert reused > 0
        for head in HEADS[:2]:
            vectors(embed(two, head))

        assert metric(own, "prefix_cache_tokens_total") == reused


def test_without_isolation_a_beginning_is_shared_by_all(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    with cached(tiny_checkpoint, tmp_path) as (one, two, own):
        for client, head in zip((one, two, own), HEADS, strict=True):
            vectors(embed(client, head))

        assert metric(own, "prefix_cache_tokens_total") > 0


@pytest.mark.parametrize("isolate", [False, True])
def test_a_requests_salt_separates_and_changes_no_vector(
    tiny_checkpoint: Path, tmp_path: Path, *, isolate: bool
) -> None:
    with cached(tiny_checkpoint, tmp_path, isolate_caches=isolate) as (one, two, own):
        found = [
            vectors(embed(one, INPUTS, **({"cache_salt": salt} if salt else {})))
            for salt in (None, "a", "b")
        ]
        assert hits(own) == (0, 6)
        found.append(vectors(embed(one, INPUTS, cache_salt="a")))
        assert hits(own) == (2, 6)
        found.append(vectors(embed(two, INPUTS, cache_salt="a")))

        assert hits(own) == ((2, 8) if isolate else (4, 6))
        assert all((each == found[0]).all() for each in found)


def test_with_isolation_what_is_on_disk_serves_the_same_client_after_a_restart(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    with cached(tiny_checkpoint, tmp_path, isolate_caches=True) as (one, *_):
        vectors(embed(one, INPUTS))
        key = one.headers["authorization"]
    for file in tmp_path.glob("keys.sqlite3*"):
        file.unlink()
    with cached(tiny_checkpoint, tmp_path, isolate_caches=True) as (one, two, own):
        vectors(embed(two, INPUTS))
        assert metric(own, "result_store_hits_total") == 0
        vectors(embed(one, INPUTS))

        assert metric(own, "result_store_hits_total") == 2
        assert one.headers["authorization"] != key
