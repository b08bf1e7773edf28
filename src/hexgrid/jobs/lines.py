"""The lines of a file or of standard input, with the byte at which each ends: where a job can go on.

A file is gone on with by its byte, compressed or not. Standard input cannot be wound back: whoever goes on
sends it again, and the digest of what was read tells whether it is the same.
"""

import gzip
import hashlib
import lzma
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from hexgrid.errors import DataError
from hexgrid.jobs.inputs import STDIN, InputFile, compression_of

# A line is held in memory as a whole; more than that is no line of texts.
MAX_LINE_BYTES = 64 * 2**20


class Lines:
    """Iterates over lines as bytes, their ends included; `offset` is where the next one begins."""

    def __init__(self, path: str, file: IO[bytes], raw: IO[bytes]) -> None:
        self.offset = 0
        self._path = path
        self._file = file
        self._raw = raw
        self._digest = hashlib.blake2b(digest_size=16) if path == STDIN else None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            line = self._file.readline(MAX_LINE_BYTES)
        except (OSError, EOFError, lzma.LZMAError) as error:
            raise DataError(f"{self._path} cannot be read on: {error}") from error
        if not line:
            raise StopIteration
        if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
            raise DataError(
                f"{self._path} has a line of more than {MAX_LINE_BYTES} bytes at byte {self.offset}; is it "
                "of another --input-format?"
            )
        self.offset += len(line)
        if self._digest is not None:
            self._digest.update(line)
        return line

    def go_to(self, offset: int, digest: str) -> None:
        """Go on at `offset`; standard input must have been the same up to there.

        Raises:
            DataError: it was not, or ends before.
        """
        if offset == 0:
            return
        if self._digest is None:
            self._file.seek(offset)
            self.offset = offset
            return
        while self.offset < offset:
            if next(self, None) is None:
                break
        if self.offset != offset or self.digest != digest:
            raise DataError(
                "Standard input is not what it was when this job was begun: other bytes come before byte "
                f"{offset}. Send the same again, or start anew with --overwrite"
            )

    @property
    def digest(self) -> str:
        """Of everything up to `offset`; empty for files."""
        return "" if self._digest is None else self._digest.hexdigest()

    @property
    def raw_offset(self) -> int:
        """Bytes of the file as it lies on the disk that have been read: for progress."""
        return self.offset if self._raw is self._file else self._raw.tell()


@contextmanager
def opened_lines(file: InputFile) -> Iterator[Lines]:
    """The lines of `file` while the block runs.

    Raises:
        DataError: it cannot be opened.
    """
    if file.path == STDIN:
        yield Lines(STDIN, sys.stdin.buffer, sys.stdin.buffer)
        return
    try:
        raw = Path(file.path).open("rb")  # noqa: SIM115, closed below
    except OSError as error:
        raise DataError(f"{file.path} cannot be opened: {error.strerror}") from error
    with raw:
        match compression_of(file.path):
            case ".gz":
                with gzip.open(raw) as unpacked:
                    yield Lines(file.path, unpacked, raw)  # type: ignore[arg-type]
            case ".xz":
                with lzma.open(raw) as unpacked:
                    yield Lines(file.path, unpacked, raw)
            case _:
                yield Lines(file.path, raw, raw)
