"""Checkpoints of somebody who wishes us ill: refused by an error of ours, and from their own files alone."""

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hexgrid.errors import CheckpointError
from hexgrid.model.checkpoint import open_checkpoint
from hexgrid.model.checkpoint_files import MAX_HEADER_BYTES, MAX_JSON_BYTES
from hexgrid.model.compact import export
from tests.checkpoints import CheckpointFactory, edit_json, write_json
from tests.model.hostile import EXAMPLES, hostile_values

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
SENTENCE_TRANSFORMERS = "config_sentence_transformers.json"
JSON_FILES = ("config.json", INDEX, "modules.json", "1_Pooling/config.json", SENTENCE_TRANSFORMERS)
VOCAB_SIZE = 151_669


@pytest.fixture
def directory(new_checkpoint: CheckpointFactory) -> Path:
    """A small checkpoint of one's own, to spoil."""
    return new_checkpoint()


@pytest.fixture(scope="module")
def shared(new_checkpoint: CheckpointFactory) -> Path:
    """One whose files every example writes anew."""
    return new_checkpoint()


def refused(directory: Path, message: str | None = None) -> None:
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(directory)


def read_or_refused(directory: Path) -> None:
    """Anything but an error of ours fails the test, and so does one of no end."""
    message = ""
    try:
        open_checkpoint(directory)
    except CheckpointError as error:
        message = error.message
    assert len(message) < 2000


MODULE_KEYS = ("type", "path", "idx", "name")


@given(data=st.data())
@EXAMPLES
def test_any_value_of_any_key_of_the_config_is_read_or_refused(
    directory: Path, data: st.DataObject
) -> None:
    config = json.loads((directory / "config.json").read_text())
    key = data.draw(st.sampled_from([*config, "rope_parameters", "dtype", "matryoshka_dimensions"]))
    write_json(directory / "config.json", config | {key: data.draw(hostile_values)})
    try:
        read_or_refused(directory)
    finally:
        write_json(directory / "config.json", config)


@pytest.mark.parametrize("name", JSON_FILES)
@given(content=hostile_values)
@EXAMPLES
def test_any_json_is_read_or_refused(directory: Path, name: str, content: Any) -> None:
    write_json(directory / name, content)

    read_or_refused(directory)


@given(
    module=st.dictionaries(st.sampled_from(MODULE_KEYS), hostile_values),
    kind=st.sampled_from(["x.Pooling", "Transformer"]),
)
@EXAMPLES
def test_any_module_is_read_or_refused(directory: Path, module: dict[str, Any], kind: str) -> None:
    write_json(directory / "modules.json", [module | {"type": kind}])

    read_or_refused(directory)


@pytest.mark.parametrize("name", JSON_FILES)
def test_json_nested_past_all_reason_is_refused(directory: Path, name: str) -> None:
    (directory / name).write_text('{"a":' + "[" * 200_000 + "]" * 200_000 + "}")

    refused(directory, f"{Path(name).name} cannot be read: it is nested too deeply")


@pytest.mark.parametrize("name", [name for name in JSON_FILES if name != INDEX])
def test_json_larger_than_any_config_is_not_read(directory: Path, name: str) -> None:
    with (directory / name).open("wb") as file:
        file.truncate(10**12)  # a hole: it takes no room on the disk

    refused(directory, f"{Path(name).name} has more than {MAX_JSON_BYTES} bytes")


@pytest.mark.parametrize("name", [*JSON_FILES, WEIGHTS])
def test_a_pipe_is_not_waited_for(directory: Path, name: str) -> None:
    path = directory / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    if name == INDEX:  # it is then not there: one file is looked for
        (directory / WEIGHTS).unlink()

    refused(directory, "no plain file|has neither")


LINKED = [name for name in JSON_FILES if name != INDEX] + [WEIGHTS, "tokenizer.json"]


@pytest.mark.parametrize("name", LINKED)
def test_a_link_out_of_the_directory_is_refused(directory: Path, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    (directory / name).rename(outside)
    (directory / name).symlink_to(outside)

    refused(directory, f"{directory / name} is {outside}, outside of the checkpoint's directory")


def test_a_linked_folder_out_of_the_directory_is_refused(directory: Path, tmp_path: Path) -> None:
    (directory / "1_Pooling").rename(tmp_path / "outside")
    (directory / "1_Pooling").symlink_to(tmp_path / "outside")

    refused(directory, "outside of the checkpoint's directory")


def test_a_linked_shard_out_of_the_directory_is_refused(
    new_checkpoint: CheckpointFactory, tmp_path: Path
) -> None:
    directory = new_checkpoint(num_files=2)
    shard = directory / "model-00002-of-00002.safetensors"
    shard.rename(tmp_path / "outside")
    shard.symlink_to(tmp_path / "outside")

    refused(directory, f"{shard} is .*, outside of the checkpoint's directory")


def test_a_loop_of_links_is_refused(directory: Path) -> None:
    (directory / "config.json").unlink()
    (directory / "config.json").symlink_to("config.json")

    refused(directory)


def test_links_within_the_directory_are_followed(directory: Path) -> None:
    (directory / WEIGHTS).rename(directory / "weights")
    (directory / WEIGHTS).symlink_to("weights")
    link = directory.parent / "link"
    link.symlink_to(directory)

    open_checkpoint(directory)
    open_checkpoint(link)


def test_the_hubs_cache_is_read_through_its_links(directory: Path, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "models--a--b/blobs", tmp_path / "models--a--b/snapshots/abc"
    blobs.mkdir(parents=True)
    for number, path in enumerate(sorted(directory.rglob("*.*"))):
        if path.is_file():
            link = snapshot / path.relative_to(directory)
            link.parent.mkdir(parents=True, exist_ok=True)
            path.rename(blobs / str(number))
            link.symlink_to(os.path.relpath(blobs / str(number), link.parent))

    assert (snapshot / "config.json").is_symlink()
    open_checkpoint(snapshot)


@pytest.mark.parametrize("path", ["..", "../outside", "/etc", "1_Pooling/../../outside"])
def test_a_module_outside_of_the_directory_is_refused(directory: Path, path: str) -> None:
    (directory.parent / "outside").mkdir(exist_ok=True)
    write_json(directory.parent / "outside/config.json", {"pooling_mode": "lasttoken"})
    write_json(directory / "modules.json", [{"type": "x.Pooling", "path": path}])

    refused(directory, "outside of the checkpoint's directory")


def test_an_export_takes_no_file_along_from_elsewhere(directory: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("sekret")
    (directory / "LICENSE").symlink_to(secret)

    with pytest.raises(CheckpointError, match="outside of the checkpoint's directory"):
        export(directory, tmp_path / "target", "float32")

    copies = [path for path in (tmp_path / "target").rglob("*") if path.is_file()]
    assert all(b"sekret" not in path.read_bytes() for path in copies)


def test_an_index_of_very_many_files_is_refused(directory: Path) -> None:
    write_json(directory / INDEX, {"weight_map": {str(i): f"{i}.safetensors" for i in range(1001)}})

    refused(directory, "names 1001 files; at most 1000 are read")


def with_header(directory: Path, header: bytes, num_bytes: int | None = None) -> None:
    """Weights that begin with `header`, which is said to have `num_bytes`, and 64 bytes after it."""
    said = len(header) if num_bytes is None else num_bytes
    (directory / WEIGHTS).write_bytes(struct.pack("<Q", said) + header + bytes(64))


def entry(dtype: Any = "F32", shape: Any = (16,), offsets: Any = (0, 64)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


HEADERS: dict[str, Any] = {
    "longer than the file": {"norm.weight": entry(offsets=(0, 2**40), shape=(2**38,))},
    "before its start": {"norm.weight": entry(offsets=(-64, 0))},
    "backwards": {"norm.weight": entry(offsets=(64, 0))},
    "overlapping": {"a": entry(), "b": entry()},
    "overlapping by half": {"a": entry(), "b": entry(offsets=(32, 96))},
    "with a hole": {"a": entry(shape=(4,), offsets=(16, 32))},
    "a shape that overflows": {"a": entry(shape=(2**63, 2**63))},
    "a shape of nothing": {"a": entry(shape=(0,), offsets=(0, 0))},
    "a negative shape": {"a": entry(shape=(-16,))},
    "a shape of text": {"a": entry(shape="16")},
    "a shape of very many": {"a": entry(shape=(1,) * 100_000)},
    "an unknown dtype": {"a": entry(dtype="PICKLE")},
    "no object": [1, 2],
    "no entry": {"a": 3},
}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_weights_with_a_false_header_are_refused(directory: Path, header: Any) -> None:
    with_header(directory, json.dumps(header).encode())

    refused(directory, "cannot be read as safetensors|do not fit config.json")


@pytest.mark.parametrize(
    ("num_bytes", "message"),
    [
        (2**30, f"has {2**30} bytes; at most {MAX_HEADER_BYTES}"),
        (2**63, f"has {2**63} bytes; at most {MAX_HEADER_BYTES}"),
        (2**20, "cannot be read as safetensors"),
        (0, "cannot be read as safetensors"),
    ],
)
def test_a_header_of_a_false_length_is_refused(
    directory: Path, num_bytes: int, message: str
) -> None:
    with_header(directory, b"{}", num_bytes)

    refused(directory, message)


def test_a_list_of_a_million_tensors_is_not_read(directory: Path) -> None:
    names = ",".join(f'"{i:07}":{json.dumps(entry())}' for i in range(10**6))
    with_header(directory, f"{{{names}}}".encode())

    refused(directory, f"at most {MAX_HEADER_BYTES} are read")


@pytest.mark.parametrize("content", [b"", b"\1", b"\xff" * 8, b"[" * 10_000])
def test_weights_that_are_none_are_refused(directory: Path, content: bytes) -> None:
    (directory / WEIGHTS).write_bytes(content)

    refused(directory, "cannot be read as safetensors")


@given(header=st.dictionaries(st.text(max_size=5), hostile_values, max_size=4))
@EXAMPLES
def test_any_header_is_refused(shared: Path, header: dict[str, Any]) -> None:
    with_header(shared, json.dumps(header).encode())

    refused(shared)


@given(content=st.binary(max_size=300))
@EXAMPLES
def test_any_bytes_as_weights_are_refused(shared: Path, content: bytes) -> None:
    (shared / WEIGHTS).write_bytes(content)

    refused(shared)


def test_prompts_that_are_no_text_are_refused(directory: Path) -> None:
    edit_json(directory / SENTENCE_TRANSFORMERS, prompts={"query": ["x"]})

    refused(directory, "prompts must be an object of name to text")
