"""The corpus as token ids, and which rows of the embedding table the tokens read.

Shapes: V tokens of the vocabulary, K rows of the table, N texts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tokenizers
from rich.progress import Progress

from hexgrid import nano

EOS = 151_643
VOCABULARY = 151_669
_CHUNK = 8192

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Ragged:
    """N lists of ids, end to end."""

    ids: Ids
    ends: npt.NDArray[np.int64]  # [N]

    def __getitem__(self, index: int) -> Ids:
        start = self.ends[index - 1] if index else 0
        return self.ids[start : self.ends[index]]


@dataclass(frozen=True)
class Vocabulary:
    """Which row each token reads; row 0 is zero and belongs to every token that has none."""

    row_of_token: Ids  # [V]
    token_of_row: Ids  # [K]: the token that a row was made for; of row 0, EOS
    counts: npt.NDArray[np.int64]  # [K]: how often the row was read in the corpus


def load() -> tokenizers.Tokenizer:
    """The official tokenizer, as hexgrid ships it."""
    return tokenizers.Tokenizer.from_file(str(nano.TOKENIZER))


def encode(texts: Sequence[str], progress: Progress, *, eos: bool = True) -> Ragged:
    """Token ids of `texts`, each with its EOS."""
    tokenizer = load()
    task = progress.add_task("tokens", total=len(texts), unit="texts")
    parts: list[Ids] = []
    lengths: list[int] = []
    for start in range(0, len(texts), _CHUNK):
        some = list(texts[start : start + _CHUNK])
        for each in tokenizer.encode_batch_fast(some, add_special_tokens=eos):
            parts.append(np.array(each.ids, np.int32))
            lengths.append(len(each.ids))
        progress.advance(task, len(some))
    return Ragged(np.concatenate(parts), np.cumsum(lengths, dtype=np.int64))


def cached(file: Path, texts: Sequence[str], progress: Progress) -> Ragged:
    """What `encode` gives, kept in `file`."""
    if not file.is_file():
        made = encode(texts, progress)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".tmp.npz")
        np.savez(partial, ids=made.ids, ends=made.ends)
        partial.replace(file)
    with np.load(file) as kept:
        return Ragged(kept["ids"], kept["ends"])


def vocabulary(corpora: Iterable[Ragged]) -> Vocabulary:
    """Rows for every token that the corpus has, and for ASCII ones that it lacks.

    An ASCII token that the corpus lacks reads the row of a token that differs only in case or a leading
    space, where there is one; else it gets a row of its own. The rest (other scripts) share the zero row.
    """
    seen = np.zeros(VOCABULARY, np.int64)
    for each in corpora:
        seen += np.bincount(each.ids, minlength=VOCABULARY)
    seen[EOS] += 1
    texts = token_texts()
    alike: dict[str, int] = {}
    for token in np.argsort(-seen, kind="stable"):
        if seen[token]:
            alike.setdefault(_plain(texts[token]), int(token))
    row_of_token = np.zeros(VOCABULARY, np.int32)
    own: list[int] = []
    for token, text in enumerate(texts):
        special = not text
        if seen[token] or special or (text.isascii() and _plain(text) not in alike):
            own.append(token)
            row_of_token[token] = len(own)
    for token, text in enumerate(texts):
        if not row_of_token[token] and text.isascii():
            row_of_token[token] = row_of_token[alike[_plain(text)]]
    token_of_row = np.array([EOS, *own], np.int32)
    counts = seen[token_of_row]
    counts[0] = 0
    return Vocabulary(row_of_token, token_of_row, counts)


def token_texts() -> list[str]:
    """What each token stands for; empty for special tokens, U+FFFD in parts of characters."""
    tokenizer = load()
    return [tokenizer.decode([token], skip_special_tokens=True) for token in range(VOCABULARY)]


def _plain(text: str) -> str:
    return text.strip().lower() or text
