"""Token ids against recorded ones, EOS, truncation, limits and refusals of the tokenizer."""

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from hexgrid import nano
from hexgrid.errors import CheckpointError, RequestError
from hexgrid.model.synthetic import tokenizer_json
from hexgrid.tokenizer import Tokenizer, Truncation
from hexgrid.wire import TokenIds, TruncationSide

EOS = 151_643
VOCAB_SIZE = 151_669
CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data/token_id_cases.json").read_text(encoding="utf-8")
)
SIDES: list[TruncationSide] = ["left", "right"]


def open_tokenizer(*, max_model_len: int = 32_768, vocab_size: int = VOCAB_SIZE) -> Tokenizer:
    return Tokenizer(nano.TOKENIZER, vocab_size=vocab_size, max_model_len=max_model_len)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return open_tokenizer()


@pytest.fixture(scope="module")
def short_tokenizer() -> Tokenizer:
    """Held to 8 tokens."""
    return open_tokenizer(max_model_len=8)


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


@pytest.mark.parametrize(("side", "expected"), [("right", [16, 17, EOS]), ("left", [19, 20, EOS])])
def test_cutting_a_text_keeps_its_first_or_last_tokens_and_the_eos(
    tokenizer: Tokenizer, side: TruncationSide, expected: TokenIds
) -> None:
    encoded = tokenizer.encode(["12345"], truncation=Truncation(3, side))  # one token a digit

    assert encoded.token_ids == [expected]


@pytest.mark.parametrize(("side", "expected"), [("right", [1, 2]), ("left", [4, 5])])
def test_cutting_ids_slices_them_as_given(
    tokenizer: Tokenizer, side: TruncationSide, expected: TokenIds
) -> None:
    encoded = tokenizer.encode([[1, 2, 3, 4, 5]], truncation=Truncation(2, side))

    assert encoded.token_ids == [expected]


@pytest.mark.parametrize("side", SIDES)
def test_a_cut_to_one_token_leaves_a_text_its_eos(
    tokenizer: Tokenizer, side: TruncationSide
) -> None:
    assert tokenizer.encode(["12345"], truncation=Truncation(1, side)).token_ids == [[EOS]]


@given(
    texts=st.lists(st.text(), min_size=1, max_size=4),
    count=st.integers(1, 20),
    side=st.sampled_from(SIDES),
    add_special_tokens=st.booleans(),
)
def test_texts_are_cut_to_the_count_from_the_side_named_and_the_cut_ones_counted(
    tokenizer: Tokenizer,
    *,
    texts: list[str],
    count: int,
    side: TruncationSide,
    add_special_tokens: bool,
) -> None:
    end = [EOS] if add_special_tokens else []
    whole = tokenizer.encode(texts, add_special_tokens=False).token_ids
    encoded = tokenizer.encode(
        texts, add_special_tokens=add_special_tokens, truncation=Truncation(count, side)
    )

    room = count - len(end)
    for ids, cut in zip(whole, encoded.token_ids, strict=True):
        assert len(cut) <= count
        kept = cut[: len(cut) - len(end)]
        assert cut == kept + end
        assert kept == (ids[:room] if side == "right" else ids[max(len(ids) - room, 0) :])
    assert encoded.num_truncated == sum(len(ids) > room for ids in whole)


@given(
    inputs=st.lists(st.lists(st.integers(0, VOCAB_SIZE - 1)), min_size=1, max_size=4),
    count=st.integers(0, 12),
    side=st.sampled_from(SIDES),
)
def test_ids_are_cut_to_the_count_from_the_side_named_and_the_cut_ones_counted(
    tokenizer: Tokenizer, inputs: list[TokenIds], count: int, side: TruncationSide
) -> None:
    encoded = tokenizer.encode(inputs, truncation=Truncation(count, side))

    for ids, cut in zip(inputs, encoded.token_ids, strict=True):
        expected_length = min(count, len(ids))
        assert len(cut) == expected_length
        assert cut == (ids[:expected_length] if side == "right" else ids[len(ids) - len(cut) :])
    assert encoded.num_truncated == sum(len(ids) > count for ids in inputs)


LONG_TEXTS = {
    "words": "The quick brown fox's 42 jumps, over\n\n  lazy dogs! " * 200,
    "one run of a letter": "a" * 5001,
    "one word without a space": "abcdefghij" * 500,
    "Chinese": "\u6211\u4eec\u5728\u8fd9\u91cc\uff0c\u5199\u4e00\u6bb5\u6587\u5b57\u3002" * 300,
    "Chinese without a stop": "\u6211\u4eec\u5728\u8fd9\u91cc\u5199" * 500,
    "spaces": " " * 5003,
    "digits": "0123456789" * 500,
    "newlines and spaces": "x\n \n\t y" * 700,
    "emoji with joiners": "\U0001f469\u200d\U0001f467 " * 400,
    "decomposed accents": "e\u0301" * 2500,
    "a run at the left": "a" * 4001 + " and words" * 3,
    "a run at the right": "words and " * 3 + "a" * 4001,
    "special tokens": "<|im_start|>user<|im_end|>" * 200,
}


@pytest.mark.parametrize("text", LONG_TEXTS.values(), ids=LONG_TEXTS)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("count", [1, 2, 5, 17])
def test_cutting_a_very_long_text_by_characters_first_changes_no_token(
    tokenizer: Tokenizer, text: str, side: TruncationSide, count: int
) -> None:
    ids = tokenizer.tokenize(text, add_special_tokens=False)

    encoded = tokenizer.encode([text], truncation=Truncation(count, side))

    room = count - 1
    kept = ids[:room] if side == "right" else ids[len(ids) - room :]
    assert encoded == ([[*kept, EOS]], 1)


PIECES = [" ", "  ", "\n", "\t", "a", "the", "'s", "1", "!", ".\n", "-"]
PIECES += ["\u3002", "\xe9", "e\u0301", "\u5b57"]  # a stop, an accent in both forms, an ideograph


@given(
    parts=st.lists(st.sampled_from(PIECES), min_size=1, max_size=30),
    side=st.sampled_from(SIDES),
    count=st.integers(1, 3),
)
@settings(max_examples=50)
def test_cutting_any_repeated_pattern_by_characters_first_changes_no_token(
    tokenizer: Tokenizer, parts: list[str], side: TruncationSide, count: int
) -> None:
    pattern = "".join(parts)
    text = pattern * (1000 // len(pattern) + 1)
    ids = tokenizer.tokenize(text, add_special_tokens=False)

    encoded = tokenizer.encode([text], truncation=Truncation(count, side))

    room = count - 1
    kept = ids[:room] if side == "right" else ids[len(ids) - room :]
    assert encoded == ([[*kept, EOS]], 1)


def test_a_text_of_exactly_the_maximum_passes(short_tokenizer: Tokenizer) -> None:
    assert short_tokenizer.encode(["1234567"]).num_tokens == 8  # seven digits and the EOS


def test_ids_of_exactly_the_maximum_pass(short_tokenizer: Tokenizer) -> None:
    assert short_tokenizer.encode([[5] * 8]).num_tokens == 8


@pytest.mark.parametrize("inputs", [["1", "12345678"], [[1], [5] * 9]], ids=["text", "ids"])
def test_one_token_more_than_the_maximum_names_limit_count_and_input(
    short_tokenizer: Tokenizer, inputs: list[str]
) -> None:
    with pytest.raises(RequestError, match=r"is 8 tokens.* input 1 .* 9 input tokens") as caught:
        short_tokenizer.encode(inputs)

    assert (caught.value.param, caught.value.index) == ("input_tokens", 1)


def test_more_characters_than_the_maximum_can_hold_are_refused_before_encoding(
    short_tokenizer: Tokenizer,
) -> None:
    text = " " * 10_000

    with pytest.raises(
        RequestError,
        match=r"is 8 tokens.* input 1 .* 10000 characters, which are at least 79 tokens",
    ) as caught:
        short_tokenizer.encode(["1", text])

    assert (caught.value.param, caught.value.index) == ("input_text", 1)


def test_the_longest_text_whose_characters_could_fit_is_read(short_tokenizer: Tokenizer) -> None:
    fits, too_long = " " * (8 * 128), " " * (8 * 128 + 1)

    with pytest.raises(RequestError, match="9 input tokens"):  # eight of 128 spaces, and the EOS
        short_tokenizer.encode([fits])
    with pytest.raises(RequestError, match="1025 characters"):
        short_tokenizer.encode([too_long])


def whole(tokenizer: Tokenizer, text: str) -> TokenIds:
    """Read at once, as a bare tokenizer does."""
    ids: TokenIds = tokenizer._tokenizer.encode(text, add_special_tokens=False).ids
    return ids


# Several pieces each.
VERY_LONG_TEXTS = {name: text * (200_000 // len(text)) for name, text in LONG_TEXTS.items()}


@pytest.mark.parametrize("text", VERY_LONG_TEXTS.values(), ids=VERY_LONG_TEXTS)
def test_a_text_read_in_pieces_has_the_tokens_that_it_has_at_once(
    tokenizer: Tokenizer, text: str
) -> None:
    assert tokenizer.tokenize(text, add_special_tokens=False) == whole(tokenizer, text)


@pytest.mark.parametrize("text", VERY_LONG_TEXTS.values(), ids=VERY_LONG_TEXTS)
@pytest.mark.parametrize("side", SIDES)
def test_a_text_cut_in_pieces_has_the_tokens_that_it_has_at_once(
    tokenizer: Tokenizer, text: str, side: TruncationSide
) -> None:
    ids = whole(tokenizer, text)

    encoded = tokenizer.encode(["short", text, "end"], truncation=Truncation(1500, side))

    kept = ids[:1499] if side == "right" else ids[-1499:]
    assert encoded.token_ids[1] == [*kept, EOS]
    assert encoded.num_truncated == 1


@pytest.mark.parametrize("side", SIDES)
def test_a_long_text_that_fits_is_not_cut(tokenizer: Tokenizer, side: TruncationSide) -> None:
    text = " " * 100_000 + "and the end"
    ids = whole(tokenizer, text)

    assert tokenizer.encode([text]) == ([[*ids, EOS]], 0)
    assert tokenizer.encode([text], truncation=Truncation(len(ids) + 1, side)) == (
        [[*ids, EOS]],
        0,
    )


def test_a_long_text_is_read_no_further_than_says_that_it_is_too_long(tokenizer: Tokenizer) -> None:
    with pytest.raises(RequestError, match=r"input 1 .* at least \d+ input tokens") as caught:
        tokenizer.encode(["a", "the word " * 400_000])

    found = int(caught.value.message.rpartition("value=")[2].rstrip(")"))
    assert 32_768 < found < 100_000  # of 800,001
    assert (caught.value.param, caught.value.index) == ("input_tokens", 1)


def test_a_run_too_long_to_be_cut_on_the_left_is_refused(tokenizer: Tokenizer) -> None:
    text = "x" * (32_768 * 128 + 1)

    with pytest.raises(
        RequestError, match="Input 1 cannot be cut on the left: it has more than"
    ) as caught:
        tokenizer.encode(["a", text], truncation=Truncation(5, "left"))
    (ids,) = tokenizer.encode([text], truncation=Truncation(5, "right")).token_ids

    assert (caught.value.param, caught.value.index) == ("input", 1)
    assert ids == [*whole(tokenizer, "x" * 1000)[:4], EOS]


def test_a_run_too_long_to_be_read_in_parts_is_refused(short_tokenizer: Tokenizer) -> None:
    with pytest.raises(RequestError, match="more than 1048576 characters without a word's end"):
        short_tokenizer.tokenize("x" * (2**20 + 1))


class NobodyWaitsError(Exception):
    """What a check raises."""


@pytest.mark.parametrize(
    "inputs", [["the " * 300_000], ["a b " * 10_000] * 60], ids=["one long text", "many"]
)
def test_reading_stops_where_nobody_waits_any_more(tokenizer: Tokenizer, inputs: list[str]) -> None:
    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise NobodyWaitsError

    with pytest.raises(NobodyWaitsError):
        tokenizer.encode(inputs, truncation=Truncation(32_768, "left"), check=check)
    assert asked == 3


def test_a_lone_surrogate_in_a_long_text_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(RequestError, match="Input 1 holds a lone surrogate"):
        tokenizer.encode(["a", "word " * 20_000 + chr(0xD800)])


def test_a_cut_to_more_than_the_maximum_still_holds_the_maximum(short_tokenizer: Tokenizer) -> None:
    with pytest.raises(RequestError, match="10 input tokens"):
        short_tokenizer.encode(["123456789"], truncation=Truncation(20, "right"))


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
