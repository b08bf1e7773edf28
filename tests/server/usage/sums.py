"""What a directory of usage holds."""

from pathlib import Path

from hexgrid.server.usage import Sums, Used

NOON = 1_800_000_000 // 3_600 * 3_600


def journals(directory: Path) -> list[Path]:
    return sorted(directory.glob("journal-*"))


def total(sums: Sums) -> Used:
    result = Used(0, 0, 0)
    for used in sums.values():
        result = result.plus(used)
    return result
