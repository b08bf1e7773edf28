"""Long texts, read in pieces: their tokens are those of the whole, and no more is read than is wanted."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hexgrid.errors import RequestError
from hexgrid.tokenizer import Encoded, Tokenizer, Truncation
from hexgrid.wire import TruncationSide
from tests.tokenizer.official import EOS, SIDES, whole

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
    assert encoded == Encoded([[*kept, EOS]], 1)


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
    assert encoded == Encoded([[*kept, EOS]], 1)


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

    assert tokenizer.encode([text]) == Encoded([[*ids, EOS]], 0)
    assert tokenizer.encode([text], truncation=Truncation(len(ids) + 1, side)) == Encoded(
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
