"""How far vectors agree, against values worked out by hand and a plain search."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hexgrid.encoding import Vectors
from hexgrid.evaluation import agreement as module
from hexgrid.evaluation.agreement import agreement


def unit(angles: list[float]) -> Vectors:
    """Vectors [N, 2] at these angles."""
    return np.array([[np.cos(a), np.sin(a)] for a in angles], np.float32)


def random(count: int, seed: int, width: int = 8) -> Vectors:
    rows = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    scaled: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return scaled


def test_equal_vectors_agree_in_everything() -> None:
    found = agreement(random(50, 0), random(50, 0))

    np.testing.assert_allclose(found.cosines, 1, atol=1e-6)
    assert found.num_neighbours == 10
    assert not found.changed.any()
    assert found.nearest_kept.all()


def test_vectors_turned_together_keep_their_neighbours() -> None:
    found = agreement(unit([0.0, 0.1, 0.3]), unit([1.0, 1.1, 1.3]))

    np.testing.assert_allclose(found.cosines, np.cos(1.0), atol=1e-6)
    assert found.summary()["neighbours_changed"] == 0


def test_the_figures_of_one_that_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a line of angles, the last of four goes to the other end; each has one neighbour."""
    monkeypatch.setattr(module, "NEIGHBOURS", 1)

    found = agreement(unit([0.0, 0.2, 0.5, 0.6]), unit([0.0, 0.2, 0.5, -0.1]))

    assert found.changed.tolist() == [1, 0, 1, 1]  # of 0: 0.2, now -0.1; of 0.5: 0.6, now 0.2
    assert found.nearest_kept.tolist() == [False, True, False, False]
    summary = found.summary()
    assert summary["cosine_min"] == pytest.approx(np.cos(0.7), abs=1e-6)
    assert (summary["neighbours_changed"], summary["texts_with_all_kept"]) == (0.75, 0.25)
    assert summary["texts_with_nearest_kept"] == 0.25


def test_fewer_texts_have_fewer_neighbours() -> None:
    assert agreement(random(2, 0), random(2, 1)).num_neighbours == 1


@given(st.integers(2, 40), st.integers(0, 1000), st.integers(1, 7))
def test_it_is_what_a_plain_search_finds(count: int, seed: int, block: int) -> None:
    ours, theirs = random(count, seed), random(count, seed + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        found = agreement(ours, theirs)

    for row in range(count):
        near = []
        for vectors in (ours, theirs):
            others = [other for other in range(count) if other != row]
            order = sorted(others, key=lambda other: -float(vectors[row] @ vectors[other]))
            near.append(order[: found.num_neighbours])
        assert found.changed[row] == len(set(near[0]) - set(near[1]))
        assert found.nearest_kept[row] == (near[0][0] == near[1][0])
