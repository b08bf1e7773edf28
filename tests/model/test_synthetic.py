"""Random checkpoints: repeatable, complete, in the layout of the published ones."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hexgrid.errors import CheckpointError
from hexgrid.model import layout, synthetic
from hexgrid.model.checkpoint import open_checkpoint
from hexgrid.model.synthetic import make_checkpoint, random_tensor


def test_the_same_arguments_give_the_same_files(tiny_checkpoint: Path, tmp_path: Path) -> None:
    make_checkpoint(tmp_path, "tiny")

    files = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.*")}
    assert len(files) == 8
    assert all(
        (tmp_path / file).read_bytes() == (tiny_checkpoint / file).read_bytes() for file in files
    )


def test_a_tensor_depends_on_its_name_and_seed_alone() -> None:
    def make(name: str, seed: int) -> torch.Tensor:
        return random_tensor(name, (4, 4), seed, torch.float32)

    assert torch.equal(make("a", 0), make("a", 0))
    assert not torch.equal(make("a", 0), make("b", 0))
    assert not torch.equal(make("a", 0), make("a", 1))


def test_fewer_layers_have_the_weights_of_the_first_layers(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    make_checkpoint(tmp_path, "tiny", num_layers=1)

    whole = load_file(tiny_checkpoint / "model.safetensors")
    part = load_file(tmp_path / "model.safetensors")
    assert open_checkpoint(tmp_path).config.num_hidden_layers == 1
    assert all(torch.equal(tensor, whole[name]) for name, tensor in part.items())


def test_progress_is_told_in_bytes_up_to_the_total(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    make_checkpoint(tmp_path, "tiny", on_tensor=lambda done, total: told.append((done, total)))

    assert told == sorted(told)
    assert {total for _, total in told} == {open_checkpoint(tmp_path).num_bytes}
    assert told[-1][0] == told[-1][1]


def test_large_weights_are_split_into_files_with_an_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "SHARD_BYTES", 40_000)

    make_checkpoint(tmp_path, "tiny")

    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    files = {path.name for path in tmp_path.glob("model-*.safetensors")}
    assert len(files) > 2
    assert files == set(index["weight_map"].values())
    assert index["weight_map"].keys() == open_checkpoint(tmp_path).tensors.keys()


def test_a_directory_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()

    with pytest.raises(CheckpointError, match="is not empty"):
        make_checkpoint(tmp_path, "tiny")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()

    with pytest.raises(CheckpointError, match="is not empty"):
        make_checkpoint(path, "tiny")


def test_the_readme_says_that_the_vectors_mean_nothing(tiny_checkpoint: Path) -> None:
    assert synthetic.WARNING in (tiny_checkpoint / "README.md").read_text()
