"""Where a text can be parted so that the tokens of its pieces, one after the other, are those of the whole.

That is so after a letter or digit that a space, a line's end or a mark of punctuation follows: Qwen's
pre-tokenizer splits there, whatever stands around, and no character composes across it. A run without such a
place (a letter a million times) cannot be parted at all, as its tokens depend on where it begins.
"""

import re
from collections.abc import Iterable, Iterator

PIECE_CHARS = 2**16
# No apostrophe (a contraction's), and none that could be part of a longer character.
_AFTER_A_WORD = ' \t\n\r!"#%&()*+,-./:;=?@[]{}\u3001\u3002\uff0c'


class NoWordEndError(Exception):
    """A run of more than `most` characters has no place where it can be parted."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.most = most


class WordEnds:
    """Parts texts into pieces; `unparted` are strings that must stay whole, such as special tokens."""

    def __init__(self, unparted: Iterable[str], piece_chars: int = PIECE_CHARS) -> None:
        self._piece_chars = piece_chars
        spanned = set("".join(unparted))
        after = "".join(char for char in _AFTER_A_WORD if char not in spanned)
        place = rf"(?<=[^\W_])(?=[{re.escape(after)}])" if after else "(?!)"
        self._next = re.compile(place)
        self._last = re.compile(rf"(?s:.*){place}")

    def from_left(self, text: str, most: int) -> Iterator[str]:
        """Pieces of about `piece_chars` characters, the first first.

        Raises:
            NoWordEndError: one would have more than `most` characters.
        """
        start = 0
        while len(text) - start > self._piece_chars:
            end = self._end(text, start, most)
            yield text[start:end]
            start = end
        if start < len(text):
            yield text[start:]

    def from_right(self, text: str, most: int) -> Iterator[str]:
        """The same, the last first."""
        end = len(text)
        while end > self._piece_chars:
            start = self._start(text, end, most)
            yield text[start:end]
            end = start
        if end:
            yield text[:end]

    def _end(self, text: str, start: int, most: int) -> int:
        near = start + self._piece_chars
        # What follows the place must be seen: hence the 1.
        found = self._last.match(text, start + 1, near + 1)
        if found is None:
            found = self._next.search(text, near, start + most + 1)
        if found is not None:
            return found.end()
        if len(text) - start > most:
            raise NoWordEndError(most)
        return len(text)

    def _start(self, text: str, end: int, most: int) -> int:
        near = end - self._piece_chars
        found = self._next.search(text, near, end)
        if found is None:
            found = self._last.match(text, max(end - most, 0), near + 1)
        if found is not None:
            return found.end()
        if end > most:
            raise NoWordEndError(most)
        return 0
