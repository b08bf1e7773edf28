"""Texts -> their own tokens, read no further than they are wanted: the Rust tokenizer and what it is given.

A long text is read in pieces, so that none costs more than the longest that a model takes. Between two steps
of about a megabyte `check` may give up.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice

import tokenizers

from hexgrid.errors import CheckpointError
from hexgrid.text_pieces import PIECE_CHARS, WordEnds
from hexgrid.tokenizer_file import is_panic
from hexgrid.wire import TokenIds, TruncationSide

# Returns while the result is wanted, else raises what it likes.
Check = Callable[[], None]

_CHARS_AT_ONCE = 2**20  # of short texts; the tokenizer takes less than a second for them
_MOST_PIECES_AT_ONCE = 8


def always_wanted() -> None:
    """A `Check` that never gives up."""


class TextReader:
    """Reads texts with one tokenizer.

    `max_token_chars`: how many characters a token can stand for. `most_run`: how many characters that cannot
    be parted are read, where all of them must be.
    """

    def __init__(
        self,
        tokenizer: tokenizers.Tokenizer,
        word_ends: WordEnds,
        *,
        max_token_chars: int,
        most_run: int,
    ) -> None:
        self._tokenizer = tokenizer
        self._word_ends = word_ends
        self._max_token_chars = max_token_chars
        self._most_run = most_run

    def first_or_last(
        self, texts: list[str], count: int, side: TruncationSide, check: Check
    ) -> Iterable[TokenIds]:
        """The tokens of each text; of a long one at least the first or last `count`, more if it has more.

        Raises:
            NoWordEndError: a text cannot be read from its end, because of a run that cannot be parted.
            TypeError: a text is not valid Unicode.
            CheckpointError: the tokenizer cannot read it, for a fault of its own.
        """
        if sum(map(len, texts)) <= PIECE_CHARS:  # as nearly always: one group
            check()
            return self._read(texts)
        return self._group_by_group(texts, count, side, check)

    def all(self, text: str, check: Check) -> TokenIds:
        """All tokens of a text of any length; raises the same."""
        pieces = self._word_ends.from_left(text, self._most_run)
        return list(chain.from_iterable(self._read_pieces(pieces, check)))

    def _group_by_group(
        self, texts: list[str], count: int, side: TruncationSide, check: Check
    ) -> Iterator[TokenIds]:
        for group in _groups(texts):
            check()
            if len(group[0]) > PIECE_CHARS:
                yield self._end_of(group[0], count, side, check)
            else:
                yield from self._read(group)

    def _end_of(self, text: str, count: int, side: TruncationSide, check: Check) -> TokenIds:
        if side == "right":
            # Two tokens' worth more than is kept: where the text is cut must not change the last of those.
            start = text[: (count + 2) * self._max_token_chars]
            pieces = self._word_ends.from_left(start, len(start))
        else:
            pieces = self._word_ends.from_right(text, self._most_run)
        parts: list[TokenIds] = []
        num_tokens = 0
        for ids in self._read_pieces(pieces, check):
            parts.append(ids)
            num_tokens += len(ids)
            if num_tokens > count:
                break
        if side == "left":
            parts.reverse()
        return list(chain.from_iterable(parts))

    def _read_pieces(self, pieces: Iterator[str], check: Check) -> Iterator[TokenIds]:
        """Several at once, more and more: the tokenizer spreads them over the processor's cores."""
        num_pieces = 1
        while group := list(islice(pieces, num_pieces)):
            check()
            yield from self._read(group)
            num_pieces = min(2 * num_pieces, _MOST_PIECES_AT_ONCE)

    def _read(self, texts: list[str]) -> list[TokenIds]:
        try:
            encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        except BaseException as error:
            if is_panic(error):
                raise CheckpointError(f"tokenizer.json cannot read a text: {error}") from error
            raise
        return [encoding.ids for encoding in encodings]


def _groups(texts: list[str]) -> Iterator[list[str]]:
    """Neighbours, of so many characters together; a long text by itself."""
    group: list[str] = []
    num_chars = 0
    for text in texts:
        is_long = len(text) > PIECE_CHARS
        if group and (is_long or num_chars + len(text) > _CHARS_AT_ONCE):
            yield group
            group, num_chars = [], 0
        group.append(text)
        num_chars += _CHARS_AT_ONCE if is_long else len(text)
    yield group
