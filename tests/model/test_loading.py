"""Device and precision picks, and weights that arrive fused, converted and without a second copy."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hexgrid.config import Device, Dtype
from hexgrid.errors import ConfigError
from hexgrid.model import config as model_config
from hexgrid.model.checkpoint import open_checkpoint
from hexgrid.model.layers import Matrix
from hexgrid.model.loading import load_weights, pick_device, pick_dtype
from hexgrid.model.onednn import has_onednn
from hexgrid.model.packed_matrix import PackedMatrix
from hexgrid.model.synthetic import SHAPES, Size, config_json
from tests.checkpoints import SMALL, CheckpointFactory, shaped

CPU = torch.device("cpu")


def config_of(size: Size) -> model_config.ModelConfig:
    return model_config.parse(config_json(SHAPES[size], 1, torch.bfloat16))


def test_a_named_device_that_is_here_is_picked() -> None:
    assert pick_device("cpu") == CPU


def test_auto_picks_the_fastest_device_that_is_here() -> None:
    fastest = "cuda" if torch.cuda.is_available() else "mps" if torch.mps.is_available() else "cpu"

    assert pick_device("auto").type == fastest


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_here_is_refused(device: Device) -> None:
    if getattr(torch, device).is_available():
        pytest.skip(f"{device} is here")

    with pytest.raises(ConfigError, match=f"--device {device}: this machine"):
        pick_device(device)


@pytest.mark.parametrize("wanted", ["float32", "bfloat16", "float16"])
def test_a_named_precision_is_picked(wanted: Dtype) -> None:
    assert pick_dtype(wanted, CPU, config_of("4B")) == getattr(torch, wanted)


def test_float16_is_refused_for_the_size_that_overflows_in_it() -> None:
    with pytest.raises(ConfigError, match=r"float16 gives NaN .*hidden_size 4096"):
        pick_dtype("float16", CPU, config_of("8B"))


@pytest.mark.parametrize("wanted", ["auto", "float32", "bfloat16"])
def test_the_other_precisions_are_open_to_the_largest_size(wanted: Dtype) -> None:
    assert pick_dtype(wanted, CPU, config_of("8B")) != torch.float16


@pytest.mark.parametrize(("device", "expected"), [("cuda", torch.bfloat16), ("mps", torch.float32)])
def test_auto_is_bfloat16_on_cuda_and_float32_on_mps(device: str, expected: torch.dtype) -> None:
    assert pick_dtype("auto", torch.device(device), config_of("8B")) == expected


@pytest.mark.skipif(not has_onednn(CPU), reason="this processor has no packed form")
def test_matrices_are_packed_on_the_cpu(new_checkpoint: CheckpointFactory) -> None:
    weights = load_weights(open_checkpoint(new_checkpoint()), CPU, torch.float32)

    for layer in (*weights.layers, weights.last_layer):
        assert isinstance(layer.gate_up, PackedMatrix)
        assert isinstance(layer.down, PackedMatrix)
        assert isinstance(layer.output, PackedMatrix)
    assert isinstance(weights.layers[0].qkv, PackedMatrix)
    assert isinstance(weights.last_layer.q, PackedMatrix)
    assert isinstance(weights.last_layer.kv, PackedMatrix)


_PARTS = (
    *(f"self_attn.{part}_proj" for part in "qkvo"),
    *(f"mlp.{part}_proj" for part in ("gate", "up", "down")),
    *("self_attn.q_norm", "self_attn.k_norm", "input_layernorm", "post_attention_layernorm"),
)


def plain(matrix: Matrix) -> torch.Tensor:
    assert isinstance(matrix, torch.Tensor | PackedMatrix)
    return matrix.plain() if isinstance(matrix, PackedMatrix) else matrix


def assert_equal(one: Matrix, other: torch.Tensor) -> None:
    assert torch.equal(plain(one), other)


def test_parts_are_fused_in_their_order(new_checkpoint: CheckpointFactory) -> None:
    directory = new_checkpoint(prefix="model.", num_files=3)
    stored = {
        name: tensor
        for file in directory.glob("*.safetensors")
        for name, tensor in load_file(file).items()
    }

    weights = load_weights(open_checkpoint(directory), CPU, torch.float32)

    (first,), last = weights.layers, weights.last_layer
    for number, layer in enumerate((first, last)):
        own = {name: stored[f"model.layers.{number}.{name}.weight"] for name in _PARTS}
        q, k, v = (own[f"self_attn.{part}_proj"] for part in "qkv")
        if layer is first:
            assert_equal(first.qkv, torch.cat((q, k, v)))
        else:  # only pooled tokens have a query there
            assert_equal(last.q, q)
            assert_equal(last.kv, torch.cat((k, v)))
        assert_equal(layer.gate_up, torch.cat((own["mlp.gate_proj"], own["mlp.up_proj"])))
        assert_equal(layer.output, own["self_attn.o_proj"])
        assert_equal(layer.down, own["mlp.down_proj"])
        assert_equal(layer.norms.input, own["input_layernorm"])
        assert_equal(layer.norms.q, own["self_attn.q_norm"])
        assert_equal(layer.norms.k, own["self_attn.k_norm"])
        assert_equal(layer.norms.mlp, own["post_attention_layernorm"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_are_converted_but_a_narrower_embedding_table_is_kept(
    new_checkpoint: CheckpointFactory, stored: torch.dtype, dtype: torch.dtype
) -> None:
    weights = load_weights(open_checkpoint(new_checkpoint(dtype=stored)), CPU, dtype)

    assert weights.final_norm.dtype == dtype
    assert plain(weights.layers[0].qkv).dtype == dtype
    assert isinstance(weights.embedding, torch.Tensor)
    assert weights.embedding.dtype == (stored if stored.itemsize < dtype.itemsize else dtype)


# Of the proportions of 0.6B: a quarter of it is the embedding table, and no other tensor is large.
LARGE = shaped(
    vocab_size=60_000,
    hidden_size=1024,
    num_hidden_layers=12,
    num_attention_heads=16,
    num_key_value_heads=8,
    head_dim=128,
    intermediate_size=3072,
)

MEASURE = """
import sys
from pathlib import Path
import torch
from hexgrid.model.checkpoint import open_checkpoint
from hexgrid.model.loading import load_weights
from hexgrid.model.qwen3 import Qwen3

def memory(field):
    (line,) = (l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith(field))
    return int(line.split()[1]) * 1024

large, small = (open_checkpoint(Path(path)) for path in sys.argv[1:3])
cpu, dtype = torch.device("cpu"), getattr(torch, sys.argv[3])
load_weights(small, cpu, dtype)  # so that torch's own code is in memory
before = memory("VmRSS")
model = Qwen3(large.config, load_weights(large, cpu, dtype), max_positions=1, rows_per_chunk=1)
print(memory("VmHWM") - before, model.num_bytes)
"""


@pytest.fixture(scope="module")
def large_checkpoint(new_checkpoint: CheckpointFactory) -> Iterator[Path]:
    """500 MB, not left behind."""
    directory = new_checkpoint(LARGE, dtype=torch.bfloat16)
    yield directory
    shutil.rmtree(directory)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loading_never_takes_a_fifth_more_memory_than_the_weights(
    large_checkpoint: Path, new_checkpoint: CheckpointFactory, dtype: str
) -> None:
    paths = (str(large_checkpoint), str(new_checkpoint(SMALL)))
    command = [sys.executable, "-c", MEASURE, *paths, dtype]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    peak, weights = map(int, done.stdout.split())
    assert weights > 300e6
    assert peak <= 1.2 * weights
