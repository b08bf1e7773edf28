"""What the server says of itself: health, models, version, and counts of what really happened."""

import importlib.metadata
from collections.abc import Sequence
from typing import Any

import httpx2
import pytest

from hexgrid.encoding import Vectors
from hexgrid.engine.sequence import Salt
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.wire import TokenIds
from tests.server.gated_runner import GatedRunner
from tests.server.running import embed, error, metric, serving, variant

READINESS = ["/health", "/ready", "/ping"]


@pytest.mark.parametrize("path", [*READINESS, "/live"])
def test_a_healthy_server_says_so_without_a_body(client: httpx2.Client, path: str) -> None:
    response = client.get(path)

    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-length"] == "0"


def test_ping_may_be_posted(client: httpx2.Client) -> None:
    assert client.post("/ping").status_code == 200


class DyingRunner(GatedRunner):
    """Takes the engine's thread down with it, as a fault in the engine itself would."""

    def run(self, token_ids: Sequence[TokenIds], _: Sequence[Salt] = ()) -> Any:
        raise SystemExit(len(token_ids))

    def run_float32(self, token_ids: Sequence[TokenIds]) -> Vectors:
        raise SystemExit(len(token_ids))


def test_a_dead_engine_shows_in_every_probe_by_its_name(tiny_model: ServedModel) -> None:
    metrics = Metrics()
    models = [
        variant(tiny_model, metrics, "good"),
        variant(tiny_model, metrics, "dying", runner=DyingRunner()),
    ]
    with serving(models, metrics) as client:
        answers = [
            embed(client, "the one that kills it", model="dying"),
            embed(client, "one that comes later", model="dying"),
            *[client.get(path) for path in (*READINESS, "/live")],
        ]

        assert [error(answer)["type"] for answer in answers] == ["ServiceUnavailableError"] * 6
        assert [answer.status_code for answer in answers] == [503] * 6
        assert {error(answer)["message"] for answer in answers[2:]} == {
            (
                "Model `dying` is not ready: The engine broke (SystemExit); "
                "the server must be started again"
            )
        }
        assert metric(client, "model_ready", model_name="dying") == 0
        assert embed(client, "unaffected", model="good").status_code == 200
        assert metric(client, "model_ready", model_name="good") == 1


def test_the_version_is_the_packages(client: httpx2.Client) -> None:
    assert client.get("/version").json() == {"version": importlib.metadata.version("hexgrid")}


def test_every_served_name_is_listed_with_its_limits(client: httpx2.Client) -> None:
    body = client.get("/v1/models").json()

    assert body["object"] == "list"
    assert [
        (card["id"], card["max_model_len"], card["embedding_dimension"]) for card in body["data"]
    ] == [
        ("tiny", 32_768, 64),
        ("alias", 32_768, 64),
        ("other", 32_768, 64),
        ("short", 32, 64),
        ("listed", 32_768, 64),
    ]


def test_a_model_card_has_vllms_fields(client: httpx2.Client, tiny_model: ServedModel) -> None:
    card = client.get("/v1/models").json()["data"][0]

    assert card["object"] == "model"
    assert card["owned_by"] == "hexgrid"
    assert card["root"] == tiny_model.root
    assert card["parent"] is None
    assert isinstance(card["created"], int)
    (permission,) = card["permission"]
    assert permission["object"] == "model_permission"
    assert permission["id"].startswith("modelperm-")


def test_metrics_are_in_prometheus_form(client: httpx2.Client) -> None:
    response = client.get("/metrics")

    assert response.headers["content-type"] == "text/plain; version=1.0.0; charset=utf-8"
    assert response.text.startswith("# HELP hexgrid_")


def test_metrics_count_what_happened(tiny_model: ServedModel) -> None:
    metrics = Metrics()
    with serving([variant(tiny_model, metrics, "m", "alias")], metrics) as client:
        embed(client, [[1, 2, 3], [1, 2, 3, 4]], truncate_prompt_tokens=3, model="alias")
        embed(client, [7])
        embed(client, [7], dimensions=0)
        embed(client, [], model="nope")
        for path in ("/nope", "/nope/2", "/nope/3"):
            client.get(path)

        def count(name: str, **labels: str) -> float:
            return metric(client, name, **labels)

        assert count("prompt_tokens_total", model_name="m") == 7
        assert count("inputs_total", model_name="m") == 3
        assert count("truncated_inputs_total", model_name="m") == 1
        assert count("input_tokens_sum", model_name="m") == 7
        assert count("input_tokens_count", model_name="m") == 3
        # Once it was cut, the second input was equal to the first.
        assert count("joined_inputs_total", model_name="m") == 1
        assert count("batch_tokens_sum", model_name="m") == 4
        assert count("batch_sequences_sum", model_name="m") == 2
        assert count("batch_max_tokens", model_name="m") == 1024
        assert count("tokens_per_second", model_name="m") > 0
        assert count("request_duration_seconds_count", model_name="m") == 2
        assert count("queue_sequences", model_name="m") == 0
        assert count("queue_tokens", model_name="m") == 0
        assert count("failed_batches_total", model_name="m") == 0
        assert count("rejections_total", model_name="m", reason="bad_request") == 1
        assert count("phase_duration_seconds_count", model_name="m", phase="tokenize") == 3
        assert count("phase_duration_seconds_count", model_name="m", phase="queue") == 2
        assert count("phase_duration_seconds_count", model_name="m", phase="encode") == 2
        assert count("phase_duration_seconds_count", model_name="m", phase="forward") == 2
        assert count("http_requests_total", path="/v1/embeddings", status="200") == 2
        assert count("http_requests_total", path="/v1/embeddings", status="400") == 1
        assert count("http_requests_total", path="/v1/embeddings", status="404") == 1
        assert count("http_request_duration_seconds_count", path="/v1/embeddings") == 4
        # Clients cannot make up labels: all unknown paths share one.
        assert count("http_requests_total", path="other", status="404") == 3
        assert "nope" not in client.get("/metrics").text
        assert "alias" not in client.get("/metrics").text


def test_a_model_is_described_as_it_was_loaded(client: httpx2.Client) -> None:
    expected = {"dtype": "float32", "quantization": "none", "device": "cpu", "dimension": "64"}

    found = metric(client, "model_info", model_name="other", max_model_len="32768", **expected)

    assert found == 1
