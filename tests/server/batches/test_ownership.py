"""Whose files and batches are, and whose limits they keep to."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest

from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.server import usage
from hexgrid.server.batches.objects import Batch as Stored
from hexgrid.server.key_store import KeyStore, Limits
from tests.server.batches.asking import begin, ended, lines, sdk
from tests.server.gated_runner import GatedRunner
from tests.server.running import (
    metric,
    serving,
    serving_one,
    variant,
    wait_until,
)


@pytest.fixture
def shared(tiny_model: ServedModel, tmp_path: Path) -> Iterator[tuple[openai.OpenAI, ...]]:
    """A server with two keys, as their clients."""
    store = KeyStore(tmp_path / "keys")
    keys = [store.create("ann", Limits()), store.create("ben", Limits(rpm=600))]
    settings = {"key_store": tmp_path / "keys", "usage_dir": tmp_path / "usage"}
    with serving_one(tiny_model, batch_dir=tmp_path / "batches", **settings) as client:
        yield tuple(sdk(client, key) for key in keys)


def test_no_key_sees_what_is_anothers(shared: tuple[openai.OpenAI, ...]) -> None:
    ann, ben = shared
    batch = begin(ann, lines(2))
    done = ended(ann, batch.id)
    assert done.output_file_id is not None

    assert list(ben.files.list()) == []
    assert list(ben.batches.list()) == []
    for ask in (
        lambda: ben.batches.retrieve(batch.id),
        lambda: ben.batches.cancel(batch.id),
        lambda: ben.files.content(done.output_file_id or ""),
        lambda: ben.files.delete(batch.input_file_id),
        lambda: ben.files.list(after=batch.input_file_id),
        lambda: ben.batches.create(
            input_file_id=batch.input_file_id,
            endpoint="/v1/embeddings",
            completion_window="24h",
        ),
    ):
        with pytest.raises(openai.NotFoundError, match="No such"):
            ask()
    assert ann.files.retrieve(batch.input_file_id).id == batch.input_file_id


def test_what_a_batch_uses_is_counted_for_its_key(
    shared: tuple[openai.OpenAI, ...], tmp_path: Path
) -> None:
    ended(shared[0], begin(shared[0], lines(7)).id)

    used = [(slot.name, of.requests) for slot, of in usage.read(tmp_path / "usage").items()]
    assert used == [("ann", 7)]


def test_a_keys_limits_hold_batches_up_and_fail_none(
    tiny_model: ServedModel, tmp_path: Path
) -> None:
    store = KeyStore(tmp_path / "keys")
    # Of requests, enough for every round of the wait below.
    key = store.create("ann", Limits(rpm=10_000_000, tpm=1200))
    settings = {"key_store": tmp_path / "keys", "public_metrics": True}
    with serving_one(tiny_model, batch_dir=tmp_path, **settings) as client:
        api = sdk(client, key)
        # All tokens of a minute at once: the batch has to wait for more.
        api.embeddings.create(model="m", input=["word " * 1195])
        done = ended(api, begin(api, lines(4)).id)
        refused = metric(client, "rejections_total", reason="rate_limited")

    assert done.status == "completed"
    assert done.request_counts is not None
    assert done.request_counts.completed == 4
    assert refused > 0


def test_a_batch_ends_when_its_key_is_revoked(tiny_model: ServedModel, tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys")
    key = store.create("ann", Limits())
    runner, metrics = GatedRunner(), Metrics()
    model = variant(tiny_model, metrics, "m", runner=runner, embedding_dimension=64)
    settings: dict[str, Any] = {"batch_dir": tmp_path, "key_store": tmp_path / "keys"}
    with serving([model], metrics, batch_concurrency=1, **settings) as client:
        batch = begin(sdk(client, key), lines(3))
        runner.wait_until_started(1)
        store.revoke("ann")
        headers = {"authorization": f"Bearer {key}"}
        wait_until(
            lambda: client.get("/v1/models", headers=headers).status_code == 401, "it is revoked"
        )
        runner.gate.set()
        with closing(sqlite3.connect(tmp_path / "batches.sqlite3")) as database:

            def found() -> Stored:
                (row,) = database.execute("SELECT object FROM batches WHERE id = ?", (batch.id,))
                return msgspec.json.decode(row[0], type=Stored)

            wait_until(lambda: found().status == "failed", "the batch fails")
            done = found()

    assert done.errors is not None
    assert done.errors.data[0].code == "key_invalid"
    assert done.request_counts.completed == 1
    assert done.output_file_id is not None
