"""Token ids against recorded ones, EOS, and what is no text, no id, or no tokenizer."""

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from hexgrid.errors import CheckpointError, RequestError
from hexgrid.model.synthetic import tokenizer_json
from hexgrid.tokenizer import Tokenizer
from tests.tokenizer.official import EOS, VOCAB_SIZE, open_tokenizer

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "data/token_id_cases.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize(
    ("vocab_size", "key"),
    [(151_669, "ids_0.6B"), (151_665, "ids_4B_8B")],
    ids=["0.6B", "4B and 8B"],
)
def test_ids_are_those_recorded_from_the_official_tokenizer(
    tmp_path: Path, vocab_size: int, key: str
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(tokenizer_json(vocab_size))
    tokenizer = Tokenizer(path, vocab_size=vocab_size, max_model_len=32_768)

    encoded = tokenizer.encode([case["text"] for case in CASES])

    assert len(CASES) == 228
    assert encoded.token_ids == [case[key] for case in CASES]


def test_the_post_processor_appends_one_eos(tokenizer: Tokenizer) -> None:
    assert tokenizer.eos_ids == [EOS]


@given(texts=st.lists(st.text(), min_size=1, max_size=4))
def test_text_ends_in_exactly_one_more_eos_than_without_special_tokens(
    tokenizer: Tokenizer, texts: list[str]
) -> None:
    bare = tokenizer.encode(texts, add_special_tokens=False).token_ids

    assert tokenizer.encode(texts).token_ids == [[*ids, EOS] for ids in bare]


def test_an_empty_text_is_the_eos_alone(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode([""]).token_ids == [[EOS]]


def test_special_tokens_written_in_a_text_are_parsed_as_such(tokenizer: Tokenizer) -> None:
    (ids,) = tokenizer.encode(["a<|endoftext|>"]).token_ids

    assert ids == [64, EOS, EOS]


def test_ids_get_no_eos(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode([[9707], [64, 65]]).token_ids == [[9707], [64, 65]]


def test_tokens_are_counted_over_all_inputs(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode([[1, 2, 3], [4]]).num_tokens == 4


@pytest.mark.parametrize("code_point", [0xD800, 0xDBFF, 0xDC00, 0xDFFF], ids=hex)
def test_a_lone_surrogate_is_refused_by_its_input(tokenizer: Tokenizer, code_point: int) -> None:
    surrogate = chr(code_point)

    with pytest.raises(RequestError, match="Input 1 holds a lone surrogate") as caught:
        tokenizer.encode(["fine", f"a{surrogate}b", surrogate])

    assert (caught.value.param, caught.value.index) == ("input", 1)


@pytest.mark.parametrize("token_id", [-1, VOCAB_SIZE, 2**70])
def test_an_id_outside_the_embedding_table_is_refused_by_value_and_input(
    tokenizer: Tokenizer, token_id: int
) -> None:
    with pytest.raises(RequestError, match=f"Token id {token_id} is out of vocabulary") as caught:
        tokenizer.check_ids([[0, VOCAB_SIZE - 1], [0, token_id, 1]])

    assert (caught.value.param, caught.value.index) == ("input", 1)


def test_an_input_without_tokens_is_refused_by_its_place(tokenizer: Tokenizer) -> None:
    with pytest.raises(RequestError, match="cannot be empty") as caught:
        tokenizer.check_ids([[1], []])

    assert (caught.value.param, caught.value.index) == ("input", 1)


def test_ids_inside_the_embedding_table_pass(tokenizer: Tokenizer) -> None:
    tokenizer.check_ids([[0, VOCAB_SIZE - 1], [EOS]])


def test_tokenize_gives_ids_of_any_length_and_their_pieces(short_tokenizer: Tokenizer) -> None:
    ids = short_tokenizer.tokenize("Hello world" + " 1" * 10)
    pieces = short_tokenizer.pieces(ids)

    assert len(ids) == 23
    assert pieces[:2] == ["Hello", "\u0120world"]
    assert pieces[-1] == "<|endoftext|>"


def test_tokenize_leaves_special_tokens_out_on_request(tokenizer: Tokenizer) -> None:
    assert tokenizer.tokenize("a", add_special_tokens=False) == [64]


@given(text=st.text())
def test_detokenize_gives_the_normalised_text_back(tokenizer: Tokenizer, text: str) -> None:
    import unicodedata

    ids = tokenizer.tokenize(text, add_special_tokens=False)

    assert tokenizer.detokenize(ids) == unicodedata.normalize("NFC", text)


def test_detokenize_keeps_special_tokens_and_drops_unknown_ids(tokenizer: Tokenizer) -> None:
    assert tokenizer.detokenize([64, 10_000_000, EOS]) == "a<|endoftext|>"


def test_a_tokenizer_larger_than_the_embedding_table_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"ids up to 151668, but .* 151668 rows"):
        open_tokenizer(vocab_size=VOCAB_SIZE - 1)


def test_ids_may_have_gaps_but_not_past_the_embedding_table(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    words = tokenizers.models.WordLevel({"a": 0, "word": 7}, unk_token="a")
    tokenizers.Tokenizer(words).save(str(path))

    assert Tokenizer(path, vocab_size=8, max_model_len=8).encode(["word"]).token_ids == [[7]]
    with pytest.raises(CheckpointError, match=r"ids up to 7, but .* 7 rows"):
        Tokenizer(path, vocab_size=7, max_model_len=8)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b'{"model": {"type": "BPE"}}'])
def test_an_unreadable_tokenizer_is_refused_by_its_path(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)

    with pytest.raises(CheckpointError, match=rf"{path} cannot be read as a tokenizer"):
        Tokenizer(path, vocab_size=VOCAB_SIZE, max_model_len=8)
