"""hexgrid compare: figures of two precisions on the lines of a file, and what it refuses."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command, one_line

LINES = [f"The {n}th sentence is about {word}." for n, word in enumerate("oak elm ash fir".split())]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(["", *LINES, LINES[0], "   "]))
    return file


def test_bfloat16_against_float32(command: Command, tiny_checkpoint: Path, texts: Path) -> None:
    arguments = ("compare", str(tiny_checkpoint), "--texts", str(texts), "--dtype", "bfloat16")

    result = command(*arguments, "--json")

    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["precision"], found["against"]) == ("bfloat16", "float32")
    assert (found["num_texts"], found["num_neighbours"]) == (4, 3)
    assert 0.99 < found["cosine_min"] <= found["cosine_mean"] < 1 - 1e-7
    assert found["neighbours_changed"] == 0  # with all others as neighbours, none can
    assert 2 <= found["cosine_min_line"] <= 5
    table = command(*arguments).stdout
    assert "bfloat16 against float32: 4 texts\n" in table
    assert f"least {found['cosine_min']:.6f} (line {found['cosine_min_line']})\n" in table
    assert "of its 3 nearest texts, other ones: 0.00 on average" in table


def test_int8_against_float32(
    command: Command, tiny_checkpoint: Path, texts: Path, tmp_path: Path
) -> None:
    int8 = ("--quantization", "int8", "--quantized-dir", str(tmp_path))

    result = command("compare", str(tiny_checkpoint), "--texts", str(texts), *int8, "--json")

    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["precision"], found["against"]) == ("int8", "float32")
    assert 0.98 < found["cosine_min"] < 1 - 1e-7


def test_the_same_precision_twice_is_refused(
    command: Command, tiny_checkpoint: Path, texts: Path
) -> None:
    arguments = ("--texts", str(texts), "--dtype", "bfloat16", "--against", "bfloat16")

    result = command("compare", str(tiny_checkpoint), *arguments)

    assert result.exit_code == 2
    assert "runs in bfloat16 already; choose another --dtype" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("content", ["", "one\n\none\n", " \n\t\n"])
def test_fewer_than_two_texts_are_refused(
    command: Command, tiny_checkpoint: Path, tmp_path: Path, content: str
) -> None:
    file = tmp_path / "few.txt"
    file.write_text(content)

    result = command("compare", str(tiny_checkpoint), "--texts", str(file))

    assert result.exit_code == 2
    assert "different lines with text; at least 2 are needed" in one_line(result)


def test_a_file_that_is_no_text_is_refused(
    command: Command, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    file = tmp_path / "image.png"
    file.write_bytes(b"\xff\xfe\x00")

    result = command("compare", str(tiny_checkpoint), "--texts", str(file))

    assert "image.png cannot be read" in one_line(result)
