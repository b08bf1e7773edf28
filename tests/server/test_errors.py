"""Every error in the one shape, whoever raises it; and after each of them the server still answers."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace

import httpx2
import numpy as np
import pytest

from hexgrid.encoding import Vectors
from hexgrid.engine.sequence import NO_SALT, Salt
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics, ModelMetrics
from hexgrid.wire import TokenIds
from tests.server.gated_runner import GatedRunner
from tests.server.running import connect, embed, error, post_bytes, serving, variant, vectors
from tests.server.test_body import BAD_BODIES
from tests.server.test_embedding_call import REFUSED

UNLUCKY_ID = 13


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
@pytest.mark.parametrize(
    "path", ["/nope", "/v1/nope", "/embeddings", "//v1/embeddings", "/v1/models/tiny"]
)
def test_an_unknown_path_is_told_apart_from_a_wrong_method(
    client: httpx2.Client, method: str, path: str
) -> None:
    connection = connect(client)  # httpx would tidy up the path
    connection.request(method, path)
    response = connection.getresponse()
    body = response.read()
    connection.close()

    detail = error(httpx2.Response(response.status, headers=response.getheaders(), content=body))
    assert (detail["code"], detail["type"], detail["param"]) == (404, "NotFoundError", None)
    assert f"{method} {path}" in detail["message"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/embeddings", {"POST"}),
        ("PUT", "/v1/embeddings", {"POST"}),
        ("DELETE", "/v1/embeddings", {"POST"}),
        ("PATCH", "/v1/embeddings", {"POST"}),
        ("OPTIONS", "/v1/embeddings", {"POST"}),
        ("POST", "/v1/models", {"GET", "HEAD"}),
        ("POST", "/health", {"GET", "HEAD"}),
        ("GET", "/tokenize", {"POST"}),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(
    client: httpx2.Client, method: str, path: str, allow: set[str]
) -> None:
    response = client.request(method, path)

    detail = error(response)
    assert (detail["code"], detail["type"]) == (405, "MethodNotAllowedError")
    assert set(response.headers["allow"].split(", ")) == allow


def test_head_gets_the_same_without_a_body(client: httpx2.Client) -> None:
    response = client.head("/v1/embeddings")

    assert (response.status_code, response.content) == (405, b"")


def test_a_slash_too_many_is_redirected(client: httpx2.Client) -> None:
    response = client.post("/v1/embeddings/", json={"input": "a"})

    assert response.status_code == 307
    assert response.headers["location"].endswith("/v1/embeddings")


def test_the_server_answers_after_every_bad_request(client: httpx2.Client) -> None:
    good = vectors(embed(client, "still there")).tolist()

    statuses = {post_bytes(client, body).status_code for body, *_ in BAD_BODIES}
    statuses |= {
        client.post("/v1/embeddings", json={"input": "a"} | fields).status_code
        for fields, *_ in REFUSED
    }

    assert statuses == {400}
    assert vectors(embed(client, "still there")).tolist() == good


class UnluckyRunner(GatedRunner):
    """Gives NaN for inputs that begin with UNLUCKY_ID; in float32 only if they are of that id alone."""

    def run(self, token_ids: Sequence[TokenIds], _: Sequence[Salt] = ()) -> Callable[[], Vectors]:
        return lambda: self._hidden([ids[0] == UNLUCKY_ID for ids in token_ids])

    def run_float32(self, token_ids: Sequence[TokenIds]) -> Vectors:
        return self._hidden([set(ids) == {UNLUCKY_ID} for ids in token_ids])

    def _hidden(self, bad: list[bool]) -> Vectors:
        return np.array(
            [[np.nan if nan else 1.0] * self.hidden_size for nan in bad], dtype=np.float32
        )


class FailingRunner(GatedRunner):
    """Cannot run inputs that begin with UNLUCKY_ID."""

    def __init__(self, error: type[Exception]) -> None:
        super().__init__()
        self._error = error

    def run(self, token_ids: Sequence[TokenIds], _: Sequence[Salt] = ()) -> Callable[[], Vectors]:
        if any(ids[0] == UNLUCKY_ID for ids in token_ids):
            raise self._error("secret insides")
        return super().run(token_ids)


class BrokenEngine:
    """An Engine with a bug."""

    hidden_size = 64
    death: Future[str] = Future()

    def submit(
        self, token_ids: Sequence[TokenIds], *, priority: int = 0, salt: Salt = NO_SALT
    ) -> Future[Vectors]:
        raise KeyError("secret insides", token_ids, priority, salt)

    def retry_after(self) -> int:
        return 1

    def check_health(self) -> None: ...

    def close(self) -> None: ...


def test_nan_in_both_precisions_is_a_500_that_names_the_input(tiny_model: ServedModel) -> None:
    metrics = Metrics()
    with serving([variant(tiny_model, metrics, "m", runner=UnluckyRunner())], metrics) as client:
        detail = error(embed(client, [[1, 2], [UNLUCKY_ID, 2], [UNLUCKY_ID]]))

    assert (detail["code"], detail["type"]) == (500, "InternalServerError")
    assert "NaN or infinity for input 2, in float32 too" in detail["message"]


def test_nan_in_one_precision_is_no_error(tiny_model: ServedModel) -> None:
    metrics = Metrics()
    with serving([variant(tiny_model, metrics, "m", runner=UnluckyRunner())], metrics) as client:
        assert np.isfinite(vectors(embed(client, [[1, 2], [UNLUCKY_ID, 2]]))).all()


@pytest.mark.parametrize(
    ("failure", "status", "message"),
    [
        (ValueError, 500, "failed for input 2 (3 tokens)"),
        (MemoryError, 503, "There is too little memory for input 2 (3 tokens)"),
    ],
)
def test_a_failed_pass_names_the_input_and_no_insides(
    tiny_model: ServedModel, failure: type[Exception], status: int, message: str
) -> None:
    metrics, runner = Metrics(), FailingRunner(failure)
    runner.gate.set()
    with serving([variant(tiny_model, metrics, "m", runner=runner)], metrics) as client:
        detail = error(embed(client, [[1], [2], [UNLUCKY_ID, 5, 6]]))
        vectors(embed(client, [[1], [2]]))

    assert (detail["code"], detail["param"]) == (status, "input")
    assert message in detail["message"]
    assert "secret" not in detail["message"]


def test_a_bug_of_ours_is_told_to_the_log_only(
    tiny_model: ServedModel, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics()
    model = replace(tiny_model, engine=BrokenEngine(), metrics=ModelMetrics(metrics, "tiny"))
    with serving([model], metrics) as client:
        detail = error(embed(client, "a"))

    assert (detail["code"], detail["type"]) == (500, "InternalServerError")
    assert "secret" not in detail["message"]
    assert "secret insides" in caplog.text


def test_an_input_at_fault_is_named_in_a_header(client: httpx2.Client) -> None:
    for inputs, index in (([[1], [2], []], "2"), ([[1], [10**6]], "1")):
        response = embed(client, inputs)
        assert error(response)["code"] == 400
        assert response.headers["x-hexgrid-index"] == index
    assert "x-hexgrid-index" not in embed(client, "a", dimensions=0).headers


def test_too_many_inputs_are_told_how_many_would_do(client: httpx2.Client) -> None:
    response = embed(client, [[1]] * 2049)

    assert error(response)["code"] == 400
    assert response.headers["x-hexgrid-max-inputs"] == "2048"
