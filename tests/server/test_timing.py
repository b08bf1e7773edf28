"""Server-Timing: its form, what it adds up to, and where it stays away."""

import re
from concurrent.futures import Future
from time import perf_counter

import httpx2
import pytest

from hexgrid.encoding import Vectors
from hexgrid.engine.sequence import TimedFuture
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.server.timing import Timing
from tests.server.running import embed, serving, variant

PHASES = ["parse", "tokenize", "queue", "forward", "encode", "total"]
# https://www.w3.org/TR/server-timing/#the-server-timing-header-field
_METRIC = r'[a-z]+;(?:dur=\d+\.\d\d|desc="[^"\\]*")'


def durations(response: httpx2.Response) -> dict[str, float]:
    """Milliseconds by name."""
    header = response.headers["server-timing"]
    assert re.fullmatch(rf"{_METRIC}(?:, {_METRIC})*", header)
    return {name: float(dur) for name, dur in re.findall(r"(\w+);dur=([\d.]+)", header)}


def test_every_phase_is_told_and_they_fit_into_the_total(client: httpx2.Client) -> None:
    found = durations(embed(client, "a text"))

    assert list(found) == PHASES
    assert found.pop("total") >= sum(found.values()) - 0.05  # each is rounded
    assert found["forward"] > 0


def test_a_refused_request_is_told_the_phases_that_it_reached(client: httpx2.Client) -> None:
    assert list(durations(embed(client, "a", dimensions=0))) == ["parse", "tokenize", "total"]
    assert list(durations(embed(client, 5))) == ["total"]


@pytest.mark.parametrize("path", ["/version", "/v1/models", "/nope"])
def test_other_paths_have_no_times(client: httpx2.Client, path: str) -> None:
    assert "server-timing" not in client.get(path).headers


def test_it_can_be_hidden(tiny_model: ServedModel) -> None:
    metrics = Metrics()
    with serving([variant(tiny_model, metrics, "m")], metrics, hide_server_timing=True) as client:
        assert "server-timing" not in embed(client, "a").headers


def test_cached_inputs_are_told(tiny_model: ServedModel) -> None:
    metrics = Metrics()
    model = variant(tiny_model, metrics, "m", result_cache_bytes=2**20)
    with serving([model], metrics) as client:
        first = embed(client, ["a", "b"])
        second = embed(client, ["c", "a", "b"])
        third = embed(client, ["a"])

    assert "cache" not in first.headers["server-timing"]
    assert 'cache;desc="2 inputs"' in second.headers["server-timing"]
    assert 'cache;desc="1 inputs"' in third.headers["server-timing"]
    assert durations(third)["queue"] == durations(third)["forward"] == 0


def test_an_engine_that_tells_no_times_leaves_them_out() -> None:
    timing = Timing(perf_counter())

    timing.add_engine(Future[Vectors]())

    assert list(timing) == []
    assert timing.num_cached is None


def test_times_of_the_engine_are_told_one_after_the_other() -> None:
    future = TimedFuture(10.0)
    future.note_run(11.0, 13.0)
    timing = Timing(9.0)

    timing.add_engine(future)

    assert [tuple(phase) for phase in timing] == [("queue", 10.0, 1.0), ("forward", 11.0, 2.0)]
    assert timing.header(14.0) == "queue;dur=1000.00, forward;dur=2000.00, total;dur=5000.00"
