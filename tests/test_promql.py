"""What the tests of dashboard and alerts use finds mistakes at all."""

import pytest

from tests.promql import MistakeError, labels_of, parse

WAITING, MOST = "hexgrid_queue_tokens", "hexgrid_queue_max_tokens"
BUCKETS = "rate(hexgrid_request_duration_seconds_bucket[5m])"


@pytest.mark.parametrize(
    ("expression", "labels"),
    [
        (f"{WAITING} / {MOST} > 0.8", {"job", "instance", "model_name"}),
        (f'sum by (instance) ({WAITING}{{model_name=~"$model"}})', {"instance"}),
        (f"sum without (job) ({WAITING})", {"instance", "model_name"}),
        (f"max({WAITING})", set()),
        ("rate(hexgrid_batch_tokens_sum[$__rate_interval])", {"job", "instance", "model_name"}),
        (f"histogram_quantile(0.5, sum by (le, job) ({BUCKETS}))", {"job"}),
        ("up == 0 or absent(up)", {"job", "instance"}),
        (f"{WAITING} and on (instance) process_open_fds", {"job", "instance", "model_name"}),
        ("time() - process_start_time_seconds", {"job", "instance"}),
    ],
)
def test_the_labels_of_a_result_are_known(expression: str, labels: set[str]) -> None:
    assert labels_of(parse(expression)) == frozenset(labels)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("hexgrid_queue", "no metric hexgrid_queue"),
        ("hexgrid_phase_duration_seconds", "no metric"),
        ("hexgrid_inputs", "no metric"),
        (f'{WAITING}{{model="a"}}', f"no label model on {WAITING}"),
        (f"sum by (status) ({WAITING})", "no label status on an aggregate"),
        (f"{WAITING} / hexgrid_http_requests_in_flight", "never matches"),
        (f"{WAITING} and on (path) {MOST}", "no label path on the left side"),
        (f"{WAITING} / on (model_name) process_open_fds", "no label model_name on the right side"),
        (f"rate({WAITING}[5m])", "no counter"),
        (f"histogram_quantile(0.5, sum by (job) ({BUCKETS}))", "without le"),
    ],
)
def test_a_mistake_is_found(expression: str, said: str) -> None:
    with pytest.raises(MistakeError, match=said):
        labels_of(parse(expression))


@pytest.mark.parametrize("expression", ["sum(", "rate(up)", f"{WAITING} >", "up[5m", "nosuch(up)"])
def test_what_is_no_promql_is_refused(expression: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (the parser's own words)
        parse(expression)
