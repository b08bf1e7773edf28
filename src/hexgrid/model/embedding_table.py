"""The embedding table's compact form: int8 rows, a scale each, and which row each token reads.

Shapes: V tokens, K rows (K <= V, as tokens may share one), H hidden_size. A value is its int8 times its row's
scale; that product is exact in float32, so every reader of a compact table sees the same numbers.

A served model keeps the table as it is stored, whole or compact, and widens the rows that it looks up.
"""

from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from hexgrid.errors import CheckpointError
from hexgrid.model.checkpoint import ROW_OF_TOKEN, ROWS, SCALES

_LARGEST = 127  # of int8, on both sides: -128 is not used
# Tokens expanded at a time: bounds the memory beside the table itself.
_TOKENS_PER_STEP = 4096


class CompactTable(NamedTuple):
    """An embedding table as it is stored; the fields are in the order of the tensors' names."""

    rows: Tensor  # [K, H] int8
    scales: Tensor  # [K] float16, not negative
    row_of_token: Tensor  # [V] int32

    @property
    def nbytes(self) -> int:
        """Memory of all three."""
        return sum(part.nbytes for part in self)


def look_up(table: Tensor | CompactTable, token_ids: Tensor, dtype: torch.dtype) -> Tensor:
    """The rows of `token_ids` [T] in `dtype`: [T, H]. Nothing is lost where that is the wider dtype."""
    if isinstance(table, Tensor):
        return functional.embedding(token_ids, table).to(dtype)
    rows = table.row_of_token[token_ids]
    scales = table.scales.index_select(0, rows).float().unsqueeze(1)
    return (table.rows.index_select(0, rows) * scales).to(dtype)


def quantise(table: Tensor, keep: Collection[int] | None = None) -> CompactTable:
    """The compact form of `table` [V, H]; every value is at most half its row's scale off.

    Tokens outside `keep` (None: all are kept), and those whose row is zero, share one zero row.

    Raises:
        CheckpointError: `keep` names a token that the table lacks, or a value is not finite or past what
            int8 times float16 can hold.
    """
    kept = _kept(len(table), keep) & table.ne(0).any(dim=1)
    own = kept.nonzero().flatten()
    num_shared = int(not kept.all())  # the zero row comes first, where anyone reads it
    rows = torch.zeros(num_shared + len(own), table.shape[1], dtype=torch.int8)
    scales = torch.zeros(num_shared + len(own), dtype=torch.half)
    start = num_shared
    for tokens in own.split(_TOKENS_PER_STEP):
        step = slice(start, start + len(tokens))
        exact = table[tokens].float()
        scales[step] = _scales(exact)
        rows[step] = (exact / scales[step].float().unsqueeze(1)).round()
        start = step.stop
    row_of_token = torch.zeros(len(table), dtype=torch.int32)
    row_of_token[own] = torch.arange(num_shared, num_shared + len(own), dtype=torch.int32)
    return CompactTable(rows, scales, row_of_token)


def expand(table: CompactTable, target: Tensor) -> None:
    """Fill `target` [V, H], of any float dtype and device, with the values; exactly, where it is float32.

    Raises:
        CheckpointError: see `check_values`.
    """
    check_values(table)
    token_ids = torch.arange(len(target))
    for start in range(0, len(target), _TOKENS_PER_STEP):
        step = slice(start, start + _TOKENS_PER_STEP)
        # Rounded, and taken to the target's device, on the way.
        target[step].copy_(look_up(table, token_ids[step], torch.float32))


def check_values(table: CompactTable) -> None:
    """Check that the parts fit together; their shapes and types are known to be right.

    Raises:
        CheckpointError: a token reads a row that is not there, or a scale is not finite.
    """
    num_rows = len(table.rows)
    low, high = (int(each) for each in table.row_of_token.aminmax())
    if low < 0 or high >= num_rows:
        wrong = low if low < 0 else high
        token_id = int(table.row_of_token.eq(wrong).nonzero()[0])
        raise CheckpointError(
            f"{ROW_OF_TOKEN}: token {token_id} reads row {wrong}, but {ROWS} has rows 0 to {num_rows - 1}"
        )
    if not table.scales.isfinite().all():
        row = int(table.scales.isfinite().logical_not().nonzero()[0])
        raise CheckpointError(f"{SCALES}: the scale of row {row} is {float(table.scales[row])}")


def _kept(num_tokens: int, keep: Collection[int] | None) -> Tensor:
    """Whether each token keeps its row: bool [V]."""
    if keep is None:
        return torch.ones(num_tokens, dtype=torch.bool)
    for token_id in keep:
        if not 0 <= token_id < num_tokens:
            raise CheckpointError(
                f"Token id {token_id} cannot be kept: the embedding table has ids 0 to {num_tokens - 1}"
            )
    kept = torch.zeros(num_tokens, dtype=torch.bool)
    kept[list(keep)] = True
    return kept


def _scales(rows: Tensor) -> Tensor:
    """The least positive float16 scale of each row [K, H] by which its largest value still fits int8."""
    exact = rows.abs().amax(dim=1) / _LARGEST
    nearest = exact.half()
    # Rounded down, a scale would clip its row's largest value. A float16's successor is that of its bits.
    bits = nearest.view(torch.int16) + nearest.float().lt(exact).to(torch.int16)
    scales = bits.clamp(min=1).view(torch.half)
    if not scales.isfinite().all():
        raise CheckpointError(
            "The embedding table holds a value that is not finite, or one past "
            f"{_LARGEST * torch.finfo(torch.half).max:.0f}, the most that int8 times float16 can say"
        )
    return scales
