"""Vectors of a loaded model and of a server: the same numbers, cut texts counted, refusals told.

hexgrid's own server is the real one. What other servers do is shown by a small one on loopback.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hexgrid.client import exchange
from hexgrid.config.settings import Secret
from hexgrid.engine.served_model import ServedModel
from hexgrid.errors import (
    ConfigError,
    HexgridError,
    ModelNotFoundError,
    RateLimitedError,
    UnauthorizedError,
    UnreachableError,
)
from hexgrid.evaluation.datasets import read_sets
from hexgrid.evaluation.local import embed_with
from hexgrid.evaluation.remote import opened_remote
from hexgrid.evaluation.run import evaluate
from hexgrid.metrics import Metrics
from hexgrid.tokenizer import Tokenizer
from tests.other_server import Answer, good, in_base64, items, other_server
from tests.server.running import KEY, serving, variant

OWN = Path(__file__).parents[1] / "data/eval"
TEXTS = ["one text", "", "a third, longer text"]
SHORT = 8  # tokens that the model "short" takes
LONG_TEXT = "many words " * SHORT


@pytest.fixture(scope="module")
def short_model(tiny_checkpoint: Path, tiny_model: ServedModel) -> ServedModel:
    """`tiny_model`, taking few tokens."""
    tokenizer = Tokenizer(
        tiny_checkpoint / "tokenizer.json",
        vocab_size=tiny_model.tokenizer.vocab_size,
        max_model_len=SHORT,
    )
    return replace(tiny_model, tokenizer=tokenizer, max_model_len=SHORT)


@pytest.fixture(scope="module")
def url(tiny_model: ServedModel, short_model: ServedModel) -> Iterator[str]:
    """A hexgrid server of the models "tiny" and "short", which wants a key."""
    metrics = Metrics()
    models = [variant(tiny_model, metrics, "tiny"), variant(short_model, metrics, "short")]
    with serving(models, metrics, api_key=(Secret(KEY),)) as client:
        yield str(client.base_url.join("/v1"))


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of this machine has nothing to do with loopback."""
    monkeypatch.setenv("NO_PROXY", "*")


def test_a_server_gives_the_scores_of_the_model_in_process(
    url: str, tiny_model: ServedModel
) -> None:
    sets = read_sets(OWN)
    options: dict[str, Any] = {"dimensions": (64, 16), "query_prompt": "Instruct: x\nQuery:"}

    here = evaluate(sets, embed_with(tiny_model), **options)
    with opened_remote(url, model="tiny", key=KEY) as remote:
        there = evaluate(sets, remote.embed, **options)

    assert there == here
    assert len(here.results) == 4


def test_long_texts_are_cut_and_counted_in_process(short_model: ServedModel) -> None:
    answer = embed_with(short_model)([LONG_TEXT, "short", LONG_TEXT])

    assert answer.num_truncated == 2
    assert np.allclose(answer.vectors[0], answer.vectors[2], atol=1e-5)


def test_long_texts_are_cut_and_counted_by_a_hexgrid_server(
    url: str, short_model: ServedModel
) -> None:
    here = embed_with(short_model)([LONG_TEXT, "short"])
    with opened_remote(url, model="short", key=KEY) as remote:
        there = remote.embed([LONG_TEXT, "short"])
        none_cut = remote.embed(["short"])

    unit = here.vectors / np.linalg.norm(here.vectors, axis=1, keepdims=True)
    assert np.allclose(there.vectors, unit, atol=1e-5)
    assert (there.num_truncated, none_cut.num_truncated) == (1, 0)


def test_one_of_several_models_must_be_named(url: str) -> None:
    with (
        pytest.raises(ConfigError, match=r"lists 2 models \(tiny, short\).*--url-model"),
        opened_remote(url, model=None, key=KEY),
    ):
        pass


def test_a_model_that_is_not_there_is_told(url: str) -> None:
    with (
        opened_remote(url, model="large", key=KEY) as remote,
        pytest.raises(ModelNotFoundError, match=r"The model `large` does not exist"),
    ):
        remote.embed(TEXTS)


@pytest.mark.parametrize("key", [None, "wrong"])
def test_a_missing_or_wrong_key_is_told_with_its_variable(url: str, key: str | None) -> None:
    with (
        pytest.raises(UnauthorizedError, match="HEXGRID_API_KEY or OPENAI_API_KEY"),
        opened_remote(url, model=None, key=key),
    ):
        pass


def test_a_bare_address_will_do(url: str) -> None:
    with opened_remote(url.removesuffix("/v1"), model="tiny", key=KEY) as remote:
        assert remote.url == url
        assert len(remote.embed(TEXTS).vectors) == len(TEXTS)


def test_a_path_that_is_no_api_is_told(url: str) -> None:
    with (
        opened_remote(f"{url}/other", model="tiny", key=KEY) as remote,
        pytest.raises(ModelNotFoundError, match="or no /embeddings behind it"),
    ):
        remote.embed(TEXTS)


def test_a_server_that_is_not_there_is_told() -> None:
    with (
        pytest.raises(UnreachableError, match=r"http://127\.0\.0\.1:9/v1 cannot be reached"),
        opened_remote("http://127.0.0.1:9/v1/", model="x", key=None),
    ):
        pass


def test_any_openai_server_is_asked_in_base64_with_its_only_model_and_the_key() -> None:
    with (
        other_server(good) as other,
        opened_remote(f"{other.url}/", model=None, key="k-1") as remote,
    ):
        answer = remote.embed(["a", "bcd"])

    assert answer.vectors.tolist() == [[1, 1], [3, 1]]
    assert answer.num_truncated is None, "it does not say"
    assert other.keys == {"Bearer k-1"}
    assert other.requests == [
        {
            "model": "m",
            "input": ["a", "bcd"],
            "encoding_format": "base64",
            "truncate_prompt_tokens": -1,
        }
    ]


def test_a_server_without_a_list_is_asked_for_the_model_named() -> None:
    with (
        other_server(good, models=None) as other,
        opened_remote(other.url, model="named", key=None) as remote,
    ):
        remote.embed(["a"])

    assert other.requests[0]["model"] == "named"
    assert other.keys == {None}


def test_without_a_list_or_a_name_there_is_no_model() -> None:
    with (
        other_server(good, models=None) as other,
        pytest.raises(ConfigError, match=r"lists 0 models \(none\)"),
        opened_remote(other.url, model=None, key=None),
    ):
        pass


def test_numbers_and_another_order_are_read_too() -> None:
    body = {"data": [{"index": 1, "embedding": [0, 2]}, {"index": 0, "embedding": [1, 0.5]}]}
    with (
        other_server(lambda _: (200, {}, body)) as other,
        opened_remote(other.url, model=None, key=None) as remote,
    ):
        assert remote.embed(["a", "b"]).vectors.tolist() == [[1, 0.5], [0, 2]]


def test_a_server_that_refuses_to_cut_is_asked_without_it_from_then_on() -> None:
    def strict(request: dict[str, Any]) -> Answer:
        if "truncate_prompt_tokens" in request:
            return 400, {}, {"error": {"message": "Unrecognized: truncate_prompt_tokens"}}
        return good(request)

    with other_server(strict) as other, opened_remote(other.url, model=None, key=None) as remote:
        remote.embed(["a"])
        answer = remote.embed(["b"])

    assert answer.num_truncated is None
    assert ["truncate_prompt_tokens" in request for request in other.requests] == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("status", [429, 503])
def test_an_overloaded_server_is_asked_again(status: int) -> None:
    refusal: Answer = (status, {"retry-after": "0"}, {})
    refusals = iter([refusal, refusal])

    def busy(request: dict[str, Any]) -> Answer:
        return next(refusals, None) or good(request)

    with other_server(busy) as other, opened_remote(other.url, model=None, key=None) as remote:
        assert remote.embed(["a"]).vectors.tolist() == [[1, 1]]

    assert len(other.requests) == 3


def test_a_server_that_stays_overloaded_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_FIRST_WAIT_SECONDS", 0.0)
    refusal = (429, {"retry-after": "0"}, {"error": {"message": "slow down"}})
    with (
        other_server(lambda _: refusal) as other,
        opened_remote(other.url, model=None, key=None) as remote,
        pytest.raises(RateLimitedError, match="slow down"),
    ):
        remote.embed(["a"])


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (400, {"error": {"message": "input 0 is empty"}}, "^input 0 is empty$"),
        (500, b"<html>oops</html>", "answered 500: <html>oops"),
        (200, b"<html>welcome</html>", "no embeddings response"),
        (200, {"data": [{"embedding": [1.0]}]}, "missing required field `index`"),
        (200, items([1.0, 2.0]), "answered 1 vectors to 2 inputs"),
        (200, items([1.0], [1.0], [1.0]), "answered 3 vectors to 2 inputs"),
        (200, items([1.0], [1.0, 2.0]), "vectors of 1 and of 2 dimensions"),
        (200, items([], []), "vectors without a number"),
        (200, items("not base64!", "x"), "no embeddings response"),
        (200, items(in_base64(1, float("nan")), in_base64(1, 2)), "NaN or infinity"),
    ],
)
def test_an_answer_that_is_none_is_told(status: int, body: Any, message: str) -> None:
    with (
        other_server(lambda _: (status, {}, body)) as other,
        opened_remote(other.url, model=None, key=None) as remote,
        pytest.raises(HexgridError, match=message),
    ):
        remote.embed(["a", "b"])
