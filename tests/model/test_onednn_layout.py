"""Matrices as oneDNN lays them out: to bytes and back."""

import os
import subprocess
import sys
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hexgrid.model import onednn_layout
from hexgrid.model.int8 import Int8Matrix, quantise_matrix
from hexgrid.model.layers import Matrix, linear
from hexgrid.model.onednn_layout import can_restore, content, lay_out, layout_of, restored

SHAPES = [(16, 32), (33, 64), (256, 96), (1, 8)]


def product(x: Tensor, matrix: Matrix) -> Tensor:
    return linear(x, matrix).whole()


def quantised(out: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return quantise_matrix(torch.randn(out, width, generator=generator))


@pytest.mark.parametrize("shape", SHAPES)
def test_what_was_laid_out_multiplies_as_before(shape: tuple[int, int]) -> None:
    values, scales = quantised(*shape)
    packed = lay_out(values)

    back = restored(content(packed).clone(), layout_of(shape))

    for rows in (1, 7, 130):
        x = torch.randn(rows, shape[1])
        before, after = Int8Matrix(packed, scales), Int8Matrix(back, scales)
        assert torch.equal(product(x, after), product(x, before))
        assert after.nbytes == before.nbytes


def test_bytes_live_as_long_as_what_reads_them() -> None:
    packed = lay_out(quantised(64, 32)[0])
    of_packed = weakref.ref(packed)
    held = content(packed)
    del packed
    assert of_packed() is not None

    back = restored(held, layout_of((64, 32)))
    of_held = weakref.ref(held)
    del held
    assert of_packed() is not None
    assert of_held() is not None

    del back
    assert of_packed() is of_held() is None


def test_a_layout_is_that_of_every_matrix_of_its_shape() -> None:
    layout = layout_of((64, 32))

    assert layout.order == layout_of((64, 32)).order
    assert layout.order != layout_of((32, 64)).order
    assert layout.num_bytes == len(content(lay_out(quantised(64, 32)[0])))


@pytest.mark.parametrize("isa", ["SSE41", "AVX2", "DEFAULT"])
def test_a_layout_is_the_same_in_every_process_on_a_kind_of_processor(isa: str) -> None:
    script = (
        "from hexgrid.model.onednn_layout import layout_of;"
        "print({layout_of((200, 96)).order for _ in range(30)})"
    )
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": isa}

    orders = {
        subprocess.check_output([sys.executable, "-c", script], env=environment) for _ in range(2)
    }

    assert len(orders) == 1
    assert orders.pop().count(b"'") == 2  # one digest


@pytest.mark.parametrize(
    "spoil", [lambda held: held[:-1], lambda held: held.to(torch.int32), lambda held: held[::2]]
)
def test_bytes_of_another_size_are_refused(spoil: Callable[[Tensor], Tensor]) -> None:
    held = content(lay_out(quantised(16, 32)[0])).clone()

    with pytest.raises(ValueError, match="The content must be"):
        restored(spoil(held), layout_of((16, 32)))


def test_it_is_said_whether_torch_brings_matrices_back(monkeypatch: pytest.MonkeyPatch) -> None:
    assert can_restore()

    monkeypatch.delattr(torch._C, "_aoti")

    assert not can_restore()


def test_bytes_that_come_back_as_others_are_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    other = lay_out(torch.zeros(32, 64, dtype=torch.int8))
    monkeypatch.setattr(onednn_layout, "restored", lambda *_: other)

    assert not can_restore()
