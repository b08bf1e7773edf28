"""hexgrid checkpoint: random ones of the published shapes, and what files hold."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.checkpoints import edit_json
from tests.cli.conftest import Command, one_line

WARNING = "vectors from this checkpoint mean nothing"


def info(command: Command, directory: Path) -> Any:
    """What `hexgrid checkpoint info` prints."""
    result = command("checkpoint", "info", str(directory))
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_make_writes_a_checkpoint_in_hugging_face_layout(command: Command, tmp_path: Path) -> None:
    result = command("checkpoint", "make", str(tmp_path / "new/tiny"))

    assert result.exit_code == 0
    assert {str(path.relative_to(tmp_path / "new/tiny")) for path in tmp_path.rglob("*.*")} >= {
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "config_sentence_transformers.json",
        "modules.json",
        "1_Pooling/config.json",
        "model.safetensors",
        "README.md",
    }


def test_make_warns_that_the_vectors_mean_nothing(command: Command, tmp_path: Path) -> None:
    result = command("checkpoint", "make", str(tmp_path / "tiny"))

    assert result.stdout == ""
    assert WARNING in " ".join(result.stderr.split())
    assert WARNING in (tmp_path / "tiny/README.md").read_text()


def test_make_gives_the_same_files_for_the_same_seed(command: Command, tmp_path: Path) -> None:
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        command("checkpoint", "make", str(tmp_path / name), "--seed", seed, "--layers", "1")

    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b != c


@pytest.mark.parametrize(("dtype", "width"), [("bfloat16", 2), ("float32", 4), ("float16", 2)])
def test_make_writes_the_dtype_asked_for(
    command: Command, tmp_path: Path, dtype: str, width: int
) -> None:
    directory = tmp_path / "tiny"
    command("checkpoint", "make", str(directory), "--dtype", dtype, "--layers", "1")

    found = info(command, directory)

    assert found["bytes"] == width * found["parameters"]
    assert found["config"]["dtype"] == dtype


def test_make_leaves_what_is_there_alone(command: Command, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")

    result = command("checkpoint", "make", str(tmp_path))

    assert result.exit_code == 1
    assert f"{tmp_path} is not empty; name a new directory" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_make_takes_published_sizes_only(command: Command, tmp_path: Path) -> None:
    result = command("checkpoint", "make", str(tmp_path / "new"), "--size", "1T")

    assert result.exit_code == 2
    assert "'tiny', '0.6B', '4B', '8B'" in result.stderr


@pytest.mark.parametrize(
    ("size", "layers", "parameters", "shape"),
    [
        ("tiny", 1, 151_670 * 64 + 64 * 384 + 3 * 64 * 192 + 192, (64, 4, 2, 32, 192)),
        (
            "0.6B",
            1,
            151_670 * 1024 + 1024 * 6144 + 3 * 1024 * 3072 + 2304,
            (1024, 16, 8, 128, 3072),
        ),
    ],
)
def test_info_tells_the_shape_of_what_was_made(
    command: Command,
    tmp_path: Path,
    size: str,
    layers: int,
    parameters: int,
    shape: tuple[int, ...],
) -> None:
    directory = tmp_path / "made"
    command("checkpoint", "make", str(directory), "--size", size, "--layers", str(layers))

    found = info(command, directory)

    shutil.rmtree(directory)  # up to 340 MB
    assert (found["parameters"], found["bytes"]) == (parameters, 2 * parameters)
    assert found["tensors"] == 2 + 11 * layers
    assert found["config"]["num_hidden_layers"] == layers
    keys = "hidden_size num_attention_heads num_key_value_heads head_dim intermediate_size"
    assert tuple(found["config"][key] for key in keys.split()) == shape


def test_info_tells_the_prompts(command: Command, tiny_checkpoint: Path) -> None:
    found = info(command, tiny_checkpoint)

    assert found["directory"] == str(tiny_checkpoint)
    assert found["prompts"].keys() == {"query", "document"}


def test_info_refuses_what_could_not_be_served(
    command: Command, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "copy"
    shutil.copytree(tiny_checkpoint, directory)
    edit_json(directory / "config.json", hidden_size=128)

    result = command("checkpoint", "info", str(directory))

    assert result.exit_code == 1
    assert "embed_tokens.weight has shape (151669, 64)" in one_line(result)


def test_info_of_nothing_is_one_line(command: Command, tmp_path: Path) -> None:
    result = command("checkpoint", "info", str(tmp_path))

    assert result.exit_code == 1
    assert one_line(result) == f"hexgrid: {tmp_path} has no config.json"
