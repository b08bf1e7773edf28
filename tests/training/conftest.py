"""A corpus of a few rows and a student of two narrow layers."""

import functools
import zlib

import pytest
import torch
from rich.progress import Progress
from torch.nn import functional

import tokens
from batches import TASKS, Source
from corpus import Corpus
from designs import Design, Shape

HIDDEN = 32
DESIGN = Design(
    Shape(layers=2, intermediate=48, hidden=HIDDEN, heads=2, kv_heads=2, head_dim=16),
    widths=(32, 8),
)


def make_corpus() -> Corpus:
    """Rows of every kind: alone, in pairs, with a contradiction, with a translation."""
    corpus = Corpus(sources=["alone", "pairs", "nli", "tatoeba_multi"])
    for n in range(400):
        corpus.add(0, f"The {n}th house stands on the hill, behind {n % 7} trees.")
        corpus.add(1, f"Where is lake {n}?", f"Lake {n} lies between the mountains. " * (n % 9 + 1))
        corpus.add(2, f"{n} boys sing.", f"There are {n} who sing.", f"{n} boys are silent.")
        corpus.add(3, f"House number {n}", f"Haus Nummer {n}")
        corpus.same_as[corpus.rows[-1].b] = corpus.rows[-1].a
    return corpus


def sum_of_words(text: str) -> torch.Tensor:
    """[384]"""
    return torch.stack([vector_of(word) for word in text.split()]).sum(dim=0)


@functools.cache
def vector_of(word: str) -> torch.Tensor:
    """[384], the same for the same word."""
    generator = torch.Generator().manual_seed(zlib.crc32(word.encode()))
    return torch.randn(384, generator=generator)


@pytest.fixture(scope="session")
def source() -> Source:
    """The corpus; in the teacher's place, vectors that can be learnt: the sum of one for each word."""
    corpus = make_corpus()
    with Progress(disable=True) as progress:
        texts = tokens.encode(corpus.texts, progress)
        tails = tokens.encode([":" + text for text in corpus.texts], progress)
        heads = tokens.encode([f"Instruct: {task}\nQuery" for task in TASKS], progress, eos=False)
    vectors = torch.stack([sum_of_words(text) for text in corpus.texts])
    return Source(
        corpus,
        texts,
        tails,
        [heads[at] for at in range(len(TASKS))],
        tokens.vocabulary((texts, tails, heads)),
        functional.normalize(vectors).half(),
        functional.normalize(vectors[:, :HIDDEN]).half(),
    )


@pytest.fixture
def first(source: Source) -> torch.Tensor:
    """A first table [K, H]; row 0 is zero."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(len(source.vocabulary.token_of_row), HIDDEN, generator=generator)
    rows[0] = 0
    return rows
