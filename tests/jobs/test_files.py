"""Files that are whole or not there."""

from pathlib import Path

import pytest

from hexgrid.jobs.files import atomic, remove_unfinished


def test_a_file_is_there_once_its_block_is_over(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with atomic(path) as unfinished:
        unfinished.write_bytes(b"whole")
        assert not path.exists()

    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]


def test_after_an_error_all_is_as_before(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with atomic(path) as unfinished:
            unfinished.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = [tmp_path / name for name in ("a[b].npy", "a[b].npy.rows.jsonl", "ab.npy.7.unfinished")]
    left = [tmp_path / f"a[b].npy.{pid}.unfinished" for pid in (1, 2**22)]
    for path in kept + left:
        path.touch()

    remove_unfinished(tmp_path / "a[b].npy")

    assert sorted(tmp_path.iterdir()) == sorted(kept)
