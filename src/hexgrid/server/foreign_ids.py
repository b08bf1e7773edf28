"""Whether token ids are those of OpenAI's cl100k_base, which LangChain sends unless it is told not to.

Qwen's vocabulary is that of cl100k_base without its numbers (cl100k.py), and more at its end: an id of one is
another word in the other. So ids are read both ways, and the better text is what was meant. What is odd of
a text: tokens that the tokenizer would not make of it, words of several tokens, a space at the beginning.
"""

import logging
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from time import monotonic

import numpy as np

from hexgrid.server.cl100k import NUM_TOKENS, NUMBERS
from hexgrid.tokenizer import Tokenizer
from hexgrid.wire import TokenIds

# So many ids of a request are looked at.
_MOST_IDS = 128
# So much odder must the text be as it was sent: in all, and for each id.
_LEAST_ODD, _LEAST_ODD_SHARE = 4, 0.1
_ZERO = 15  # "0", in both
_SPACE = "\u0120"  # how pieces write it
# What the header x-hexgrid-warning says.
WARNING = (
    "token ids look like those of OpenAI's cl100k_base, which are other words here; send text "
    "(LangChain: check_embedding_ctx_length=False)"
)
_SECONDS_BETWEEN = 60.0

_logger = logging.getLogger(__name__)


class ForeignIdLog:
    """Says in the log that such ids came, once a minute at most."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._quiet_until = clock()
        self._num_unsaid = 0

    def tell(self, model_name: str) -> None:
        """A request to this model had them; its id is that of the line, if there is one."""
        if (now := self._clock()) < self._quiet_until:
            self._num_unsaid += 1
            return
        _logger.warning(
            "A request to the model %s: %s. Its answer has vectors of other words, and the header "
            "x-hexgrid-warning. %d more since the last such line. --trust-token-ids silences this",
            *(model_name, WARNING, self._num_unsaid),
        )
        self._quiet_until, self._num_unsaid = now + _SECONDS_BETWEEN, 0


def are_foreign(token_ids: list[TokenIds], tokenizer: Tokenizer) -> bool:
    """Whether the inputs of one request, none of them empty, read better as ids of cl100k_base.

    Short ones say little: of a dozen ids, most are not told apart, and pass for the tokenizer's own.
    """
    sent, meant, room = [], [], _MOST_IDS
    for ids in token_ids:
        if room <= 0:
            break
        translated = _from_cl100k(ids[:room])
        if translated is None:
            return False
        sent.append(ids[:room])
        meant.append(translated)
        room -= len(ids)
    least = max(_LEAST_ODD, _LEAST_ODD_SHARE * sum(map(len, sent)))
    num_unlike = _num_unlike(sent, tokenizer)
    odds = num_unlike + _num_joints(sent, tokenizer) - _num_joints(meant, tokenizer)
    if odds < least:  # mostly, and this is the cheaper half
        return False
    num_unlike_meant = _num_unlike(meant, tokenizer)
    return num_unlike_meant <= num_unlike and odds - num_unlike_meant >= least


def _from_cl100k(ids: TokenIds) -> TokenIds | None:
    """Qwen's ids of the same text, long numbers as a zero; None if cl100k_base has no such ids."""
    theirs = np.array(ids)
    if theirs.max() >= NUM_TOKENS:  # such as the EOS
        return None
    num_below = np.searchsorted(NUMBERS, theirs)
    is_number = NUMBERS[np.minimum(num_below, len(NUMBERS) - 1)] == theirs
    translated: TokenIds = np.where(is_number, _ZERO, theirs - num_below).tolist()
    return translated


def _num_unlike(token_ids: list[TokenIds], tokenizer: Tokenizer) -> int:
    """How many tokens the tokenizer would not make of their own text, or would have made of it."""
    count = 0
    for ids in token_ids:
        again = tokenizer.tokenize(tokenizer.detokenize(ids), add_special_tokens=False)
        count += max(len(ids), len(again)) - (Counter(ids) & Counter(again)).total()
    return count


def _num_joints(token_ids: list[TokenIds], tokenizer: Tokenizer) -> int:
    """How many tokens go on with the word of another, and how many texts begin with a space."""
    count = 0
    for pieces in map(tokenizer.pieces, token_ids):
        count += pieces[0].startswith(_SPACE)
        for before, after in pairwise(pieces):
            count += _is_letter(before[-1:]) and _is_letter(after[:1])
    return count


def _is_letter(char: str) -> bool:
    return char.isascii() and char.isalpha()
