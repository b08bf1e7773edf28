"""Texts and ids cut to a count, and those that are too long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hexgrid.errors import RequestError
from hexgrid.tokenizer import Tokenizer, Truncation
from hexgrid.wire import TokenIds, TruncationSide
from tests.tokenizer.official import EOS, SIDES, VOCAB_SIZE


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


def test_a_cut_to_more_than_the_maximum_still_holds_the_maximum(short_tokenizer: Tokenizer) -> None:
    with pytest.raises(RequestError, match="10 input tokens"):
        short_tokenizer.encode(["123456789"], truncation=Truncation(20, "right"))
