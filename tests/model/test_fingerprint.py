"""The fingerprint: the same for the same numbers, another for anything that a vector depends on."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from hexgrid.model.checkpoint import open_checkpoint
from hexgrid.model.fingerprint import fingerprint

CPU = torch.device("cpu")


def of(directory: Path, dtype: torch.dtype = torch.float32) -> str:
    return fingerprint(open_checkpoint(directory), CPU, dtype)


@pytest.fixture
def copy(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tiny_checkpoint, tmp_path / "copy")


def test_a_copy_has_the_same(tiny_checkpoint: Path, copy: Path) -> None:
    assert of(copy) == of(tiny_checkpoint)


def test_one_other_bit_of_the_weights_gives_another(tiny_checkpoint: Path, copy: Path) -> None:
    (file,) = {entry.file for entry in open_checkpoint(copy).tensors.values()}
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)

    assert of(copy) != of(tiny_checkpoint)


def test_another_number_in_the_config_gives_another(tiny_checkpoint: Path, copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    config["rms_norm_eps"] *= 2
    (copy / "config.json").write_text(json.dumps(config))

    assert of(copy) != of(tiny_checkpoint)


def test_another_dtype_or_device_gives_another(tiny_checkpoint: Path) -> None:
    checkpoint = open_checkpoint(tiny_checkpoint)

    others = {
        fingerprint(checkpoint, torch.device(device), dtype)
        for device in ("cpu", "cuda")
        for dtype in (torch.float32, torch.bfloat16)
    }

    others.add(fingerprint(checkpoint, CPU, torch.float32, "int8"))
    assert len(others) == 5


def test_int8_with_fewer_steps_gives_another(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here() -> str:
        return fingerprint(open_checkpoint(tiny_checkpoint), CPU, torch.float32, "int8")

    found = set()
    for has_vnni in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda answer=has_vnni: answer)
        found.add(here())

    assert len(found) == 2
