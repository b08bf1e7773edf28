"""What is counted, as Prometheus reads it."""

import importlib.metadata
import sys
from pathlib import Path

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
    metrics.rejected("nano", "overloaded")
    metrics.rejected("", "unauthorized")

    counted = samples(metrics)
    assert counted["rejections_total", "nano", "overloaded"] == 1
    assert counted["rejections_total", "", "unauthorized"] == 1


def test_faults_of_the_server_are_shown_before_there_are_any(
    metrics: Metrics, model: ModelMetrics
) -> None:
    counted = samples(metrics)

    assert [
        counted["rejections_total", "nano", r] for r in ("internal", "engine", "non_finite")
    ] == [
        0,
        0,
        0,
    ]


def test_what_runs_and_how_it_was_loaded_are_constant_ones(
    metrics: Metrics, model: ModelMetrics
) -> None:
    model.describe(
        device="cpu", dtype="float32", quantization="int8", dimension=256, max_model_len=512
    )

    counted = samples(metrics)
    versions = [importlib.metadata.version(package) for package in ("torch", "hexgrid")]
    python = ".".join(map(str, sys.version_info[:3]))
    # in the order of the labels' names
    assert counted["build_info", python, *versions] == 1
    assert counted["model_info", "cpu", "256", "float32", "512", "nano", "int8"] == 1


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="where there is no /proc")
def test_the_process_is_told_of_under_the_names_that_all_clients_use(metrics: Metrics) -> None:
    counted = samples(metrics)

    assert counted["process_resident_memory_bytes",] > 2**20
    assert counted["process_cpu_seconds_total",] > 0
    assert 0 < counted["process_open_fds",] < counted["process_max_fds",]
    assert counted["process_start_time_seconds",] > 1e9


@pytest.mark.parametrize("phase", ["tokenize", "queue", "forward", "encode"])
def test_a_phase_is_recorded_under_its_name(
    metrics: Metrics, model: ModelMetrics, phase: Phase
) -> None:
    model.phase(phase, 2.0)

    assert samples(metrics)["phase_duration_seconds_sum", "nano", phase] == 2


def test_models_are_told_apart(metrics: Metrics, model: ModelMetrics) -> None:
    ModelMetrics(metrics, "other").inputs.inc(3)
    model.inputs.inc()

    counted = samples(metrics)
    assert (counted["inputs_total", "nano"], counted["inputs_total", "other"]) == (1, 3)


def test_two_objects_share_nothing(metrics: Metrics, model: ModelMetrics) -> None:
    model.prompt_tokens.inc(5)

    assert ("prompt_tokens_total", "nano") not in samples(Metrics())


def test_the_list_of_instruments_is_what_is_exposed(metrics: Metrics) -> None:
    exposed = {
        (family.name + "_total" * (family.type == "counter"), family.type, family.documentation)
        for family in text_string_to_metric_families(metrics.text().decode())
        if not family.name.startswith("process_") and not family.name.endswith("_created")
    }

    assert exposed == {(each.name, each.kind, each.text) for each in metrics.instruments}
    assert all(each.name.startswith("hexgrid_") and each.text for each in metrics.instruments)
    assert len(exposed) == len(metrics.instruments)
