"""Readings of real instruments -> figures."""

from collections.abc import Callable

import pytest

from hexgrid.metrics import Metrics, ModelMetrics
from hexgrid.monitor.figures import Figures, Latency, ModelFigures, figures
from hexgrid.monitor.reading import Change, parse

NOW = 2e9


def between(metrics: Metrics, work: Callable[[], None]) -> Figures:
    """The figures of two seconds in which `work` was done."""
    before = parse(metrics.text().decode(), 100.0)
    work()
    return figures(Change(before, parse(metrics.text().decode(), 102.0)), NOW)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def model(metrics: Metrics) -> ModelMetrics:
    return ModelMetrics(metrics, "m")


def only(found: Figures) -> ModelFigures:
    (model,) = found.models
    return model


def test_a_models_rates_are_those_of_the_interval(metrics: Metrics, model: ModelMetrics) -> None:
    model.inputs.inc(1000)
    model.request_seconds.observe(1.0)

    def work() -> None:
        model.inputs.inc(6)
        model.prompt_tokens.inc(600)
        for _ in range(4):
            model.request_seconds.observe(1.0)

    found = only(between(metrics, work))

    assert (found.name, found.requests_per_s, found.inputs_per_s, found.tokens_per_s) == (
        "m",
        2,
        3,
        300,
    )


def test_the_queue_is_that_of_the_end(metrics: Metrics, model: ModelMetrics) -> None:
    model.queue_max_tokens.set(1000)
    model.queue_tokens.set(5)

    def work() -> None:
        model.queue_tokens.set(250)
        model.queue_sequences.set(7)

    found = only(between(metrics, work))

    assert (found.queue_inputs, found.queue_tokens, found.queue_share) == (7, 250, 0.25)


def test_batches_are_means(metrics: Metrics, model: ModelMetrics) -> None:
    def work() -> None:
        for sequences, tokens in ((2, 100), (4, 300)):
            model.batch_sequences.observe(sequences)
            model.batch_tokens.observe(tokens)
        model.reused_tokens.inc(100)

    found = only(between(metrics, work))

    assert (found.batch_inputs, found.batch_tokens) == (3, 200)
    assert found.prefix_cache_share == 0.25


def test_the_caches_shares_are_of_the_inputs_that_they_were_asked_for(
    metrics: Metrics, model: ModelMetrics
) -> None:
    def work() -> None:
        model.result_cache_hits.inc(5)
        model.joined_inputs.inc(1)
        model.result_cache_misses.inc(4)
        model.result_store_hits.inc(3)

    found = only(between(metrics, work))

    assert (found.result_cache_share, found.result_store_share) == (0.5, 0.75)


def test_latencies_are_in_milliseconds_by_phase(metrics: Metrics, model: ModelMetrics) -> None:
    def work() -> None:
        model.request_seconds.observe(0.4)
        model.phase("forward", 0.04)

    latency = only(between(metrics, work)).latency

    assert list(latency) == ["request", "tokenize", "queue", "forward", "encode"]
    request, forward = (latency[part] for part in ("request", "forward"))
    assert (request.p50_ms, request.p95_ms) == pytest.approx((375, 487.5))
    assert (forward.p50_ms, forward.p95_ms) == pytest.approx((37.5, 48.75))
    assert latency["queue"] == Latency(None, None)


def test_refusals_are_by_reason_and_by_model_where_there_is_one(
    metrics: Metrics, model: ModelMetrics
) -> None:
    ModelMetrics(metrics, "other")
    metrics.rejected("m", "bad_request")

    def work() -> None:
        for _ in range(3):
            metrics.rejected("m", "overloaded")
        metrics.rejected("", "unauthorized")

    found = between(metrics, work)

    assert found.rejected_per_s == {"unauthorized": 0.5}
    # What never happened is not told; what did not happen lately is.
    assert [each.rejected_per_s for each in found.models] == [
        {"bad_request": 0, "overloaded": 1.5},
        {},
    ]


def test_a_model_that_cannot_answer_is_told(metrics: Metrics, model: ModelMetrics) -> None:
    model.ready.set(1)
    ModelMetrics(metrics, "dead").ready.set(0)

    found = between(metrics, lambda: None)

    assert [(each.name, each.ready) for each in found.models] == [("m", True), ("dead", False)]


def test_the_servers_figures(metrics: Metrics) -> None:
    def work() -> None:
        metrics.http_request("/v1/embeddings", 200, 0.1)
        metrics.http_request("/live", 200, 0.1)
        metrics.in_flight.set(3)

    found = between(metrics, work)

    assert (found.seconds, found.requests_per_s, found.in_flight) == (2, 1, 3)
    assert found.version == "0.1.0"
    assert found.models == []


def test_the_process_is_told_of_where_the_system_does(metrics: Metrics) -> None:
    text = (
        "process_start_time_seconds 1.999999e9\nprocess_resident_memory_bytes 5e8\n"
        "process_cpu_seconds_total {}\nprocess_open_fds 12\n"
    )

    found = figures(Change(parse(text.format(7), 100.0), parse(text.format(10), 102.0)), NOW)

    assert (found.uptime_seconds, found.memory_bytes, found.cpu_share, found.open_files) == (
        1000,
        5e8,
        1.5,
        12,
    )
    nothing = figures(Change(parse("", 100.0), parse("", 102.0)), NOW)
    assert (nothing.uptime_seconds, nothing.memory_bytes, nothing.cpu_share) == (None, None, None)
