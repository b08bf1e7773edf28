"""What the teacher said is kept by text: a changed corpus asks only for what is new."""

from pathlib import Path

import numpy as np
from rich.progress import Progress

import teacher


def test_kept_vectors_are_found_again_in_any_order_twice_and_beside_others(tmp_path: Path) -> None:
    kept = np.random.default_rng(0).standard_normal((4, teacher.WIDTH)).astype(np.float16)
    keys = np.array([teacher._key(text) for text in "abcd"], np.uint64)
    teacher._keep(keys[:2], kept[:2], tmp_path)
    teacher._keep(keys[2:], kept[2:], tmp_path)

    # With all of them kept, the teacher itself is not needed.
    found = teacher.vectors(["d", "a", "c", "a"], tmp_path, Progress(disable=True))

    np.testing.assert_array_equal(found, kept[[3, 0, 2, 0]])


def test_only_what_is_new_is_missing(tmp_path: Path) -> None:
    kept = np.zeros((2, teacher.WIDTH), np.float16)
    teacher._keep(np.array([teacher._key(text) for text in "ab"], np.uint64), kept, tmp_path)
    keys = np.array([teacher._key(text) for text in "xbya"], np.uint64)

    missing = teacher._take_kept(keys, tmp_path, np.empty((4, teacher.WIDTH), np.float16))

    assert missing.tolist() == [0, 2]
