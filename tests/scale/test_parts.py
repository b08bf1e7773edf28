"""What goes between processes, how many of them there are, and what they count together. Needs no Ray."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from hexgrid.metrics import Metrics, ModelMetrics
from hexgrid.scale.autoscaling import QUEUED_TOKENS, QueuedTokensPolicy
from hexgrid.scale.calls import num_tokens, packed, unpacked
from hexgrid.scale.exposition import merged


@given(st.lists(st.lists(st.integers(0, 2**32 - 1))))
def test_ids_come_out_as_they_went_in(token_ids: list[list[int]]) -> None:
    ids = packed(token_ids)

    assert unpacked(ids) == token_ids
    assert num_tokens(ids) == sum(map(len, token_ids))


@pytest.mark.parametrize(
    ("reported", "target_num_replicas", "wanted"),
    [
        ({"a": 100.0}, 1, 1.0),
        ({"a": 250.0}, 1, 2.5),
        ({"a": 100.0, "b": 20.0}, 2, 1.2),
        ({"a": 0.0, "b": 0.0}, 2, 0.0),
        ({}, 3, 3.0),  # none has said anything yet: as it is
    ],
)
def test_so_many_replicas_are_wanted_that_queues_are_at_their_target(
    reported: dict[str, float], target_num_replicas: int, wanted: float
) -> None:
    metrics: dict[str, Any] = {QUEUED_TOKENS: reported} if reported else {}
    context = SimpleNamespace(aggregated_metrics=metrics, target_num_replicas=target_num_replicas)

    assert QueuedTokensPolicy(100)(context) == (wanted, {})


def said(tokens: int) -> bytes:
    metrics = Metrics()
    ModelMetrics(metrics, "m").prompt_tokens.inc(tokens)
    metrics.http_request("/v1/embeddings", 200, 0.01)
    return metrics.text()


def test_what_processes_count_stays_apart_and_adds_up() -> None:
    text = merged([("ingress:1", said(3)), ("ingress:2", said(4))]).decode()

    families = {family.name: family for family in text_string_to_metric_families(text)}
    samples = {
        sample.labels["replica"]: sample.value
        for sample in families["hexgrid_prompt_tokens"].samples
        if sample.name == "hexgrid_prompt_tokens_total"
    }
    assert samples == {"ingress:1": 3.0, "ingress:2": 4.0}
    # As a server says it, but for the label.
    alone = {family.name: family for family in text_string_to_metric_families(said(3).decode())}
    assert families.keys() == alone.keys()
    for name, family in families.items():
        assert (family.type, family.documentation) == (alone[name].type, alone[name].documentation)
        assert len(family.samples) == 2 * len(alone[name].samples)
