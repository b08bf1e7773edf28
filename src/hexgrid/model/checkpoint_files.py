"""The files of a checkpoint's directory, as one reads what a stranger wrote: bounded, and nothing beside it.

Links may lead to files of the same directory, and from a snapshot in the hub's cache to the blobs beside it,
where the hub's client puts the files themselves. Any other link is refused, so that no checkpoint has a file
read, or copied by an export, that its author could not read.
"""

import json
import struct
from pathlib import Path
from typing import Any

from hexgrid.errors import CheckpointError

_MAX_NAME_CHARS = 255
MAX_JSON_BYTES = 2**20  # the published ones have hundreds
MAX_INDEX_BYTES = 16 * 2**20
MAX_HEADER_BYTES = 8 * 2**20  # of a safetensors file; that of the 8B model has 50,000


def file_in(directory: Path, name: str | Path) -> Path:
    """The path of a file, which need not be there.

    Raises:
        CheckpointError: it is not in `directory`, or a link leads out of it.
    """
    if len(str(name)) > _MAX_NAME_CHARS:
        raise CheckpointError(
            f"{directory}: a file's name of {len(str(name))} characters; at most {_MAX_NAME_CHARS} are taken"
        )
    path = directory / name
    try:
        target = path.resolve()
        root = directory.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links; a name with a NUL
        raise CheckpointError(
            f"{directory}: {str(name)!r} is not a file's name: {error}"
        ) from error
    roots = [root]
    if root.parent.name == "snapshots":
        roots.append(root.parent.parent / "blobs")
    if not any(target.is_relative_to(each) for each in roots):
        raise CheckpointError(
            f"{path} is {target}, outside of the checkpoint's directory; a link may lead to a file of the "
            "same directory only, or of the hub's cache. Copy the file"
        )
    return path


def read_json(directory: Path, name: str | Path, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """What a JSON file holds.

    Raises:
        CheckpointError: see `read_text`; or it is no JSON.
    """
    path = directory / name
    try:
        return json.loads(read_text(directory, name, max_bytes))
    except RecursionError:
        raise CheckpointError(f"{path} cannot be read: it is nested too deeply") from None
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def read_text(directory: Path, name: str | Path, max_bytes: int) -> str:
    """What a text file holds.

    Raises:
        CheckpointError: see `file_in`; or it is missing, not a plain file, too large, or no UTF-8.
    """
    path = file_in(directory, name)
    try:
        if not path.exists():
            raise CheckpointError(f"{path.parent} has no {path.name}")
        if not path.is_file():  # a pipe would keep us waiting
            raise CheckpointError(f"{path} cannot be read: it is no plain file")
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise CheckpointError(f"{path} has more than {max_bytes} bytes, the most that are read")
        return data.decode()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def read_json_object(
    directory: Path, name: str | Path, max_bytes: int = MAX_JSON_BYTES
) -> dict[str, Any]:
    """The same, of a file that must hold an object."""
    data = read_json(directory, name, max_bytes)
    if not isinstance(data, dict):
        raise CheckpointError(f"{directory / name} must hold a JSON object")
    return data


def check_safetensors_header(path: Path) -> None:
    """Refuse a file whose list of tensors is absurdly long, before anything makes a list of it.

    Raises:
        CheckpointError: that is so, or the file cannot be read.
    """
    try:
        if path.exists() and not path.is_file():
            raise CheckpointError(f"{path} cannot be read as safetensors: it is no plain file")
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from error
    (num_bytes,) = struct.unpack("<Q", start.ljust(8, b"\0"))
    if num_bytes > MAX_HEADER_BYTES:
        raise CheckpointError(
            f"{path} cannot be read as safetensors: its header says that it has {num_bytes} bytes; at most "
            f"{MAX_HEADER_BYTES} are read"
        )
