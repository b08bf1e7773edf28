"""Samples of /metrics, and what changed between two readings: sums, rates, means, quantiles."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hexgrid.metrics import Metrics, ModelMetrics
from hexgrid.monitor.reading import Change, Reading, parse

SECONDS = "hexgrid_phase_duration_seconds"
QUEUE = {"model_name": "m", "phase": "queue"}


def reading(text: str, at: float = 0.0) -> Reading:
    return parse(text, at)


def change(before: str, after: str, seconds: float = 1.0) -> Change:
    return Change(parse(before, 10.0), parse(after, 10.0 + seconds))


def timed(*seconds: float, before: tuple[float, ...] = ()) -> Change:
    """What a real histogram tells after `seconds` were observed in it."""
    metrics = Metrics()
    model, other = ModelMetrics(metrics, "m"), ModelMetrics(metrics, "other")
    for each in before:
        model.phase("queue", each)
    first = parse(metrics.text().decode(), 0.0)
    for each in seconds:
        model.phase("queue", each)
        model.phase("forward", 7.0)
        other.phase("queue", 7.0)
    return Change(first, parse(metrics.text().decode(), 2.0))


def test_samples_are_found_by_name_and_labels() -> None:
    found = reading('a{x="1",y="1"} 1\na{x="1",y="2"} 2\na{x="2",y="2"} 4\nb 8\n')

    assert found.total("a") == 7
    assert found.total("a", x="1") == 3
    assert found.total("a", x="1", y="2") == 2
    assert found.total("b") == 8
    assert found.total("a", x="3") is None
    assert found.total("c") is None
    assert found.values_of("x", "a") == ["1", "2"]
    assert found.values_of("y", "a", x="2") == ["2"]
    assert found.values_of("z", "a") == []


@pytest.mark.parametrize("text", ["<html>", "a{ 1", '{"error": 1}', "a one"])
def test_what_is_no_exposition_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (the parser's own words)
        reading(text)


def test_counters_grow_by_the_second() -> None:
    grown = change('a{x="1"} 1\na{x="2"} 5\n', 'a{x="1"} 4\na{x="2"} 6\n', seconds=2)

    assert (grown.increase("a"), grown.increase("a", x="1")) == (4, 3)
    assert grown.rate("a") == 2


def test_a_counter_that_is_new_has_grown_from_nothing() -> None:
    assert change('a{x="1"} 1\n', 'a{x="1"} 1\na{x="2"} 3\n').increase("a") == 3


def test_a_counter_that_fell_has_begun_again() -> None:
    assert change('a{x="1"} 100\na{x="2"} 1\n', 'a{x="1"} 2\na{x="2"} 4\n').increase("a") == 5


def test_a_counter_that_is_not_there_has_not_grown() -> None:
    assert change("b 1\n", "b 1\n").increase("a") == 0


def test_a_mean_is_of_what_was_observed_meanwhile() -> None:
    found = timed(1.0, 2.0, 6.0, before=(100.0,))

    assert found.mean(SECONDS, **QUEUE) == 3
    assert timed().mean(SECONDS, **QUEUE) is None


def test_a_quantile_lies_within_its_bucket_as_prometheus_has_it() -> None:
    found = timed(*[0.02] * 6, *[0.4] * 4, before=(200.0,) * 50)

    # Rank 5 is the fifth of six in the bucket up to 0.025, rank 9 the third of four in that up to 0.5.
    assert found.quantile(0.5, SECONDS, **QUEUE) == pytest.approx(0.01 + 0.015 * 5 / 6)
    assert found.quantile(0.9, SECONDS, **QUEUE) == pytest.approx(0.25 + 0.25 * 3 / 4)


def test_the_first_bucket_begins_at_nothing() -> None:
    assert timed(0.0005, 0.0005).quantile(0.5, SECONDS, **QUEUE) == pytest.approx(0.0005)


def test_past_the_last_bound_that_bound_is_told() -> None:
    assert timed(1000.0).quantile(0.5, SECONDS, **QUEUE) == 300


def test_without_observations_there_is_no_quantile() -> None:
    assert timed().quantile(0.5, SECONDS, **QUEUE) is None
    assert timed(1.0).quantile(0.5, "nothing") is None


@given(
    st.lists(st.floats(min_value=0, max_value=250), min_size=1, max_size=20),
    st.floats(min_value=0.01, max_value=1),
)
def test_a_quantile_is_in_the_bucket_of_the_observation_at_its_rank(
    seconds: list[float], share: float
) -> None:
    bounds = (
        0,
        0.001,
        0.0025,
        0.005,
        0.01,
        0.025,
        0.05,
        0.1,
        0.25,
        0.5,
        1,
        2.5,
        5,
        10,
        30,
        60,
        300,
    )
    exact = sorted(seconds)[math.ceil(share * len(seconds)) - 1]
    place = next(i for i, bound in enumerate(bounds) if exact <= bound)
    low, high = bounds[max(place - 1, 0)], bounds[max(place, 1)]

    found = timed(*seconds).quantile(share, SECONDS, **QUEUE)

    assert found is not None
    assert low - 1e-9 <= found <= high + 1e-9
