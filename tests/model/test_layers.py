"""The building blocks, each against its definition."""

import pytest
import torch

from hexgrid.model.layers import RotaryEmbedding, linear, rms_norm, rotate, swiglu
from tests.model.running import CPU

ROTARY = RotaryEmbedding(head_dim=16, theta=1e4, max_positions=512, device=CPU)


def random_tensor(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_rms_norm_divides_by_the_root_mean_square() -> None:
    x, weight = random_tensor(3, 8), random_tensor(8)

    expected = x / (x.square().mean(-1, keepdim=True) + 0.5).sqrt() * weight
    torch.testing.assert_close(rms_norm(x, weight, 0.5), expected)


def test_swiglu_gates_the_second_half_with_the_first() -> None:
    x = random_tensor(3, 8)

    gate, up = x[:, :4], x[:, 4:]
    torch.testing.assert_close(swiglu(x), gate * torch.sigmoid(gate) * up)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_weights_are_converted_to_the_dtype_of_the_input(dtype: torch.dtype) -> None:
    x = random_tensor(3, 8).to(dtype)
    weight = random_tensor(8, 8).to(torch.bfloat16)

    assert linear(x, weight).dtype == dtype
    assert rms_norm(x, weight[0], 1e-6).dtype == dtype


def at(x: torch.Tensor, position: int) -> torch.Tensor:
    """x [D] turned as at that position."""
    return rotate(x.view(1, 1, -1), *ROTARY.at(torch.tensor([position]))).flatten()


def test_the_first_position_is_not_turned() -> None:
    x = random_tensor(16)

    assert torch.equal(at(x, 0), x)


def test_turning_keeps_lengths() -> None:
    x = random_tensor(16)

    torch.testing.assert_close(at(x, 77).norm(), x.norm())


@pytest.mark.parametrize("shift", [1, 50, 400])
def test_only_the_distance_of_two_positions_counts(shift: int) -> None:
    q, k = random_tensor(2, 16)

    torch.testing.assert_close(
        at(q, 9 + shift) @ at(k, 4 + shift), at(q, 9) @ at(k, 4), rtol=0, atol=1e-4
    )


def test_each_pair_turns_by_its_own_frequency() -> None:
    pairs = torch.cat((torch.ones(8), torch.zeros(8)))  # every pair at angle 0

    turned = at(pairs, 3)

    angles = 3 * 1e4 ** (-torch.arange(8) / 8)
    torch.testing.assert_close(turned, torch.cat((angles.cos(), angles.sin())))
