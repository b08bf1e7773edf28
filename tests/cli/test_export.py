"""hexgrid checkpoint export: the published layout, of any MODEL, for other software.

tests/nano has the export of the embedded model.
"""

from pathlib import Path

import pytest
from safetensors import safe_open

from hexgrid.model.checkpoint import open_checkpoint
from hexgrid.model.compact import compact
from tests.cli.conftest import Command


@pytest.fixture(scope="module")
def compact_checkpoint(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint with hardly a token kept."""
    directory = tmp_path_factory.mktemp("compact")
    compact(tiny_checkpoint, directory, keep=range(100))
    return directory


@pytest.mark.parametrize(
    ("arguments", "dtype"),
    [((), "F32"), (("--dtype", "float32"), "F32"), (("--dtype", "bfloat16"), "BF16")],
    ids=str,
)
def test_a_compact_checkpoint_becomes_a_published_one(
    command: Command,
    compact_checkpoint: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    dtype: str,
) -> None:
    target = tmp_path / "new/nano"

    result = command("checkpoint", "export", str(compact_checkpoint), str(target), *arguments)

    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert f"Wrote {target}" in result.stderr
    assert {entry.dtype for entry in open_checkpoint(target).tensors.values()} == {dtype}
    with safe_open(target / "model.safetensors", framework="numpy") as weights:
        assert weights.get_slice("embed_tokens.weight").get_shape() == [151_669, 64]
    assert (target / "1_Pooling/config.json").is_file()


def test_what_is_there_is_left_alone(
    command: Command, compact_checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")

    result = command("checkpoint", "export", str(compact_checkpoint), str(tmp_path))

    assert result.exit_code == 1
    assert f"{tmp_path} is not empty; name a new directory" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_precision_that_overflows_elsewhere_is_not_offered(
    command: Command, compact_checkpoint: Path, tmp_path: Path
) -> None:
    result = command(
        "checkpoint", "export", str(compact_checkpoint), str(tmp_path / "x"), "--dtype", "float16"
    )

    assert result.exit_code == 2
    assert "'float32', 'bfloat16'" in result.stderr
