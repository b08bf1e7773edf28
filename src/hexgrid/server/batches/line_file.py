"""Files of whole lines: added to, and mended where a process died in the middle of one. All calls block."""

import os
from pathlib import Path


def append(path: Path, lines: bytes) -> None:
    """Add whole lines to a content."""
    with path.open("ab") as file:
        file.write(lines)


def repaired(path: Path) -> int:
    """The size of a content once a line without an end is cut off; 0 where there is none."""
    if not path.exists():
        return 0
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        position = end
        while position > 0:
            start = max(0, position - 65_536)
            file.seek(start)
            place = file.read(position - start).rfind(b"\n")
            if place >= 0:
                position = start + place + 1
                break
            position = start
        file.truncate(position)
        return position
