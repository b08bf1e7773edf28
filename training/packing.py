"""Texts end to end in rows of a few widths: batches with next to no padding and few shapes.

Shapes: R rows of a batch, S their width, Q the most texts of a row, T texts of the batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class Width(NamedTuple):
    """Rows of `tokens`, with at most `texts` in one; batches of a multiple of `rows` of them: few shapes."""

    tokens: int
    texts: int
    rows: int


WIDTHS = (Width(64, 24, 16), Width(128, 16, 8), Width(256, 16, 4), Width(512, 8, 1))

Rows = list[list[int]]


@dataclass(frozen=True)
class Packed:
    """A batch. Where no text is, `ids` and `positions` are 0 and `text` is -1."""

    ids: Tensor  # [R, S]
    positions: Tensor  # [R, S] of each token within its text
    text: Tensor  # [R, S] which of the batch's texts the token belongs to
    last: Tensor  # [R, Q] places in the row of the last tokens of its texts; 0 where there is none
    texts: Tensor  # [T] the texts' indices, in the order of `text`
    pooled: Tensor  # [T] their places in `last`, flattened

    def to(self, device: torch.device) -> "Packed":
        return Packed(*(getattr(self, each.name).to(device) for each in fields(self)))


def pack(lengths: Sequence[int], num_tokens: int) -> Iterator[tuple[Rows, Width]]:
    """All texts, as rows of indices for batches of about `num_tokens`, each with its rows' width.

    The longest come first, each into the fullest row that has room for it, else into a new row of the least
    width: the short ones fill the gaps. A text longer than the widest row has one of its own, rounded up to a
    multiple of 64.
    """
    rows: dict[Width, Rows] = {}
    room: dict[int, list[tuple[Width, list[int]]]] = {}  # tokens left -> rows that have so many
    for text in np.argsort(-np.asarray(lengths), kind="stable").tolist():
        length = lengths[text]
        left = min((some for some in room if room[some] and some >= length), default=0)
        if left:
            width, row = room[left].pop()
        else:
            width, row = _width(length), []
            rows.setdefault(width, []).append(row)
            left = width.tokens
        row.append(text)
        if len(row) < width.texts and left > length:
            room.setdefault(left - length, []).append((width, row))
    for width, mine in rows.items():
        size = max(1, num_tokens // width.tokens)
        for start in range(0, len(mine), size):
            yield mine[start : start + size], width


def _width(length: int) -> Width:
    fitting = (width for width in WIDTHS if length <= width.tokens)
    return next(fitting, Width(-(-length // 64) * 64, 1, 1))


def fill(rows: Rows, width: Width, ids: Sequence[npt.NDArray[np.integer]]) -> Packed:
    """The batch of `rows`, of texts with these `ids`."""
    shape = (-(-len(rows) // width.rows) * width.rows, width.tokens)
    filled, positions = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    text, last = np.full(shape, -1, np.int64), np.zeros((shape[0], width.texts), np.int64)
    texts: list[int] = []
    pooled: list[int] = []
    for row, some in enumerate(rows):
        end = 0
        for number, each in enumerate(some):
            start, end = end, end + len(ids[each])
            filled[row, start:end] = ids[each]
            positions[row, start:end] = np.arange(end - start)
            text[row, start:end] = len(texts)
            last[row, number] = end - 1
            texts.append(each)
            pooled.append(row * width.texts + number)
    arrays = (filled, positions, text, last, np.array(texts), np.array(pooled))
    return Packed(*map(torch.from_numpy, arrays))


def alone(ids: npt.NDArray[np.integer]) -> Packed:
    """The batch of one text, with nothing beside it."""
    return fill([[0]], Width(len(ids), 1, 1), [ids])
