"""Evaluation sets from a directory of JSON lines, plain or xz. Checked whole before anything is embedded.

NAME.jsonl[.xz]                 scored pairs: {"a": text, "b": text, "score": number}
NAME/questions.jsonl[.xz]       {"id": ..., "text": text, "doc": id of the one right paragraph}
NAME/paragraphs.jsonl[.xz]      {"id": ..., "text": text}
"""

import lzma
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from hexgrid.errors import DataError

QUESTIONS, PARAGRAPHS = "questions", "paragraphs"
_ENDINGS = (".jsonl", ".jsonl.xz")
_LAYOUT = "NAME.jsonl[.xz] with scored pairs, or folders with questions.jsonl[.xz] and paragraphs.jsonl[.xz]"


@dataclass(frozen=True)
class PairSet:
    """N pairs of texts, each with a score of how alike they are, on any scale."""

    name: str
    left: list[str]
    right: list[str]
    scores: NDArray[np.float64]  # [N]


@dataclass(frozen=True)
class RetrievalSet:
    """Q questions and the D paragraphs among which each has its answer."""

    name: str
    questions: list[str]
    paragraphs: list[str]
    answers: NDArray[np.intp]  # [Q], the place of each question's paragraph


EvaluationSet = PairSet | RetrievalSet


class _Pair(msgspec.Struct):
    a: str
    b: str
    score: float


class _Question(msgspec.Struct):
    id: str | int
    text: str
    doc: str | int


class _Paragraph(msgspec.Struct):
    id: str | int
    text: str


Row = TypeVar("Row", _Pair, _Question, _Paragraph)


class _Line(NamedTuple):
    """Where a row stands."""

    file: Path
    number: int

    def error(self, message: str) -> DataError:
        return DataError(f"{self.file}, line {self.number}: {message}")


def read_sets(directory: Path) -> list[EvaluationSet]:
    """Every set of `directory`: pairs first, then retrieval, by name. It may be a retrieval set itself.

    Raises:
        DataError: no set there, or a file or row that is not of its form, by file and line.
    """
    if not directory.is_dir():
        raise DataError(f"--data {directory} is no directory; it must hold {_LAYOUT}")
    files = _data_files(directory)
    sets: list[EvaluationSet] = [
        _read_pairs(name, file)
        for name, file in files.items()
        if name not in (QUESTIONS, PARAGRAPHS)
    ]
    folders = sorted(path for path in directory.iterdir() if path.is_dir())
    for folder, own in [(directory, files), *((each, _data_files(each)) for each in folders)]:
        if QUESTIONS in own or PARAGRAPHS in own:
            sets.append(_read_retrieval(folder, own))
    if not sets:
        raise DataError(f"--data {directory} holds no evaluation set: neither {_LAYOUT}")
    return sets


def _data_files(directory: Path) -> dict[str, Path]:
    """Name without ending -> file, by name."""
    files: dict[str, Path] = {}
    for path in sorted(directory.iterdir()):
        if path.name.endswith(_ENDINGS) and path.is_file():
            name = path.name.removesuffix(".xz").removesuffix(".jsonl")
            if name in files:
                raise DataError(
                    f"{directory} holds {files[name].name} and {path.name}, which are one set in two "
                    "files; remove one"
                )
            files[name] = path
    return files


def _read_pairs(name: str, file: Path) -> PairSet:
    left, right, scores = [], [], []
    for line, row in _read(file, _Pair):
        if not math.isfinite(row.score):
            raise line.error("score must be a finite number")
        left.append(row.a)
        right.append(row.b)
        scores.append(row.score)
    if len(set(scores)) < 2:
        raise DataError(
            f"{file} has {len(scores)} pairs of {len(set(scores))} different scores; Spearman's "
            "correlation needs at least two different ones"
        )
    return PairSet(name, left, right, np.array(scores))


def _read_retrieval(directory: Path, files: Mapping[str, Path]) -> RetrievalSet:
    for name in (QUESTIONS, PARAGRAPHS):
        if name not in files:
            raise DataError(
                f"{directory} has no {name}.jsonl or {name}.jsonl.xz; a retrieval set needs "
                f"{QUESTIONS} and {PARAGRAPHS}"
            )
    paragraphs, places = _read_paragraphs(files[PARAGRAPHS])
    questions, answers = [], []
    for line, row in _read(files[QUESTIONS], _Question):
        if row.doc not in places:
            raise line.error(f"doc {row.doc!r} is the id of no paragraph in {files[PARAGRAPHS]}")
        questions.append(row.text)
        answers.append(places[row.doc])
    if not questions:
        raise DataError(f"{files[QUESTIONS]} has no rows")
    return RetrievalSet(
        directory.resolve().name, questions, paragraphs, np.array(answers, dtype=np.intp)
    )


def _read_paragraphs(file: Path) -> tuple[list[str], dict[str | int, int]]:
    """The texts, and the place of each id."""
    texts: list[str] = []
    places: dict[str | int, int] = {}
    for line, row in _read(file, _Paragraph):
        if row.id in places:
            raise line.error(f"id {row.id!r} is taken by an earlier paragraph")
        places[row.id] = len(texts)
        texts.append(row.text)
    return texts, places


def _read(file: Path, kind: type[Row]) -> Iterator[tuple[_Line, Row]]:
    """The rows of a file and where each stands; empty lines are skipped."""
    decoder = msgspec.json.Decoder(kind)
    try:
        with lzma.open(file) if file.suffix == ".xz" else file.open("rb") as lines:
            for number, content in enumerate(lines, start=1):
                if content.strip():
                    line = _Line(file, number)
                    yield line, _decode(content, decoder, line)
    except (OSError, lzma.LZMAError, EOFError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error


def _decode(content: bytes, decoder: "msgspec.json.Decoder[Row]", line: _Line) -> Row:
    try:
        return decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise line.error(str(error)) from error
