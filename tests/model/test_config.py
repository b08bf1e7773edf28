"""config.json in both styles, its refusals, and the published sizes against transformers."""

import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hexgrid.errors import CheckpointError
from hexgrid.model import config as model_config
from hexgrid.model.checkpoint import expected_shapes
from hexgrid.model.config import ModelConfig
from hexgrid.model.synthetic import SHAPES, Size, config_json
from tests.checkpoints import SMALL, ConfigStyle, in_style, shaped

VALID = config_json(SMALL, SMALL.num_hidden_layers, torch.bfloat16)
STYLES: list[ConfigStyle] = ["transformers 4", "transformers 5"]
REAL_SIZES: list[Size] = ["0.6B", "4B", "8B"]


def parse_size(size: Size) -> ModelConfig:
    shape = SHAPES[size]
    return model_config.parse(config_json(shape, shape.num_hidden_layers, torch.bfloat16))


@pytest.mark.parametrize("style", STYLES)
def test_both_styles_give_the_same_numbers(style: ConfigStyle) -> None:
    parsed = model_config.parse(in_style(VALID | {"rope_theta": 12_345}, style))

    assert parsed == ModelConfig(
        vocab_size=500,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        rms_norm_eps=1e-6,
        rope_theta=12_345.0,
        max_position_embeddings=4096,
        dtype="bfloat16",
    )


def test_head_dim_is_read_and_not_worked_out_from_the_heads() -> None:
    parsed = model_config.parse(VALID | {"head_dim": 48})

    assert (parsed.head_dim, parsed.q_size, parsed.kv_size) == (48, 192, 96)


def test_a_list_of_matryoshka_dimensions_is_kept_in_order() -> None:
    parsed = model_config.parse(VALID | {"matryoshka_dimensions": [64, 16, 32]})

    assert parsed.matryoshka_dimensions == (16, 32, 64)


@pytest.mark.parametrize("architecture", ["Qwen3ForCausalLM", "Qwen3Model"])
def test_both_architecture_names_are_taken(architecture: str) -> None:
    assert model_config.parse(VALID | {"architectures": [architecture]}) == model_config.parse(
        VALID
    )


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "code of the checkpoint": ({"auto_map": {"AutoModel": "x.Y"}}, "never runs such code"),
    "another architecture": ({"architectures": ["BertModel"]}, "architecture .*BertModel"),
    "no architecture": ({"architectures": None}, "architecture missing"),
    "an architecture that is no list": ({"architectures": 3}, "architecture 3"),
    "quantised weights": ({"quantization_config": {"bits": 4}}, "quantization_config"),
    "another activation": ({"hidden_act": "gelu"}, "hidden_act 'gelu' .* only 'silu'"),
    "biases": ({"attention_bias": True}, "attention_bias True"),
    "a sliding window": ({"use_sliding_window": True}, "use_sliding_window True"),
    "scaled RoPE": ({"rope_scaling": {"rope_type": "yarn"}}, "RoPE scaling 'yarn'"),
    "scaled RoPE, old key": ({"rope_scaling": {"type": "linear"}}, "RoPE scaling 'linear'"),
    "scaled RoPE, new place": (
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e6}},
        "RoPE scaling 'llama3'",
    ),
    "RoPE settings that are no object": ({"rope_parameters": [1]}, "rope_parameters"),
    "no theta": (
        {"rope_theta": None},
        "rope_theta must be a number from 1 to 1e.12, found nothing",
    ),
    "a theta of zero": ({"rope_theta": 0}, "rope_theta must be a number from 1 to 1e.12, found 0"),
    "an endless theta": ({"rope_theta": float("inf")}, "rope_theta .* found inf"),
    "a theta that is no number": ({"rope_theta": float("nan")}, "rope_theta .* found nan"),
    "a theta past all floats": ({"rope_theta": 10**400}, "rope_theta .* found a huge number"),
    "an epsilon of nothing": ({"rms_norm_eps": 1e-300}, "rms_norm_eps .* found 1e-300"),
    "a dtype that is no name": ({"dtype": ["float32"]}, "dtype must be a name"),
    "an epsilon that is text": ({"rms_norm_eps": "1e-6"}, "rms_norm_eps .* found '1e-6'"),
    "heads that do not divide": ({"num_key_value_heads": 3}, "4 is not a multiple of .* 3"),
    "an odd head": ({"head_dim": 15}, "head_dim must be even for RoPE, got 15"),
    "no head_dim": ({"head_dim": None}, "head_dim must be an integer .*, found nothing"),
    "no layers": ({"num_hidden_layers": 0}, "num_hidden_layers .* found 0"),
    "layers as true": ({"num_hidden_layers": True}, "num_hidden_layers .* found True"),
    "a size past all reason": ({"hidden_size": 10**9}, "hidden_size .* 1 to 65536, found"),
    "a vocabulary with a fraction": ({"vocab_size": 1.5}, "vocab_size .* found 1.5"),
    "negative positions": ({"max_position_embeddings": -1}, "max_position_embeddings"),
    "a huge vocabulary": ({"vocab_size": 2**60}, "vocab_size .* found a huge number"),
    "very many positions": ({"max_position_embeddings": 10**15}, "found 1000000000000000"),
    "very many layers": ({"num_hidden_layers": 10**9}, "from 1 to 1024, found 1000000000"),
    "negative heads": ({"num_attention_heads": -4}, "num_attention_heads .* found -4"),
    "a Matryoshka dimension past the width": (
        {"matryoshka_dimensions": [65]},
        "1 to hidden_size 64",
    ),
    "a Matryoshka list of text": ({"matryoshka_dimensions": ["64"]}, "matryoshka_dimensions"),
    "a Matryoshka dimension of 0": ({"matryoshka_dimensions": [0]}, "matryoshka_dimensions"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_computed_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        model_config.parse(VALID | changes)


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(key=st.sampled_from([*VALID, "rope_parameters", "matryoshka_dimensions"]), value=any_json)
def test_any_value_of_any_key_is_read_or_refused(key: str, value: Any) -> None:
    with contextlib.suppress(CheckpointError):
        assert model_config.parse(VALID | {key: value}).num_parameters > 0


@pytest.mark.parametrize(
    ("size", "expected"),
    [("0.6B", 595_776_512), ("4B", 4_021_774_336), ("8B", 7_567_295_488)],
)
def test_a_published_size_has_its_published_number_of_parameters(size: Size, expected: int) -> None:
    config = parse_size(size)

    assert config.num_parameters == expected
    assert count(expected_shapes(config).values()) == expected


def count(shapes: Iterable[tuple[int, ...]]) -> int:
    return sum(torch.Size(shape).numel() for shape in shapes)


@pytest.fixture(scope="module")
def transformers_shapes() -> Callable[[dict[str, Any]], dict[str, tuple[int, ...]]]:
    """The state dict of transformers' Qwen3Model of a config, built without memory."""
    from transformers import Qwen3Config, Qwen3Model

    def build(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
        with torch.device("meta"):
            model = Qwen3Model(Qwen3Config(**config))
        return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}

    return build


@pytest.mark.parametrize("size", [*REAL_SIZES, "tiny"])
def test_expected_tensors_are_those_of_transformers(
    size: Size, transformers_shapes: Callable[[dict[str, Any]], dict[str, tuple[int, ...]]]
) -> None:
    shape = SHAPES[size]
    config = config_json(shape, shape.num_hidden_layers, torch.bfloat16)

    assert expected_shapes(model_config.parse(config)) == transformers_shapes(config)


def test_expected_tensors_follow_heads_that_do_not_fill_the_hidden_size(
    transformers_shapes: Callable[[dict[str, Any]], dict[str, tuple[int, ...]]],
) -> None:
    config = config_json(shaped(head_dim=40, num_attention_heads=6), 2, torch.bfloat16)

    assert expected_shapes(model_config.parse(config)) == transformers_shapes(config)
