"""Quantised weights: near the model that they are of, kept in a file, and made anew when that is no good."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cosine_similarity

from hexgrid.errors import CheckpointError
from hexgrid.model.checkpoint import open_checkpoint
from hexgrid.model.compact import compact
from hexgrid.model.int8_file import load_int8
from hexgrid.model.packing import pack
from hexgrid.model.qwen3 import Qwen3, Weights
from tests.checkpoints import CheckpointFactory, random_ids
from tests.model.running import CPU, open_qwen3

IDS = random_ids([3, 1, 40, 17])


@pytest.fixture
def checkpoint(tmp_path: Path, new_checkpoint: CheckpointFactory) -> Path:
    return shutil.copytree(new_checkpoint(dtype=torch.bfloat16, num_files=2), tmp_path / "model")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "quantized"


def load(checkpoint: Path, cache: Path) -> tuple[Weights, list[str]]:
    """The weights, and what was said meanwhile."""
    said: list[str] = []
    return load_int8(open_checkpoint(checkpoint), cache, said.append), said


def model_of(checkpoint: Path, weights: Weights) -> Qwen3:
    config = open_checkpoint(checkpoint).config
    return Qwen3(config, weights, max_positions=64, rows_per_chunk=32)


def vectors(checkpoint: Path, weights: Weights) -> torch.Tensor:
    return model_of(checkpoint, weights).forward(pack(IDS, CPU))


def test_vectors_are_near_those_of_the_model(checkpoint: Path, cache: Path) -> None:
    weights, _ = load(checkpoint, cache)

    exact = open_qwen3(checkpoint).forward(pack(IDS, CPU))
    cosines = cosine_similarity(vectors(checkpoint, weights), exact)
    assert cosines.min() > 0.99
    assert cosines.max() < 1 - 1e-6


def test_a_model_says_that_it_is_int8_and_what_memory_it_takes(
    checkpoint: Path, cache: Path
) -> None:
    weights, _ = load(checkpoint, cache)

    model = model_of(checkpoint, weights)
    (file,) = cache.iterdir()
    assert model.precision == "int8"
    assert model.num_bytes == sum(tensor.nbytes for tensor in load_file(file).values())


def test_the_second_start_reads_the_file(checkpoint: Path, cache: Path) -> None:
    first, said = load(checkpoint, cache)
    assert said == ["Quantising the weights to int8; the next start finds them"]
    (file,) = cache.iterdir()
    written = file.stat()

    second, said = load(checkpoint, cache)

    assert said == []
    assert list(cache.iterdir()) == [file]
    assert file.stat() == written
    assert cache.stat().st_mode & 0o077 == 0
    assert torch.equal(vectors(checkpoint, first), vectors(checkpoint, second))


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def take_a_tensor(file: Path) -> None:
    tensors = load_file(file)
    del tensors["0.down.scales"]
    save_file(tensors, file)


def point_past_the_rows(file: Path) -> None:
    tensors = load_file(file)
    tensors["embed_tokens.row_of_token"][5] = 100_000
    save_file(tensors, file, metadata={"made_of": metadata_of(file)})


def metadata_of(file: Path) -> str:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        return str(opened.metadata()["made_of"])


def change_a_shape(file: Path) -> None:
    made_of, tensors = metadata_of(file), load_file(file)
    tensors["1.down.laid_out"] = tensors["1.down.laid_out"][:-1].contiguous()
    save_file(tensors, file, metadata={"made_of": made_of})


@pytest.mark.parametrize(
    "spoil", [truncate, empty, take_a_tensor, point_past_the_rows, change_a_shape]
)
def test_a_file_that_is_no_good_is_made_anew(
    checkpoint: Path, cache: Path, spoil: Callable[[Path], None]
) -> None:
    first, _ = load(checkpoint, cache)
    expected = vectors(checkpoint, first)
    (file,) = cache.iterdir()
    spoil(file)

    weights, said = load(checkpoint, cache)

    assert len(said) == 1
    assert torch.equal(vectors(checkpoint, weights), expected)
    assert load(checkpoint, cache)[1] == []


def test_other_weights_in_the_same_place_are_quantised_anew(checkpoint: Path, cache: Path) -> None:
    first, _ = load(checkpoint, cache)
    before = vectors(checkpoint, first)
    for file in checkpoint.glob("*.safetensors"):
        state = file.stat()
        tensors = {name: tensor.flip(0).contiguous() for name, tensor in load_file(file).items()}
        save_file(tensors, file)
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 1))  # whatever the clock's steps

    weights, said = load(checkpoint, cache)

    assert len(said) == 1
    assert not torch.allclose(vectors(checkpoint, weights), before)
    assert len(list(cache.iterdir())) == 1


def test_two_checkpoints_have_a_file_each(checkpoint: Path, cache: Path, tmp_path: Path) -> None:
    load(checkpoint, cache)
    other = shutil.copytree(checkpoint, tmp_path / "other")

    assert load(other, cache)[1] != []
    assert load(other, cache)[1] == load(checkpoint, cache)[1] == []


def test_where_nothing_can_be_written_it_works_all_the_same(
    checkpoint: Path, cache: Path, tmp_path: Path
) -> None:
    expected = vectors(checkpoint, load(checkpoint, cache)[0])
    (tmp_path / "file").write_text("")

    weights, said = load(checkpoint, tmp_path / "file" / "quantized")

    assert torch.equal(vectors(checkpoint, weights), expected)
    assert said[-1].startswith("WARNING: the quantised weights are not kept: ")
    assert "--quantized-dir" in said[-1]


def test_a_compact_table_stays_as_it_is(checkpoint: Path, cache: Path, tmp_path: Path) -> None:
    compact(checkpoint, tmp_path / "compact", keep=range(100))
    stored = load_file(tmp_path / "compact" / "model.safetensors")

    weights, _ = load(tmp_path / "compact", cache)

    assert not isinstance(weights.embedding, torch.Tensor)
    assert torch.equal(weights.embedding.rows, stored["embed_tokens.rows"])


def test_a_weight_that_is_not_finite_is_refused(checkpoint: Path, cache: Path) -> None:
    for file in checkpoint.glob("*.safetensors"):
        tensors = load_file(file)
        for name, tensor in tensors.items():
            if "layers.1.mlp.up_proj" in name:
                tensor[0, 0] = torch.nan
        save_file(tensors, file)

    with pytest.raises(CheckpointError, match="Layer 1, gate_up: a weight is NaN or infinite"):
        load(checkpoint, cache)
    assert not cache.exists()


def test_a_processor_of_another_kind_has_a_file_of_its_own(checkpoint: Path, cache: Path) -> None:
    script = "import sys; from tests.model.test_int8_file import *; load(*map(Path, sys.argv[1:]))"
    subprocess.run(
        [sys.executable, "-c", script, checkpoint, cache],
        env={**os.environ, "ONEDNN_MAX_CPU_ISA": "SSE41"},
        check=True,
    )
    (other,) = cache.iterdir()
    written = other.stat()

    first, said = load(checkpoint, cache)

    assert said == ["Quantising the weights to int8; the next start finds them"]
    assert other.stat() == written
    assert len(list(cache.iterdir())) == 2
    assert torch.equal(vectors(checkpoint, load(checkpoint, cache)[0]), vectors(checkpoint, first))


def test_where_torch_brings_nothing_back_it_quantises_at_each_start(
    checkpoint: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = vectors(checkpoint, load(checkpoint, cache)[0])
    monkeypatch.delattr(torch._C, "_aoti")

    weights, said = load(checkpoint, cache)

    assert [line[:14] for line in said] == ["WARNING: torch"]
    assert torch.equal(vectors(checkpoint, weights), expected)
