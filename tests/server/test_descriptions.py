"""GET /load, /info, /api/tags and /api/version: what clients ask besides embedding."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import httpx2
import pytest

from hexgrid import __version__
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.server.key_store import KeyStore, Limits
from tests.server.gated_runner import GatedRunner
from tests.server.running import embed, error, serving, variant, wait_until


def test_load_is_zero_one_zero_around_a_request(
    tiny_model: ServedModel, runner: GatedRunner, callers: ThreadPoolExecutor
) -> None:
    metrics = Metrics()

    def load(client: httpx2.Client) -> int:
        answer = client.get("/load").json()
        assert list(answer) == ["server_load"]
        count: int = answer["server_load"]
        return count

    with serving([variant(tiny_model, metrics, "m", runner=runner)], metrics) as client:
        assert load(client) == 0
        first = callers.submit(embed, client, [1])
        runner.wait_until_started(1)
        assert load(client) == 1
        second = callers.submit(client.post, "/similarity", json={"inputs": None})
        assert second.result().status_code == 400
        assert load(client) == 1
        runner.gate.set()
        assert first.result().status_code == 200
        wait_until(lambda: load(client) == 0, "the load is 0 again")


def test_info_has_teis_keys_and_this_servers_limits(client: httpx2.Client) -> None:
    info = client.get("/info").json()

    assert info == {
        "model_id": "tiny",
        "model_sha": None,
        "model_dtype": "float32",
        "model_type": {"embedding": {"pooling": "last_token"}},
        "max_concurrent_requests": 512,
        "max_input_length": 32_768,
        "max_batch_tokens": 1024,
        "max_batch_requests": None,
        "max_client_batch_size": 2048,
        "auto_truncate": False,
        "tokenization_workers": 2,
        "version": __version__,
        "sha": None,
        "docker_label": None,
    }


def test_ollamas_clients_find_every_served_name(client: httpx2.Client) -> None:
    models = client.get("/api/tags").json()["models"]

    assert [model["name"] for model in models] == ["tiny", "alias", "other", "short", "listed"]
    assert [model["model"] for model in models] == [model["name"] for model in models]
    (first, *_) = models
    assert list(first) == ["name", "model", "modified_at", "size", "digest", "details"]
    assert first["details"]["family"] == "qwen3"
    assert first["details"]["parameter_size"] == "9.8M"
    assert first["size"] == pytest.approx(4 * 9.8e6, rel=0.01)
    assert len(bytes.fromhex(first["digest"])) == 32
    assert datetime.fromisoformat(first["modified_at"]).tzinfo is not None
    assert client.get("/api/version").json() == {"version": __version__}


def test_a_key_sees_the_models_that_it_is_for(tiny_model: ServedModel, tmp_path: Path) -> None:
    metrics, store = Metrics(), KeyStore(tmp_path / "keys.sqlite3")
    narrow = store.create("narrow", Limits(models=frozenset({"b"})))
    useless = store.create("useless", Limits(models=frozenset({"c"})))
    models = [variant(tiny_model, metrics, name) for name in ("a", "b")]
    with serving(models, metrics, key_store=store.file) as client:
        client.headers["authorization"] = f"Bearer {narrow}"
        assert client.get("/info").json()["model_id"] == "b"
        assert [m["name"] for m in client.get("/api/tags").json()["models"]] == ["b"]
        client.headers["authorization"] = f"Bearer {useless}"
        assert error(client.get("/info"))["code"] == 403
        assert client.get("/api/tags").json() == {"models": []}
