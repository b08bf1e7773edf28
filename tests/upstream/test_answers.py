"""What an upstream may answer: everything that is not exactly an answer to what was asked is refused."""

import json
from typing import Any

import numpy as np
import pytest

from hexgrid.encoding import Vectors, to_base64
from hexgrid.upstream.answers import (
    Asking,
    BadAnswerError,
    message_of,
    read_cards,
    seconds_of,
)

RAW = Asking("m", 4, raw=True)
UNIT = Asking("m", 4, raw=False)
ROWS = np.array([[3, 0, 4, 0], [1, 1, 1, 1], [0, 2, 0, 0]], np.float32)
UNIT_ROWS: Vectors = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)


def item(index: int, row: Any) -> dict[str, Any]:
    return {"object": "embedding", "index": index, "embedding": row}


def base64(row: Vectors) -> str:
    return to_base64(row, "float32", "little")


def body(items: list[dict[str, Any]]) -> bytes:
    return json.dumps({"object": "list", "data": items}).encode()


def test_ids_go_out_with_base64_and_nothing_that_only_some_know() -> None:
    assert json.loads(UNIT.body([[1, 2], [3]])) == {
        "model": "m",
        "input": [[1, 2], [3]],
        "encoding_format": "base64",
    }


def test_hidden_states_and_a_salt_are_asked_for_by_vllms_fields() -> None:
    sent = json.loads(RAW.body([[1]], b"\x01\xff"))

    assert (sent["use_activation"], sent["cache_salt"]) == (False, "01ff")
    assert "dimensions" not in sent


@pytest.mark.parametrize("form", [base64, lambda row: row.tolist()], ids=["base64", "numbers"])
def test_vectors_come_back_in_the_order_of_their_indices(form: Any) -> None:
    answer = body([item(i, form(ROWS[i])) for i in (2, 0, 1)])

    assert RAW.read(answer, 3).tolist() == ROWS.tolist()


def test_normalised_vectors_are_taken_where_those_are_asked_for() -> None:
    answer = body([item(i, base64(row)) for i, row in enumerate(UNIT_ROWS)])

    assert UNIT.read(answer, 3).tolist() == UNIT_ROWS.tolist()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "no embeddings response"),
        (b"<html>", "no embeddings response"),
        (b"\xff\xfe", "no embeddings response"),
        (b'{"data":[{"index":0,"embedding":[NaN,0,0,0]}]}', "no embeddings response"),
        (b'{"data":[{"index":0,"embedding":null}]}', "no embeddings response"),
        (b'{"error":{"message":"no"}}', "no embeddings response"),
        (body([]), "0 vectors"),
        (body([item(0, [1, 0, 0, 0]), item(1, [1, 0, 0, 0])]), "2 vectors"),
        (body([item(1, [1, 0, 0, 0])]), "wrongly numbered"),
        (body([item(0, [1, 0, 0])]), "a vector of 3 numbers; the model's config.json says 4"),
        (body([item(0, "AAAA")]), "an embedding that is no vector"),
        (body([item(0, "no base64 at all")]), "an embedding that is no vector"),
        (body([item(0, [2, 0, 0, 0])]), "a vector of length 2; 1 was expected"),
        (body([item(0, [0, 0, 0, 0])]), "a vector of length 0; 1 was expected"),
    ],
)
def test_what_is_no_answer_is_refused(answer: bytes, reason: str) -> None:
    with pytest.raises(BadAnswerError, match=reason):
        UNIT.read(answer, 1)


def test_hidden_states_may_have_any_length_but_none() -> None:
    assert RAW.read(body([item(0, [0, 0, 0, 9.5])]), 1).tolist() == [[0, 0, 0, 9.5]]
    with pytest.raises(BadAnswerError, match="a vector of zeros"):
        RAW.read(body([item(0, [0, 0, 0, 0])]), 1)


@pytest.mark.parametrize("asking", [RAW, UNIT])
def test_rows_that_are_not_finite_are_left_to_the_engine(asking: Asking) -> None:
    bad = np.array([np.nan, np.inf, 0, 0], np.float32)

    read = asking.read(body([item(0, base64(UNIT_ROWS[0])), item(1, base64(bad))]), 2)

    assert np.isfinite(read).all(axis=1).tolist() == [True, False]


def test_the_bound_on_an_answer_leaves_room_for_its_longest_form() -> None:
    rows = [[-1.2345678901234567e-10] * 4] * 100

    assert len(body([item(i, row) for i, row in enumerate(rows)])) < RAW.most_bytes(100)


def test_models_are_read_with_their_lengths() -> None:
    cards = read_cards(b'{"object":"list","data":[{"id":"a","max_model_len":9,"x":1},{"id":"b"}]}')

    assert [(card.id, card.max_model_len) for card in cards] == [("a", 9), ("b", None)]
    with pytest.raises(BadAnswerError):
        read_cards(b"[]")


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b'{"error":{"message":"too\\n long"}}', "too long"),
        (b"plain\ntext", "plain text"),
        (b"x" * 1000, "x" * 300),
        (b"\xff", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_an_errors_own_words_are_one_short_line(answer: bytes, text: str) -> None:
    assert message_of(answer) == text


@pytest.mark.parametrize(
    ("said", "seconds"),
    [(None, 1), ("7", 7), ("0", 1), ("-3", 1), ("9999", 600), ("Wed, 21 Oct 2026 07:28:00 GMT", 1)],
)
def test_retry_after_is_read_within_bounds(said: str | None, seconds: int) -> None:
    assert seconds_of({} if said is None else {"retry-after": said}, 600) == seconds
