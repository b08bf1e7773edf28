"""Which files a job reads, in which order, and how it tells that they are still the same ones."""

import os
from collections.abc import Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from hexgrid.errors import ConfigError

InputFormat = Literal["jsonl", "csv", "parquet", "text"]
STDIN = "-"
_FORMATS: dict[str, InputFormat] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".txt": "text",
}
# Read as if they were not there.
_COMPRESSED = (".gz", ".xz")


class InputFile(NamedTuple):
    """A file as it was found; size and time tell whether it was written to since. Standard input has none."""

    path: str
    format: InputFormat
    size: int
    mtime_ns: int


def find_inputs(arguments: Sequence[str], given: InputFormat | None) -> list[InputFile]:
    """The files of paths, folders and patterns, in the order given; those of a folder by name.

    Hidden files of a folder, and those whose names begin with an underscore, are left out.

    Raises:
        ConfigError: nothing is there, it is of no known format, or a file would be read twice.
    """
    if STDIN in arguments:
        if len(arguments) > 1:
            raise ConfigError("- (standard input) cannot be read beside other inputs")
        return [_standard_input(given)]
    files = [_described(path, given) for each in arguments for path in _paths(each, given)]
    seen: set[str] = set()
    for file in files:
        if file.path in seen:
            raise ConfigError(f"{file.path} is named twice among the inputs")
        seen.add(file.path)
    return files


def compression_of(path: str) -> str:
    """The suffix that says how the file is compressed; empty for plain ones."""
    suffix = Path(path).suffix.lower()
    return suffix if suffix in _COMPRESSED else ""


def _standard_input(given: InputFormat | None) -> InputFile:
    if given == "parquet":
        raise ConfigError("Parquet cannot be read from standard input; name the file")
    return InputFile(STDIN, given or "jsonl", 0, 0)


def _paths(argument: str, given: InputFormat | None) -> Iterator[str]:
    if Path(argument).is_dir():
        found = sorted(_of_folder(argument, given))
        if not found:
            raise ConfigError(f"The folder {argument} has no file of {_known()}")
        yield from found
    elif not Path(argument).exists() and has_magic(argument):
        found = sorted(path for path in glob(argument, recursive=True) if Path(path).is_file())  # noqa: PTH207, patterns may be absolute
        if not found:
            raise ConfigError(f"No file matches {argument}")
        yield from found
    else:
        yield argument


def _of_folder(folder: str, given: InputFormat | None) -> Iterator[str]:
    for directory, folders, names in os.walk(folder):
        folders[:] = [each for each in folders if not each.startswith((".", "_"))]
        for name in names:
            if not name.startswith((".", "_")) and (given or _format_of(name)):
                yield str(Path(directory, name))


def _described(path: str, given: InputFormat | None) -> InputFile:
    form = given or _format_of(path)
    if form is None:
        raise ConfigError(
            f"{path} has no ending of {_known()}; say what it is with --input-format "
            f"{'|'.join(get_args(InputFormat))}"
        )
    if form == "parquet" and compression_of(path):
        raise ConfigError(f"{path}: Parquet is compressed within; unpack the file")
    try:
        state = Path(path).stat()
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    return InputFile(path, form, state.st_size, state.st_mtime_ns)


def _format_of(name: str) -> InputFormat | None:
    plain = name.removesuffix(compression_of(name))
    return _FORMATS.get(Path(plain).suffix.lower())


def _known() -> str:
    return f"{', '.join(_FORMATS)} (also as {' or '.join(_COMPRESSED)})"
