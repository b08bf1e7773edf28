"""What all designs share, made once and kept: corpus, tokens, the teacher's vectors, the first table."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import Progress
from torch import Tensor

import corpus as corpora
import teacher
import tokens
from batches import TASKS, Source

_HIDDEN = 256
# Axes are divided by their size to this power. What tells passages of one subject apart lies in the small
# axes, which a cosine hardly sees: evened a little, the teacher itself finds more.
_EVENING = 0.4
_COLON, _COLON_SPACE = ":", ": "  # how people end "Query"; the official prompt has no space
_SPACED = 0.2
_FREQUENT = 1e-3  # the `a` of smooth inverse frequency weights, a / (a + share of the corpus)


class Prepared(NamedTuple):
    """What steps are made of."""

    source: Source
    whole: Source  # long passages uncut, in the same vocabulary and space
    first: Tensor  # [K, H] the table to begin with


class _Read(NamedTuple):
    """A corpus, its tokens, and the teacher's vectors [N, 384] of its texts."""

    corpus: corpora.Corpus
    texts: tokens.Ragged
    tails: tokens.Ragged
    full: teacher.Vectors


def prepare(data: Path, work: Path, progress: Progress) -> Prepared:
    """All that is made once and kept in `work`."""
    read = _read(corpora.read(data), work, progress)
    whole = _read(corpora.read_whole(data), work, progress)
    heads = tokens.encode([f"Instruct: {task}\nQuery" for task in TASKS], progress, eos=False)
    vocabulary = tokens.vocabulary((read.texts, read.tails, heads))
    space = principal_axes(read.full, np.diff(read.texts.ends, prepend=0))
    source, of_whole = (
        Source(
            each.corpus,
            each.texts,
            each.tails,
            [heads[at] for at in range(len(TASKS))],
            vocabulary,
            torch.from_numpy(each.full),
            _projected(each.full, space),
        )
        for each in (read, whole)
    )
    return Prepared(source, of_whole, _first_table(vocabulary, space, work / "teacher", progress))


def _read(corpus: corpora.Corpus, work: Path, progress: Progress) -> _Read:
    cache = work / f"corpus-{corpus.fingerprint()}"
    full = _taught(corpus, work / "teacher", progress)
    texts = tokens.cached(cache / "texts.npz", corpus.texts, progress)
    asking = {row.a for row in corpus.rows}
    ends = [_tail(text) if index in asking else "" for index, text in enumerate(corpus.texts)]
    return _Read(corpus, texts, tokens.cached(cache / "tails.npz", ends, progress), full)


def _projected(full: teacher.Vectors, space: Tensor) -> Tensor:
    """The teacher's vectors in `space` [384, H], of unit length: float16 [N, H]."""
    parts = torch.from_numpy(full).split(65_536)
    return torch.cat([torch.nn.functional.normalize(part.float() @ space).half() for part in parts])


def _taught(corpus: corpora.Corpus, cache: Path, progress: Progress) -> teacher.Vectors:
    """The teacher's vector of each text [N, 384], of those that are read as another the other's.

    Of one whose beginning counts twice, the mean of its own and its beginning's.
    """
    own = [index for index in range(len(corpus.texts)) if index not in corpus.same_as]
    result = np.empty((len(corpus.texts), teacher.WIDTH), np.float16)
    result[own] = teacher.vectors([corpus.texts[index] for index in own], cache, progress)
    for index, other in corpus.same_as.items():
        result[index] = result[other]
    if corpus.beginnings:
        whole = list(corpus.beginnings)
        begun = teacher.vectors(list(corpus.beginnings.values()), cache, progress)
        both = torch.from_numpy(result[whole]).float() + torch.from_numpy(begun).float()
        result[whole] = torch.nn.functional.normalize(both).half().numpy()
    return result


def principal_axes(vectors: teacher.Vectors, lengths: npt.NDArray[np.int64]) -> Tensor:
    """The space [384, H] that keeps most of the teacher's vectors, greatest axis first, the small enlarged.

    Texts of `lengths` [N] tokens count by their roots, as they do in the losses.
    """
    wide, weights = torch.from_numpy(vectors), torch.from_numpy(lengths).sqrt()
    second = torch.zeros(teacher.WIDTH, teacher.WIDTH)
    for part, weight in zip(wide.split(65_536), weights.split(65_536), strict=True):
        second += (part.float() * weight[:, None]).T @ part.float()
    sizes, axes = torch.linalg.eigh(second.double())
    sizes, axes = sizes.flip(0)[:_HIDDEN], axes.flip(1)[:, :_HIDDEN]
    evened: Tensor = axes * (sizes / sizes[0]) ** (-_EVENING / 2)
    return evened.float()


def _first_table(
    vocabulary: tokens.Vocabulary, space: Tensor, cache: Path, progress: Progress
) -> Tensor:
    """Each row: what the teacher makes of its token alone, the less the more frequent it is; [K, H]."""
    texts = tokens.token_texts()
    words = [texts[token].strip() or texts[token] for token in vocabulary.token_of_row]
    rows = torch.zeros(len(words), _HIDDEN)
    own = [row for row, word in enumerate(words) if word and row]
    found = torch.from_numpy(teacher.vectors([words[row] for row in own], cache, progress))
    rows[own] = found.float() @ space
    share = vocabulary.counts / vocabulary.counts.sum()
    rows *= torch.from_numpy(_FREQUENT / (_FREQUENT + share)).float()[:, None]
    return rows


def _tail(text: str) -> str:
    chance = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") / 2**32
    return (_COLON_SPACE if chance < _SPACED else _COLON) + text
