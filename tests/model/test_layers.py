"""The building blocks, each against its definition."""

import pytest
import torch

from hexgrid.model import cpu_kernels
from hexgrid.model.cpu_kernels import Places, Turn
from hexgrid.model.int8 import Int8Matrix, quantise_matrix
from hexgrid.model.layers import (
    Matrix,
    Product,
    RotaryEmbedding,
    add,
    linear,
    norm_linear,
    rms_norm,
    split_heads,
    swiglu,
    swiglu_linear,
)
from tests.model.running import CPU

ROTARY = RotaryEmbedding(head_dim=16, theta=1e4, max_positions=512, device=CPU)


@pytest.fixture(params=["kernels", "torch"], autouse=True)
def _implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine uses, and what those use for which there are no kernels of ours."""
    if request.param == "torch":
        monkeypatch.setattr(cpu_kernels, "_library", None)


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


def add_mlp(target: torch.Tensor, x: torch.Tensor, gate_up: Matrix, down: Matrix) -> None:
    add(target, swiglu_linear(linear(x, gate_up), down))


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

    assert linear(x, weight).whole().dtype == dtype
    assert rms_norm(x, weight[0], 1e-6).dtype == dtype


def turned(
    x: torch.Tensor, weight: torch.Tensor, eps: float, angles: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """Queries x [T, N, D]."""
    return split_heads(
        Product(x.flatten(1).contiguous()), Turn(weight, weight, eps, *angles), x.shape[1]
    )


def at(x: torch.Tensor, position: int) -> torch.Tensor:
    """x [D] turned as at that position, with a root mean square of one."""
    angles = ROTARY.at(torch.tensor([position]))
    return turned(x.view(1, 1, -1), torch.ones(len(x)), 0.0, angles).flatten()


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
    found = turned(x, weight, 0.1, (cos, sin))
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


def test_a_norm_before_a_linear_layer_is_that_norm() -> None:
    x, norm, weight = random_tensor(5, 64), random_tensor(64), random_tensor(32, 64)

    expected = rms_norm(x, norm, 0.1) @ weight.T
    torch.testing.assert_close(norm_linear(x, norm, 0.1, weight).whole(), expected)
    in_int8 = norm_linear(x, norm, 0.1, Int8Matrix.of(*quantise_matrix(weight)))
    assert in_int8.scales is not None, "they wait for what follows"
    similarity = torch.nn.functional.cosine_similarity(in_int8.whole(), expected)
    assert similarity.min() > 0.999


@pytest.mark.parametrize("own", [slice(2, 7), torch.tensor([9, 0, 3, 5, 1])])
@pytest.mark.parametrize("scales", [None, torch.logspace(-1, 1, 5).unsqueeze(1)])
def test_heads_are_split_into_queries_keys_and_values(
    own: slice | torch.Tensor, scales: torch.Tensor | None
) -> None:
    product, (q_norm, k_norm) = random_tensor(5, (3 + 2 * 2) * 16), random_tensor(2, 16)
    turn = Turn(q_norm, k_norm, 0.1, *ROTARY.at(torch.arange(5)))
    places = Places(torch.zeros(10, 2, 16), torch.zeros(10, 2, 16), own)
    heads = (product * (1 if scales is None else scales)).unflatten(1, (-1, 16))

    q = split_heads(Product(product, scales), turn, 3, places)

    angles = (turn.cos, turn.sin)
    torch.testing.assert_close(q, turned(heads[:, :3], q_norm, 0.1, angles))
    torch.testing.assert_close(places.k[own], turned(heads[:, 3:5], k_norm, 0.1, angles))
    torch.testing.assert_close(places.v[own], heads[:, 5:])
    assert len(places.v.abs().sum((1, 2)).nonzero()) == 5, "no other rows are written"
