"""Upstreams that answer nonsense, too late, or not at all: what clients get is right, or an error."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from hexgrid.config.settings import Secret
from hexgrid.errors import RemoteError
from hexgrid.metrics import Metrics
from tests.server.running import embed, error, metric, serving, vectors, wait_for_metric, wait_until
from tests.upstream.fronting import open_upstreams
from tests.upstream.misbehaving import (
    HIDDEN_SIZE,
    Behaviour,
    Reply,
    Server,
    answer_with,
    running,
    vector_of,
)
from tests.upstream.misbehaving import embed as good

SECRET = "upstream-sekret"


@pytest.fixture
def bad() -> Iterator[Server]:
    with running() as server:
        server.key = SECRET
        yield server


@pytest.fixture
def other() -> Iterator[Server]:
    with running() as server:
        server.key = SECRET
        yield server


@pytest.fixture
def front(tiny_checkpoint: Path, bad: Server, other: Server) -> Iterator[httpx2.Client]:
    """In front of `bad` and `other`."""
    yield from _fronting(tiny_checkpoint, [bad, other])


@pytest.fixture
def lone(tiny_checkpoint: Path, bad: Server) -> Iterator[httpx2.Client]:
    """In front of `bad` alone."""
    yield from _fronting(tiny_checkpoint, [bad])


def _fronting(checkpoint: Path, servers: list[Server], **settings: Any) -> Iterator[httpx2.Client]:
    metrics = Metrics()
    model = open_upstreams(
        checkpoint,
        [server.url for server in servers],
        metrics,
        upstream_api_key=Secret(SECRET),
        **settings,
    )
    with serving([model], metrics) as client:
        yield client


def always(reply: Reply) -> Behaviour:
    return lambda _, __: reply


def altered(alter: Callable[[Any], Any]) -> Behaviour:
    """Every vector is altered."""
    return lambda _, body: answer_with([alter(vector_of(ids)) for ids in body["input"]])


def short(_: Server, body: dict[str, Any]) -> Reply:
    return answer_with([vector_of(ids) for ids in body["input"]][1:])


def hang(server: Server, body: dict[str, Any]) -> Reply:
    server.hanging.set()
    server.release.wait()
    return good(server, body)


def endless(_: Server, __: dict[str, Any]) -> Reply:
    return 200, b" " * 2_000_000, {}


NONSENSE: dict[str, Behaviour] = {
    "garbage": always((200, b"<html>it works</html>", {})),
    "cut JSON": always((200, b'{"object":"list","data":[{"ind', {})),
    "short list": short,
    "wrong width": altered(lambda row: row[:-1]),
    "wrong length": altered(lambda row: 2 * row),
    "zeros": altered(lambda row: 0 * row),
    "NaN as JSON": altered(lambda row: [float("nan"), *row.tolist()[1:]]),
    "no vector": altered(lambda _: None),
    "too many bytes": endless,
    "502": always((502, b"Bad Gateway at http://10.0.0.5", {})),
    "404": always((404, b'{"detail":"Not Found"}', {})),
    "401": always((401, b'{"error":"Unauthorized"}', {})),
    "redirect": always((307, b"", {"location": "http://10.0.0.5/"})),
}
each_nonsense = pytest.mark.parametrize("behaviour", NONSENSE.values(), ids=NONSENSE)


def assert_right(answer: httpx2.Response, inputs: list[list[int]]) -> None:
    np.testing.assert_allclose(vectors(answer), [vector_of(ids) for ids in inputs], atol=1e-6)


def assert_tells_nothing(answer: httpx2.Response, *servers: Server) -> None:
    for secret in (SECRET, "10.0.0.5", *(server.url.rpartition(":")[2] for server in servers)):
        assert secret not in answer.text
        assert secret not in str(answer.headers)


@each_nonsense
def test_nonsense_is_made_good_by_another_upstream(
    front: httpx2.Client, bad: Server, behaviour: Behaviour
) -> None:
    bad.behave = behaviour

    for i in range(20):
        inputs = [[i, 1], [i, 2], [i, 3]]
        assert_right(embed(front, inputs), inputs)
    wait_for_metric(front, "upstream_breaker_state", 2, upstream="0")
    assert metric(front, "upstream_calls_total", upstream="0", outcome="failed") > 0
    assert front.get("/ready").status_code == 200


@each_nonsense
def test_nonsense_of_the_only_upstream_is_an_error_that_tells_nothing_of_it(
    lone: httpx2.Client, bad: Server, behaviour: Behaviour
) -> None:
    bad.behave = behaviour

    answer = embed(lone, [[1, 2], [3]])

    assert error(answer)["code"] == 503
    assert_tells_nothing(answer, bad)
    wait_until(lambda: lone.get("/ready").status_code == 503, "not ready")
    assert_tells_nothing(lone.get("/ready"), bad)
    bad.behave = good
    wait_until(lambda: lone.get("/ready").status_code == 200, "ready again")
    assert_right(embed(lone, [[1, 2], [3]]), [[1, 2], [3]])


def test_a_call_that_is_never_answered_is_made_elsewhere(
    tiny_checkpoint: Path, bad: Server, other: Server, callers: ThreadPoolExecutor
) -> None:
    for front in _fronting(tiny_checkpoint, [bad, other], forward_timeout=3.0):
        bad.behave = hang
        jobs = [callers.submit(embed, front, [[i, i]]) for i in range(20)]

        for i, job in enumerate(jobs):
            assert_right(job.result(), [[i, i]])
        assert bad.hanging.is_set()


def test_a_client_that_leaves_cancels_the_call(lone: httpx2.Client, bad: Server) -> None:
    bad.behave = hang
    with pytest.raises(httpx2.ReadTimeout):
        lone.post("/v1/embeddings", json={"input": [[1]]}, timeout=0.5)

    wait_for_metric(lone, "upstream_calls_total", 1, outcome="cancelled")
    assert metric(lone, "upstream_outstanding_tokens") == 0


def test_overload_is_passed_on_with_its_seconds(lone: httpx2.Client, bad: Server) -> None:
    bad.behave = always((429, b'{"error":{"message":"full at 10.0.0.5"}}', {"retry-after": "17"}))

    answer = embed(lone, [[1]])

    assert error(answer)["type"] == "RateLimitError"
    assert 15 <= int(answer.headers["retry-after"]) <= 17
    assert_tells_nothing(answer, bad)
    assert lone.get("/ready").status_code == 200


def test_overload_of_one_is_taken_by_another(
    front: httpx2.Client, bad: Server, other: Server
) -> None:
    bad.behave = always((429, b"", {"retry-after": "60"}))
    num_asked = len(bad.bodies)

    for i in range(10):
        assert_right(embed(front, [[i, 5]]), [[i, 5]])

    assert len(bad.bodies) - num_asked == 1


def test_a_503_is_overload_while_the_server_says_that_it_is_well(
    lone: httpx2.Client, bad: Server
) -> None:
    bad.behave = always((503, b'{"error":{"message":"currently busy"}}', {}))
    assert error(embed(lone, [[1]]))["code"] == 429

    bad.alive = False

    wait_until(lambda: error(embed(lone, [[1]]))["code"] == 503, "unwell")


def test_an_upstream_that_says_it_is_ill_is_no_longer_used(
    lone: httpx2.Client, bad: Server
) -> None:
    bad.alive = False
    bad.behave = always((500, b"", {}))

    wait_until(lambda: lone.get("/ready").status_code == 503, "not ready")
    assert error(embed(lone, [[1]]))["code"] == 503


def test_an_input_that_is_refused_everywhere_fails_alone_and_harms_nobody(
    front: httpx2.Client, bad: Server, other: Server
) -> None:
    def refusing(server: Server, body: dict[str, Any]) -> Reply:
        if any(13 in ids for ids in body["input"]):
            return 500, b'{"error":{"message":"at 10.0.0.5 the forward pass failed"}}', {}
        return good(server, body)

    bad.behave = other.behave = refusing

    for _ in range(5):
        answer = embed(front, [[1], [2], [13], [4]])
        detail = error(answer)
        assert (detail["code"], detail["type"], detail["param"]) == (
            502,
            "BadGatewayError",
            "input",
        )
        assert "input 2" in detail["message"]
        assert_tells_nothing(answer, bad, other)
    assert_right(embed(front, [[1], [2]]), [[1], [2]])
    for number in "01":
        assert metric(front, "upstream_breaker_state", upstream=number) == 0


def test_an_upstream_that_refuses_what_others_take_is_left_alone(
    front: httpx2.Client, bad: Server
) -> None:
    bad.behave = always((500, b'{"error":{"message":"CUDA error"}}', {}))

    for i in range(10):
        assert_right(embed(front, [[i, 7]]), [[i, 7]])
    wait_for_metric(front, "upstream_breaker_state", 2, upstream="0")


def test_an_input_without_a_finite_vector_is_told_by_its_index(
    front: httpx2.Client, bad: Server, other: Server
) -> None:
    def unlucky(_: Server, body: dict[str, Any]) -> Reply:
        rows = [vector_of(ids) * (np.nan if 13 in ids else 1) for ids in body["input"]]
        return answer_with(rows)

    bad.behave = other.behave = unlucky

    detail = error(embed(front, [[1], [13], [2]]))

    assert detail["code"] == 500
    assert "NaN or infinity for input 1" in detail["message"]
    assert_right(embed(front, [[1], [2]]), [[1], [2]])
    assert metric(front, "upstream_calls_total", outcome="failed") == 0


def test_numbers_do_where_base64_is_not_known(front: httpx2.Client, bad: Server) -> None:
    bad.behave = altered(lambda row: row.tolist())

    for i in range(10):
        assert_right(embed(front, [[i]]), [[i]])
    assert metric(front, "upstream_calls_total", outcome="failed") == 0


def test_hidden_states_that_an_upstream_does_not_give_are_refused(lone: httpx2.Client) -> None:
    detail = error(embed(lone, [[1]], use_activation=False))

    assert (detail["code"], detail["param"]) == (400, "use_activation")
    assert "gives normalised vectors only" in detail["message"]
    assert vectors(embed(lone, [[1]], use_activation=True)).shape == (1, HIDDEN_SIZE)


def test_dimensions_are_cut_here(lone: httpx2.Client, bad: Server) -> None:
    cut = vector_of([1, 2])[:10]

    found = vectors(embed(lone, [[1, 2]], dimensions=10))

    np.testing.assert_allclose(found[0], cut / np.linalg.norm(cut), atol=1e-6)
    assert all("dimensions" not in body for body in bad.bodies)
    assert all(body["model"] == "upstream-name" for body in bad.bodies)


def test_the_longest_length_of_an_upstream_is_never_sent(lone: httpx2.Client, bad: Server) -> None:
    assert_right(embed(lone, [[1] * 999]), [[1] * 999])

    assert error(embed(lone, [[1] * 1000]))["code"] == 400
    assert max(len(ids) for body in bad.bodies for ids in body["input"]) == 999


def test_one_that_takes_less_than_is_served_does_not_fit(
    tiny_checkpoint: Path, bad: Server
) -> None:
    with pytest.raises(
        RemoteError, match=r"takes inputs of 1000 tokens, of which we use 999; 1200 are"
    ):
        open_upstreams(
            tiny_checkpoint,
            [bad.url],
            Metrics(),
            upstream_api_key=Secret(SECRET),
            max_model_len=1200,
        )


def test_an_upstream_that_comes_back_as_another_model_stays_out(
    front: httpx2.Client, bad: Server, other: Server
) -> None:
    bad.behave = always((502, b"", {}))
    for i in range(5):
        assert_right(embed(front, [[i]]), [[i]])

    bad.behave = altered(lambda row: row[::-1].copy())
    for i in range(30):
        assert_right(embed(front, [[i, 3]]), [[i, 3]])
    assert metric(front, "upstream_breaker_state", upstream="0") > 0
