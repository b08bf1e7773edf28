"""How long the check of a key takes, by what is wrong about it: the times must not tell.

    python scripts/time_keys.py

Kinds take turns in random order; medians of many. A wrong key of --api-key takes longer than the right one by
the exception that refuses it, which the answer tells anyway; where it is wrong must make no difference.
"""

import random
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns

from hexgrid.config.settings import Secret
from hexgrid.errors import UnauthorizedError
from hexgrid.server.auth import Keys
from hexgrid.server.followed_store import FollowedStore
from hexgrid.server.key_store import KeyStore, Limits
from hexgrid.tables import aligned

_ROUNDS = 20_000
_FIRST = "first letter wrong"


def main() -> int:
    with tempfile.TemporaryDirectory() as directory:
        store = KeyStore(Path(directory) / "keys.sqlite3")
        stored = store.create("one", Limits())
        followed = FollowedStore(store.file)
        given = "sk-" + "k" * 40
        rows = [("", "median of the check (ns)", "against a wrong first letter (ns)")]
        keys = Keys([Secret(given)])
        rows += _rows("key of --api-key", _kinds(given, 0), lambda key: _is_valid(keys, key))
        # The prefix of a stored key is public: it stands in `hexgrid keys list`.
        found = followed.find(stored)
        assert found is not None
        rows += _rows("key of the store", _kinds(stored, stored.rindex("_") + 1), found.fits)
        followed.close()
    sys.stdout.write("\n".join(aligned(rows, num_left=1)) + "\n")
    return 0


def _kinds(key: str, start: int) -> dict[str, str]:
    """The key, and others that differ from it in one letter from `start` on, or in all."""
    middle = (start + len(key)) // 2
    return {
        "right": key,
        _FIRST: _changed(key, start),
        "middle letter wrong": _changed(key, middle),
        "last letter wrong": _changed(key, len(key) - 1),
        "all letters wrong": key[:start] + "#" * (len(key) - start),
    }


def _changed(key: str, at: int) -> str:
    return key[:at] + "#" + key[at + 1 :]


def _is_valid(keys: Keys, key: str) -> bool:
    try:
        keys.client(f"Bearer {key}".encode())
    except UnauthorizedError:
        return False
    return True


def _rows(
    name: str, kinds: dict[str, str], check: Callable[[str], bool]
) -> list[tuple[str, str, str]]:
    times: dict[str, list[int]] = {kind: [] for kind in kinds}
    order = list(kinds.items())
    for _ in range(_ROUNDS):
        random.shuffle(order)
        for kind, key in order:
            start = perf_counter_ns()
            is_valid = check(key)
            times[kind].append(perf_counter_ns() - start)
            assert is_valid == (kind == "right")
    medians = {kind: statistics.median(found) for kind, found in times.items()}
    return [
        (f"{name}, {kind}", f"{median:.0f}", f"{median - medians[_FIRST]:+.0f}")
        for kind, median in medians.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
