"""What is counted, as Prometheus reads it."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hexgrid.metrics import Metrics, ModelMetrics, Phase


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """(name, label values...) -> value of everything but histogram buckets and creation times."""
    return {
        (sample.name.removeprefix("hexgrid_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_created"))
    }


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def model(metrics: Metrics) -> ModelMetrics:
    return ModelMetrics(metrics, "nano")


def test_an_http_request_is_counted_by_path_and_status(metrics: Metrics) -> None:
    metrics.http_request("/v1/embeddings", 200, 0.5)
    metrics.http_request("/v1/embeddings", 429, 0.25)

    counted = samples(metrics)
    assert counted["http_requests_total", "/v1/embeddings", "200"] == 1
    assert counted["http_requests_total", "/v1/embeddings", "429"] == 1
    assert counted["http_request_duration_seconds_sum", "/v1/embeddings"] == 0.75


def test_a_rejection_is_counted_by_model_and_reason(metrics: Metrics, model: ModelMetrics) -> None:
    model.rejected("RateLimitError")

    assert samples(metrics)["rejections_total", "nano", "RateLimitError"] == 1


@pytest.mark.parametrize("phase", ["tokenize", "queue", "forward", "encode"])
def test_a_phase_is_recorded_under_its_name(
    metrics: Metrics, model: ModelMetrics, phase: Phase
) -> None:
    model.phase(phase, 2.0)

    assert samples(metrics)["phase_duration_seconds_sum", "nano", phase] == 2


def test_a_timed_body_is_recorded_once_and_only_after_it_ran(
    metrics: Metrics, model: ModelMetrics
) -> None:
    count = ("phase_duration_seconds_count", "nano", "encode")

    with model.timed("encode"):
        assert samples(metrics)[count] == 0

    assert samples(metrics)[count] == 1


def test_models_are_told_apart(metrics: Metrics, model: ModelMetrics) -> None:
    ModelMetrics(metrics, "other").inputs.inc(3)
    model.inputs.inc()

    counted = samples(metrics)
    assert (counted["inputs_total", "nano"], counted["inputs_total", "other"]) == (1, 3)


def test_two_objects_share_nothing(metrics: Metrics, model: ModelMetrics) -> None:
    model.prompt_tokens.inc(5)

    assert ("prompt_tokens_total", "nano") not in samples(Metrics())


def test_every_name_begins_with_the_projects(metrics: Metrics) -> None:
    families = list(text_string_to_metric_families(metrics.text().decode()))

    assert families
    assert all(family.name.startswith("hexgrid_") for family in families)
    assert all(family.documentation for family in families)
