"""Every refusal is counted once, by its reason, and by its model where one was found."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from hexgrid import errors
from hexgrid.config.settings import Secret
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics, ModelMetrics
from hexgrid.server.errors import OTHER_REASONS
from hexgrid.server.key_store import KeyStore, Limits
from tests.server.running import KEY, embed, new_client, post_bytes, serving, variant
from tests.server.test_errors import BrokenEngine, FailingRunner, UnluckyRunner
from tests.test_errors import all_errors

Ask = Callable[[httpx2.Client], httpx2.Response]


def rejections(client: httpx2.Client) -> dict[tuple[str, str], float]:
    """(model, reason) -> count, of those that there were."""
    return {
        (sample.labels["model_name"], sample.labels["reason"]): sample.value
        for family in text_string_to_metric_families(client.get("/metrics").text)
        for sample in family.samples
        if sample.name == "hexgrid_rejections_total" and sample.value
    }


@pytest.mark.parametrize(
    ("ask", "status", "model", "reason"),
    [
        (lambda c: c.get("/v1/models", headers={"authorization": ""}), 401, "", "unauthorized"),
        (lambda c: c.get("/v1/nope"), 404, "", "unknown_path"),
        (lambda c: c.get("/v1/embeddings"), 405, "", "wrong_method"),
        (lambda c: post_bytes(c, b"{"), 400, "", "bad_schema"),
        (lambda c: post_bytes(c, b" " * 300), 413, "", "body_too_large"),
        (lambda c: embed(c, "a", model="nope"), 404, "", "model_not_found"),
        (lambda c: embed(c, "a", padding="max_length"), 400, "", "bad_request"),
        (lambda c: embed(c, "a", model="m", dimensions=0), 400, "m", "bad_request"),
        (lambda c: embed(c, [13], model="m"), 500, "m", "non_finite"),
        (lambda c: embed(c, [13, 2], model="failing"), 500, "failing", "engine"),
        (
            lambda c: c.post("/detokenize", json={"tokens": [-1], "model": "failing"}),
            400,
            "failing",
            "bad_request",
        ),
    ],
)
def test_a_refusal_is_counted_once_by_its_reason(
    tiny_model: ServedModel, ask: Ask, status: int, model: str, reason: str
) -> None:
    metrics, failing = Metrics(), FailingRunner(ValueError)
    failing.gate.set()
    models = [
        variant(tiny_model, metrics, "m", runner=UnluckyRunner()),
        variant(tiny_model, metrics, "failing", runner=failing),
    ]
    with serving(models, metrics, api_key=(Secret(KEY),), max_body_bytes=200) as client:
        client.headers["authorization"] = f"Bearer {KEY}"

        assert ask(client).status_code == status

        assert rejections(client) == {(model, reason): 1}


def test_a_bug_is_counted_as_our_own_fault(tiny_model: ServedModel) -> None:
    metrics = Metrics()
    model = replace(tiny_model, engine=BrokenEngine(), metrics=ModelMetrics(metrics, "tiny"))
    with serving([model], metrics) as client:
        assert embed(client, "a").status_code == 500

        with new_client(str(client.base_url)) as other:  # after a bug uvicorn closes the connection
            assert rejections(other) == {("tiny", "internal"): 1}


def test_the_limit_of_a_key_and_a_full_queue_are_told_apart_and_no_key_is_named(
    tiny_model: ServedModel, tmp_path: Path
) -> None:
    metrics, store = Metrics(), KeyStore(tmp_path / "keys.sqlite")
    limited = store.create("somebody", Limits(rpm=1))
    elsewhere = store.create("elsewhere", Limits(models=frozenset({"other"})))
    models = [variant(tiny_model, metrics, name) for name in ("m", "other")]
    with serving(models, metrics, key_store=store.file, public_metrics=True) as client:
        for key, status in ((limited, 200), (limited, 429), (elsewhere, 403)):
            client.headers["authorization"] = f"Bearer {key}"
            assert embed(client, "a").status_code == status

        assert rejections(client) == {("", "rate_limited"): 1, ("", "forbidden"): 1}
        assert "somebody" not in client.get("/metrics").text


def test_no_two_errors_that_differ_in_status_share_a_reason() -> None:
    statuses: dict[str, set[int]] = {}
    for error in all_errors():
        if issubclass(error, (errors.RequestError, errors.EngineError)) or "reason" in vars(error):
            statuses.setdefault(error.reason, set()).add(error.status)

    assert all(len(found) == 1 for found in statuses.values())
    assert not statuses.keys() & set(OTHER_REASONS)


def test_the_page_explains_every_reason_with_its_status() -> None:
    page = (Path(__file__).parents[2] / "docs/observe.md").read_text()
    explained = re.findall(r"^\| `(\w+)` \| (\d{3}) \|", page, re.MULTILINE)

    of_ours = {(error.reason, str(error.status)) for error in all_errors()}
    assert set(explained) == of_ours | set(zip(OTHER_REASONS, ("404", "405", "499"), strict=True))
    assert len(set(explained)) == len(explained)
