"""Where texts are parted: never so that a token changes, and never into pieces past the bound."""

import unicodedata
from collections.abc import Callable, Iterator

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from hexgrid import nano
from hexgrid.text_pieces import NoWordEndError, WordEnds
from hexgrid.tokenizer_file import TokenizerFile, open_tokenizer_file

VOCAB_SIZE = 151_669
PIECES = [
    " ",
    "  ",
    "\n",
    "\r\n",
    "\t",
    "a",
    "the",
    "'s",
    "n't",
    "1",
    "42",
    "!",
    ".\n",
    "-",
    ",",
    "/",
]
PIECES += [
    "=",
    "\u0338",
    "_",
    "<",
    "|>",
    "<|endoftext|>",
    "<|im_end|>",
    "</think>",
    "\u00a0",
    "\u2028",
]
PIECES += [
    "\u3002",
    "\uff0c",
    "\xe9",
    "e\u0301",
    "\u5b57",
    "\U0001f469\u200d",
    "\u0e01\u0e33",
    "\u00bd",
]
Parting = Callable[[WordEnds, str, int], Iterator[str]]


@pytest.fixture(scope="module")
def file() -> TokenizerFile:
    return open_tokenizer_file(nano.TOKENIZER, VOCAB_SIZE)


def ids(tokenizer: tokenizers.Tokenizer, text: str) -> list[int]:
    found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return found


def from_right(word_ends: WordEnds, text: str, most: int) -> Iterator[str]:
    """In the order of the text."""
    return reversed(list(word_ends.from_right(text, most)))


PARTINGS = pytest.mark.parametrize(
    "parted", [WordEnds.from_left, from_right], ids=["left", "right"]
)


@PARTINGS
@given(text=st.lists(st.sampled_from(PIECES), max_size=60).map("".join), size=st.integers(1, 12))
def test_the_tokens_of_the_pieces_are_those_of_the_whole(
    file: TokenizerFile, parted: Parting, text: str, size: int
) -> None:
    pieces = list(parted(WordEnds(file.added_tokens, size), text, len(text)))

    assert "".join(pieces) == text
    assert [i for piece in pieces for i in ids(file.tokenizer, piece)] == ids(file.tokenizer, text)


@PARTINGS
def test_words_are_parted_into_pieces_of_the_size_asked_for(
    file: TokenizerFile, parted: Parting
) -> None:
    text = "words and more words, and numbers: 12, 13. " * 20

    lengths = [len(piece) for piece in parted(WordEnds(file.added_tokens, 50), text, 50)]

    assert max(lengths) <= 50
    assert len(lengths) < 2 * len(text) / 50


@PARTINGS
@pytest.mark.parametrize("most", [100, 119])
def test_a_run_longer_than_may_be_is_refused(
    file: TokenizerFile, parted: Parting, most: int
) -> None:
    text = "one word " + "x" * 120 + " two words"

    with pytest.raises(NoWordEndError) as caught:
        list(parted(WordEnds(file.added_tokens, 20), text, most))

    assert caught.value.most == most


@PARTINGS
def test_a_run_as_long_as_may_be_is_one_piece(file: TokenizerFile, parted: Parting) -> None:
    text = "one word " + "x" * 120 + " two words"

    pieces = list(parted(WordEnds(file.added_tokens, 20), text, 121))

    assert "x" * 120 in {piece.strip() for piece in pieces}


@PARTINGS
def test_no_piece_ends_where_a_special_token_could_go_on(parted: Parting) -> None:
    word_ends = WordEnds(["two words", "a,b"], 3)

    assert list(parted(word_ends, "two words a,b", 99)) == ["two words a,b"]


@PARTINGS
def test_nothing_is_parted_where_every_mark_is_a_special_tokens(parted: Parting) -> None:
    word_ends = WordEnds([' \t\n\r!"#%&()*+,-./:;=?@[]{}\u3001\u3002\uff0c'], 2)

    assert list(parted(word_ends, "a b, c", 99)) == ["a b, c"]


def test_no_token_stands_for_more_characters_than_the_longest_has_bytes(
    file: TokenizerFile,
) -> None:
    """What comes to a token in normalising has at most as many characters as its full decomposition."""
    byte_of = {char: byte for byte, char in enumerate(_byte_level_alphabet())}
    vocabulary = file.tokenizer.get_vocab(with_added_tokens=False)
    entries = [bytes(byte_of[char] for char in token) for token in vocabulary]
    # Of a character that a token has a part of, all may come to it: four at most.
    longest = max(
        len(unicodedata.normalize("NFD", entry.decode(errors="ignore")))
        + 4 * (entry != entry.decode(errors="ignore").encode())
        for entry in entries
    )

    assert file.max_token_chars == max(map(len, entries)) == longest == 128


def _byte_level_alphabet() -> list[str]:
    """The characters that stand for bytes 0 to 255 in a byte-level vocabulary."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]
