"""Products of any number of rows keep few programs in memory, and are the same products."""

import subprocess
import sys

import pytest
import torch

from hexgrid.model.onednn import has_onednn, rounded, with_few_sizes

MOST_ROWS = 512  # of a part on the CPU
# Each number of rows once, with several matrices as a layer has them; megabytes that it left behind.
MULTIPLY = f"""
import psutil, torch
from hexgrid.model.packed_matrix import PackedMatrix
shapes = [(2048, 512), (512, 1024), (512, 512), (768, 512)]
matrices = [PackedMatrix(torch.ones(shape)) for shape in shapes]
def multiply(rows):
    for matrix, (_, width) in zip(matrices, shapes):
        matrix.multiply(torch.ones(rows, width))
multiply({MOST_ROWS})
before = psutil.Process().memory_info().rss
for rows in range(1, {MOST_ROWS} + 1):
    multiply(rows)
print((psutil.Process().memory_info().rss - before) / 2**20)
"""


def test_rows_are_rounded_up_to_few_numbers() -> None:
    sizes = [rounded(rows) for rows in range(MOST_ROWS + 1)]

    assert sizes[:12] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 10, 12]
    assert [size for size in sizes if 32 < size <= 96] == [
        *([40] * 8 + [48] * 8 + [56] * 8 + [64] * 8),
        *([80] * 16 + [96] * 16),
    ]
    assert all(rounded(size) == size for size in sizes)
    assert len(set(sizes)) == 49


def test_rows_that_are_added_are_zeros_below() -> None:
    x = torch.arange(18.0).reshape(9, 2)

    found = with_few_sizes(x, 2**20)

    assert torch.equal(found[:9], x)
    assert torch.equal(found[9:], torch.zeros(1, 2))
    assert with_few_sizes(x[:8], 2**20).data_ptr() == x.data_ptr(), "no copy where none is needed"
    assert with_few_sizes(x, 2**20 + 1) is x, "of a large matrix, a row costs more than a program"


@pytest.mark.skipif(not has_onednn(torch.device("cpu")), reason="this processor has no oneDNN")
def test_many_numbers_of_rows_take_little_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MULTIPLY], capture_output=True, text=True, check=True
    )

    assert float(done.stdout) < 400  # 130, or 1,400 where each number of rows has its own programs
