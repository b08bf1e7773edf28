"""Steps of training: which rows of the corpus go together, and their tokens side by side.

A step holds runs of rows of one source (its pairs are each other's hard negatives) from many sources.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import packing
from corpus import Corpus
from losses import Targets
from packing import Packed
from tokens import EOS, Ids, Ragged, Vocabulary

_RUN = 48  # rows of one source side by side
# How often a pass reads the rows of a source, where not once. What means the same or not, sentence by
# sentence, is a small part of the text and takes the most reading; the passages of medquad are each asked
# for by many questions.
_TIMES = {
    "coco_captions": 2.5,
    "medquad": 0.7,
    "nli": 2.5,
    "nli_sentences": 2.5,
    "query_wellformedness": 2.0,
}
_HELD_OUT = 100
_MICRO_BATCH = 4_096  # tokens
_MAX_TOKENS = 512
_INSTRUCTED_QUERIES, _INSTRUCTED_TEXTS = 0.4, 0.1
_INSTRUCTED_LONGER = 1.12  # times the tokens of a pass
_DEFAULT = 0.35  # of the instructed: the default instruction
_LONG = 32_768  # tokens of steps for one long text, made of passages of its step
_LONG_PASSAGES = (4, 10)

DEFAULT_TASK = "Given a web search query, retrieve relevant passages that answer the query"
TASKS = (
    DEFAULT_TASK,
    "Given a question, retrieve passages that answer the question",
    "Given a question, find the text that answers it",
    "Retrieve text passages that answer the question",
    "Given a user's question, find relevant documentation",
    "Given a description, retrieve the code that does it",
    "Given a code search query, retrieve relevant code snippets",
    "Given a natural language description, find the matching Python function",
    "Given a title, find the passage that belongs to it",
    "Given a medical question, retrieve articles that answer it",
    "Given a scientific claim or question, retrieve abstracts that bear on it",
    "Given a term, retrieve its definition",
    "Retrieve semantically similar text",
    "Retrieve texts that mean the same as the given sentence",
    "Classify the intent of the user's message",
    "Classify the text by its topic",
    "Identify the topic or theme of the given text",
    "Cluster the texts by subject",
    "Given a sentence, retrieve sentences that follow from it",
    "Find news articles about the topic",
    "Find support articles that solve the customer's problem",
    "Given a legal question, retrieve the clauses that apply",
    "Given a product search, find matching products",
    "Represent the text for search",
    "Search",
)


@dataclass(frozen=True)
class Step:
    """Texts in micro-batches, and what they should give, in the order of the texts' indices there."""

    micro_batches: list[Packed]
    targets: Targets
    num_tokens: int

    def to(self, device: torch.device) -> "Step":
        moved = [each.to(device) for each in self.micro_batches]
        return Step(moved, self.targets.to(device), self.num_tokens)


@dataclass(frozen=True)
class Source:
    """All that steps are made of. Teacher's vectors: `full` [N, 384] and, in the student's space, [N, H]."""

    corpus: Corpus
    texts: Ragged
    tails: Ragged  # each text after "Query:", without that word
    heads: list[Ids]  # "Instruct: ...\nQuery" for each of TASKS
    vocabulary: Vocabulary
    full: Tensor
    projected: Tensor


def steps(
    source: Source,
    size: int,
    *,
    epoch: int,
    seed: int,
    plain: bool = False,
    held_out: bool = False,
) -> Iterator[Step]:
    """One pass over the corpus, in an order that `seed` and `epoch` decide, in steps of `size` tokens.

    One row in `_HELD_OUT` is kept from training; with `held_out`, the pass is over those alone. A
    `plain` pass reads every row once, and has no instructions.
    """
    rng = np.random.default_rng((seed, epoch))
    batch: list[tuple[int, Ids]] = []
    marks: list[tuple[int, int, int]] = []
    total = 0
    for index in _order(source.corpus, rng, {} if plain or held_out else _TIMES):
        if (index % _HELD_OUT == 0) != held_out:
            continue
        row = source.corpus.rows[index]
        places = []
        for text in (row.a, row.b, row.neg):
            if text < 0:
                places.append(-1)
                continue
            ids = _ids(source, text, rng, query=not plain and text == row.a, paired=row.b >= 0)
            places.append(len(batch))
            batch.append((text, ids))
            total += len(ids)
        marks.append((places[0], places[1], places[2]))
        if total >= size:
            yield _step(source, batch, marks, rng, size / _LONG)
            batch, marks, total = [], [], 0
    if batch:
        yield _step(source, batch, marks, rng, size / _LONG)


def num_tokens(source: Source) -> int:
    """About how many tokens a pass has, instructions among them."""
    lengths = np.diff(source.texts.ends, prepend=0)
    texts = [text for row in source.corpus.rows for text in (row.a, row.b, row.neg) if text >= 0]
    return int(lengths[texts].clip(max=_MAX_TOKENS).sum() * _INSTRUCTED_LONGER)


def _order(
    corpus: Corpus, rng: np.random.Generator, times: Mapping[str, float]
) -> npt.NDArray[np.int64]:
    """Rows shuffled within their source, then runs of rows shuffled; those of a source so many times."""
    sources = np.array([row.source for row in corpus.rows])
    runs = []
    for number, name in enumerate(corpus.sources):
        rows = np.flatnonzero(sources == number)
        left = round(len(rows) * times.get(name, 1.0))
        while left > 0:
            mine = rng.permutation(rows)[:left]
            left -= len(mine)
            runs += [mine[at : at + _RUN] for at in range(0, len(mine), _RUN)]
    return np.concatenate([runs[at] for at in rng.permutation(len(runs))])


def _ids(source: Source, text: int, rng: np.random.Generator, *, query: bool, paired: bool) -> Ids:
    share = (_INSTRUCTED_QUERIES if paired else _INSTRUCTED_TEXTS) if query else 0.0
    if rng.random() < share:
        task = 0 if rng.random() < _DEFAULT else int(rng.integers(1, len(TASKS)))
        ids = np.concatenate((source.heads[task], source.tails[text]))
    else:
        ids = source.texts[text]
    if len(ids) > _MAX_TOKENS:
        ids = np.append(ids[: _MAX_TOKENS - 1], EOS)
    return ids


def _step(
    source: Source,
    batch: list[tuple[int, Ids]],
    marks: list[tuple[int, int, int]],
    rng: np.random.Generator,
    long: float,
) -> Step:
    texts = np.array([text for text, _ in batch])
    # A translation is asked for its original's vector.
    asked = np.array([source.corpus.same_as.get(int(text), int(text)) for text in texts])
    full, projected = source.full[asked].float(), source.projected[asked].float()
    ids = [each for _, each in batch]
    if rng.random() < long:
        ids, full, projected = _with_long(ids, full, projected, rng)
    pairs = [(a, b) for a, b, _ in marks if b >= 0]
    negatives = [(a, n) for a, _, n in marks if n >= 0]
    rows = [source.vocabulary.row_of_token[each] for each in ids]
    lengths = [len(each) for each in ids]
    return Step(
        [packing.fill(some, width, rows) for some, width in packing.pack(lengths, _MICRO_BATCH)],
        Targets(
            projected,
            full,
            _weights(lengths),
            torch.tensor(np.array(pairs, np.int64).reshape(-1, 2)),
            torch.tensor(np.array(negatives, np.int64).reshape(-1, 2)),
        ),
        sum(lengths),
    )


def _weights(lengths: list[int]) -> Tensor:
    """Long texts are few, and half of what retrieval compares: each counts by the root of its length; [N]."""
    roots = torch.tensor(lengths).sqrt()
    return roots / roots.mean()


def _with_long(
    ids: list[Ids], full: Tensor, projected: Tensor, rng: np.random.Generator
) -> tuple[list[Ids], Tensor, Tensor]:
    """One more text, longer than the teacher can read: passages end to end, and their mean vector."""
    longest = np.argsort([-len(each) for each in ids])[:64]
    some = rng.choice(
        longest, size=min(len(longest), int(rng.integers(*_LONG_PASSAGES))), replace=False
    )
    joined = np.concatenate([*(ids[at][:-1] for at in some), [EOS]]).astype(np.int32)
    weights = torch.tensor([float(len(ids[at])) for at in some])[:, None]
    chosen = torch.from_numpy(some)

    def mean(vectors: Tensor) -> Tensor:
        return torch.nn.functional.normalize((weights * vectors[chosen]).sum(dim=0, keepdim=True))

    return [*ids, joined], torch.cat((full, mean(full))), torch.cat((projected, mean(projected)))
