"""Traces, as a collector gets them from the real SDK and its exporter."""

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from hexgrid.engine.served_model import ServedModel
from hexgrid.errors import ConfigError
from hexgrid.metrics import Metrics, ModelMetrics
from hexgrid.server.key_store import KeyStore, Limits
from hexgrid.server.tracing import Tracing, check_endpoint
from tests.server.collector import Collector, attributes, collecting
from tests.server.running import embed, post_bytes, serving, variant
from tests.server.test_errors import BrokenEngine

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
TEXT = "nobody's business"
PHASES = ["encode", "forward", "parse", "queue", "tokenize"]


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "1")  # milliseconds between two posts
    with collecting() as collector:
        yield collector


def spans_of(
    model: ServedModel, collector: Collector, body: bytes, **headers: str
) -> tuple[list[Span], dict[str, Any]]:
    """What one request gives: its spans, the request's first, and its line in the log."""
    log = io.StringIO()
    with serving(
        [model], Metrics(), log, log_format="json", otlp_traces_endpoint=collector.url
    ) as client:
        post_bytes(client, body, **headers)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    (line,) = [line for line in lines if line["logger"] == "hexgrid.access"]
    return collector.wait_for(1), line


@pytest.fixture
def model(tiny_model: ServedModel) -> ServedModel:
    return variant(tiny_model, Metrics(), "tiny")


def test_a_request_is_a_span_with_one_for_each_phase_below_it(
    model: ServedModel, collector: Collector
) -> None:
    (request, *phases), _ = spans_of(model, collector, b'{"input":["a","b"]}')

    assert (request.name, request.kind) == ("POST /v1/embeddings", Span.SPAN_KIND_SERVER)
    assert [span.name for span in phases] == PHASES
    assert {span.parent_span_id for span in phases} == {request.span_id}
    assert {span.trace_id for span in phases} == {request.trace_id}


def test_times_of_phases_lie_within_the_request_in_their_order(
    model: ServedModel, collector: Collector
) -> None:
    (request, *phases), _ = spans_of(model, collector, b'{"input":"a"}')

    phases.sort(key=lambda span: span.start_time_unix_nano)
    times = [(span.start_time_unix_nano, span.end_time_unix_nano) for span in phases]
    assert [span.name for span in phases] == ["parse", "tokenize", "queue", "forward", "encode"]
    assert all(start <= end for start, end in times)
    assert request.start_time_unix_nano <= times[0][0]
    assert times[-1][1] <= request.end_time_unix_nano


def test_attributes_say_what_was_asked_and_answered(
    model: ServedModel, collector: Collector
) -> None:
    (request, *_), line = spans_of(model, collector, b'{"input":["a","b"]}')

    assert attributes(request) == {
        "http.request.method": "POST",
        "http.route": "/v1/embeddings",
        "http.response.status_code": 200,
        "gen_ai.request.model": "tiny",
        "gen_ai.usage.input_tokens": 4,
        "hexgrid.request_id": line["request_id"],
        "hexgrid.inputs": 2,
        "hexgrid.truncated_inputs": 0,
        "hexgrid.cached_inputs": 0,
    }
    assert request.status.code == Status.STATUS_CODE_UNSET
    assert collector.resource["service.name"] == "hexgrid"


def test_the_trace_is_that_of_the_caller(model: ServedModel, collector: Collector) -> None:
    (request, *_), line = spans_of(
        model, collector, b'{"input":"a"}', traceparent=TRACEPARENT, tracestate="vendor=1"
    )

    assert (request.trace_id.hex(), request.parent_span_id.hex()) == (TRACE, PARENT)
    assert request.trace_state == "vendor=1"
    assert line["trace_id"] == TRACE


@pytest.mark.parametrize("traceparent", ["", "nonsense", f"00-{'0' * 32}-{PARENT}-01", "\n"])
def test_a_traceparent_that_is_none_begins_a_trace(
    model: ServedModel, collector: Collector, traceparent: str
) -> None:
    (request, *_), line = spans_of(
        model, collector, b'{"input":"a"}', traceparent=traceparent.strip()
    )

    assert request.parent_span_id == b""
    assert line["trace_id"] == request.trace_id.hex()


def test_neither_text_nor_key_is_sent(
    tiny_model: ServedModel, collector: Collector, tmp_path: Path
) -> None:
    store = tmp_path / "keys.sqlite3"
    key = KeyStore(store).create("search team", Limits())
    metrics = Metrics()
    with serving(
        [variant(tiny_model, metrics, "m")],
        metrics,
        otlp_traces_endpoint=collector.url,
        key_store=store,
        log_inputs=100,
    ) as client:
        client.headers["authorization"] = f"Bearer {key}"
        for fields in ({}, {"dimensions": 0}, {"model": TEXT}):
            embed(client, TEXT, **fields)
        client.get(f"/{TEXT}", params={"input": TEXT})

    collector.wait_for(4)
    assert b"POST /v1/embeddings" in collector.raw
    for secret in (TEXT, key, key.split("_")[1], "search team"):
        assert secret.encode() not in collector.raw


@pytest.mark.parametrize(
    ("body", "status", "kind", "is_error"),
    [
        (b'{"input":"a"}', 500, "InternalServerError", True),
        (b"{", 400, "Bad Request", False),
    ],
)
def test_an_error_has_its_type_and_is_one_only_if_it_is_ours(
    tiny_model: ServedModel,
    collector: Collector,
    body: bytes,
    status: int,
    kind: str,
    is_error: bool,  # noqa: FBT001 (a parameter of the test)
) -> None:
    broken = replace(tiny_model, engine=BrokenEngine(), metrics=ModelMetrics(Metrics(), "tiny"))

    (request, *_), _ = spans_of(broken, collector, body)

    found = attributes(request)
    assert (found["http.response.status_code"], found["error.type"]) == (status, kind)
    assert (request.status.code == Status.STATUS_CODE_ERROR) == is_error


def test_a_bugs_traceback_has_the_traces_id(tiny_model: ServedModel, collector: Collector) -> None:
    metrics, log = Metrics(), io.StringIO()
    model = replace(tiny_model, engine=BrokenEngine(), metrics=ModelMetrics(metrics, "tiny"))
    with serving(
        [model], metrics, log, log_format="json", otlp_traces_endpoint=collector.url
    ) as client:
        post_bytes(client, b'{"input":"a"}', traceparent=TRACEPARENT)

    (line,) = [json.loads(line) for line in log.getvalue().splitlines() if "Traceback" in line]
    assert line["trace_id"] == TRACE


def test_probes_are_not_traced(model: ServedModel, collector: Collector) -> None:
    with serving([model], Metrics(), otlp_traces_endpoint=collector.url) as client:
        for path in ("/health", "/live", "/metrics", "/version"):
            client.get(path)

    assert [span.name for span in collector.wait_for(1)] == ["GET /version"]


def test_unknown_paths_share_one_name(model: ServedModel, collector: Collector) -> None:
    with serving([model], Metrics(), otlp_traces_endpoint=collector.url) as client:
        client.get("/nope?a=b")

    (span,) = collector.wait_for(1)
    assert (span.name, attributes(span)["http.route"]) == ("GET other", "other")


def test_the_sdks_variables_decide_what_is_sampled(
    model: ServedModel, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_off")
    log = io.StringIO()
    with serving(
        [model], Metrics(), log, log_format="json", otlp_traces_endpoint=collector.url
    ) as client:
        embed(client, "not sampled")
        post_bytes(client, b'{"input":"a"}', traceparent=TRACEPARENT)

    assert {span.trace_id.hex() for span in collector.wait_for(6)} == {TRACE}
    assert len(collector.spans) == 6
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    ids = [line["trace_id"] for line in lines if line["logger"] == "hexgrid.access"]
    assert len(set(ids)) == 2  # an id to ask others for, also where we tell nothing


def test_the_sdks_variables_name_the_service_and_add_headers(
    model: ServedModel, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "embeddings-eu")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=me")

    spans_of(model, collector, b'{"input":"a"}')

    assert collector.resource["service.name"] == "embeddings-eu"
    assert collector.headers[0]["x-tenant"] == "me"
    assert collector.headers[0]["content-type"] == "application/x-protobuf"
    assert set(collector.paths) == {"/v1/traces"}


def test_a_collector_that_is_gone_fails_no_request(
    model: ServedModel, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with collecting() as gone:
        url = gone.url

    with serving([model], Metrics(), otlp_traces_endpoint=url) as client:
        assert embed(client, "a").status_code == 200


@pytest.mark.parametrize("endpoint", ["localhost:4318", "grpc://localhost:4317", "http://", ""])
def test_an_endpoint_that_is_no_http_address_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match=r"http://127\.0\.0\.1:4318/v1/traces; got"):
        check_endpoint(endpoint)


def test_a_tracing_that_saw_no_request_closes() -> None:
    Tracing("http://127.0.0.1:9/v1/traces").close()
