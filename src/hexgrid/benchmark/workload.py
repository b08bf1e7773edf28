"""Texts of exactly so many tokens of Qwen3-Embedding's tokenizer, no two alike, so that no cache helps."""

import itertools
import random
import re
from collections.abc import Iterator

import tokenizers

from hexgrid import nano

FEWEST_TOKENS = 4  # "a", two words that no other text has in this order, and EOS
# The pretokenizer parts a text before each space, so that a word which is one token stays one.
_WORD = re.compile(
    "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}[a-z]{2,12}"
)  # the letter stands for a space


class Workload:
    """An endless supply of texts, the same for the same seed."""

    def __init__(self, seed: int = 0) -> None:
        vocabulary = tokenizers.Tokenizer.from_file(str(nano.TOKENIZER)).get_vocab()
        self._words = sorted(token[1:] for token in vocabulary if _WORD.fullmatch(token))
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._random.shuffle(self._words)
        self._numbers = itertools.count()

    def requests(self, num_tokens: int, num_inputs: int) -> Iterator[list[str]]:
        """Requests of `num_inputs` texts of `num_tokens` tokens each, EOS included."""
        while True:
            yield [self._text(num_tokens) for _ in range(num_inputs)]

    def _text(self, num_tokens: int) -> str:
        high, low = divmod(next(self._numbers), len(self._words))
        own = (self._words[low], self._words[high])
        return " ".join(
            ["a", *own, *self._random.choices(self._words, k=num_tokens - FEWEST_TOKENS)]
        )
