"""The building blocks, each against its definition."""

import pytest
import torch

from hexgrid.model.int8 import Int8Matrix, quantise_matrix
from hexgrid.model.layers import RotaryEmbedding, add_mlp, linear, norm_and_rotate, rms_norm, swiglu
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

    gate, up = x[:, :4].clone(), x[:, 4:].clone()
    torch.testing.assert_close(swiglu(x), gate * torch.sigmoid(gate) * up)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_norm_is_computed_in_float32(dtype: torch.dtype) -> None:
    x = random_tensor(3, 64).to(dtype) * 200  # the squares overflow in float16
    weight = random_tensor(64).to(dtype)

    expected = rms_norm(x.float(), weight.float(), 1e-6).to(dtype)
    assert torch.equal(rms_norm(x, weight, 1e-6), expected)


def test_an_mlp_is_added_in_place() -> None:
    x, gate_up, down = random_tensor(3, 8), random_tensor(12, 8), random_tensor(8, 6)
    target = random_tensor(5, 8)

    expected = target.clone()
    expected[1:4] += swiglu(x @ gate_up.T) @ down.T
    add_mlp(target[1:4], x, gate_up, down)
    torch.testing.assert_close(target, expected)


def test_an_mlp_in_int8_is_near_that_in_float32() -> None:
    x, gate_up, down = random_tensor(3, 64), random_tensor(96, 64), random_tensor(64, 48)
    x[1] *= 100  # a row's scale is multiplied to it later
    exact, found = torch.zeros(2, 3, 64).unbind()

    add_mlp(exact, x, gate_up, down)
    add_mlp(found, x, *(Int8Matrix.of(*quantise_matrix(each)) for each in (gate_up, down)))

    assert torch.nn.functional.cosine_similarity(found, exact).min() > 0.999
    torch.testing.assert_close(found.norm(dim=1), exact.norm(dim=1), rtol=0.02, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_weights_are_converted_to_the_dtype_of_the_input(dtype: torch.dtype) -> None:
    x = random_tensor(3, 8).to(dtype)
    weight = random_tensor(8, 8).to(torch.bfloat16)

    assert linear(x, weight).dtype == dtype
    assert rms_norm(x, weight[0], 1e-6).dtype == dtype


def at(x: torch.Tensor, position: int) -> torch.Tensor:
    """x [D] turned as at that position, with a root mean square of one."""
    angles = ROTARY.at(torch.tensor([position]))
    return norm_and_rotate(x.view(1, 1, -1), torch.ones(len(x)), 0.0, *angles).flatten()


def test_the_first_position_is_not_turned() -> None:
    x = random_tensor(16)

    torch.testing.assert_close(at(x, 0), rms_norm(x, torch.ones(16), 0.0))


def test_turning_keeps_lengths() -> None:
    x = random_tensor(16)

    torch.testing.assert_close(at(x, 77).norm(), torch.tensor(16.0).sqrt())


@pytest.mark.parametrize("shift", [1, 50, 400])
def test_only_the_distance_of_two_positions_counts(shift: int) -> None:
    q, k = random_tensor(2, 16)

    torch.testing.assert_close(
        at(q, 9 + shift) @ at(k, 4 + shift), at(q, 9) @ at(k, 4), rtol=0, atol=1e-4
    )


def test_each_pair_turns_by_its_own_frequency() -> None:
    pairs = torch.cat((torch.ones(8), torch.zeros(8)))  # every pair at angle 0

    turned = at(pairs, 3) / 2**0.5

    angles = 3 * 1e4 ** (-torch.arange(8) / 8)
    torch.testing.assert_close(turned, torch.cat((angles.cos(), angles.sin())))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_heads_are_normed_with_their_weight_before_they_turn(dtype: torch.dtype) -> None:
    x, weight = random_tensor(5, 3, 16).to(dtype), random_tensor(16).to(dtype)
    cos, sin = ROTARY.at(torch.arange(5))

    normed = rms_norm(x.float(), weight.float(), 0.1)
    first, second = normed.chunk(2, dim=-1)
    expected = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
    found = norm_and_rotate(x, weight, 0.1, cos, sin)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected.to(dtype))


def test_the_angles_of_a_place_are_the_same_however_far_texts_have_reached() -> None:
    rotary = RotaryEmbedding(head_dim=16, theta=1e4, max_positions=40_000, device=CPU)
    places = torch.tensor([0, 7, 1_000])

    before = rotary.at(places)
    far, _ = rotary.at(torch.tensor([3, 39_999]))
    after = rotary.at(places)

    assert all(map(torch.equal, before, after))
    frequencies = 1e4 ** (-torch.arange(0, 16, 2).double() / 16)
    torch.testing.assert_close(far[1, 0].double(), (39_999 * frequencies).cos(), atol=3e-3, rtol=0)


def test_few_angles_are_kept_before_a_long_text_comes() -> None:
    rotary = RotaryEmbedding(head_dim=16, theta=1e4, max_positions=40_000, device=CPU)

    rotary.at(torch.tensor([0, 7, 1_000]))

    assert len(rotary._cos) < 2_000


@pytest.mark.parametrize("reached", [[39_999], [20_001, 30_001]])
def test_no_more_angles_are_kept_than_a_text_can_have(reached: list[int]) -> None:
    """Not twice as many as before either, where that is more."""
    rotary = RotaryEmbedding(head_dim=16, theta=1e4, max_positions=40_000, device=CPU)

    for place in reached:
        rotary.at(torch.tensor([place]))

    assert len(rotary._cos) == len(rotary._sin) == 40_000
