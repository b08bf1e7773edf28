"""From hidden states to the vectors that clients get."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hexgrid.encoding import Vectors
from hexgrid.model.pooling import finish, finite_rows

HIDDEN: Vectors = np.random.default_rng(0).standard_normal((5, 64), dtype=np.float32) * 8


@pytest.mark.parametrize("dimensions", [None, 64, 32, 7, 1])
def test_vectors_are_cut_and_then_normalised_as_torch_does(dimensions: int | None) -> None:
    expected = torch.nn.functional.normalize(torch.from_numpy(HIDDEN[:, :dimensions]))

    vectors = finish(HIDDEN, dimensions=dimensions, normalize=True)

    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-7)


@given(hidden=arrays(np.float32, (3, 8), elements=st.floats(-100, 100, width=32)))
def test_a_vector_has_length_one_or_is_zero(hidden: Vectors) -> None:
    lengths = np.linalg.norm(finish(hidden, dimensions=5, normalize=True), axis=1)

    tiny = np.linalg.norm(hidden[:, :5], axis=1) < 1e-9
    np.testing.assert_allclose(lengths[~tiny], 1, rtol=0, atol=1e-5)
    assert (lengths[tiny] <= 1 + 1e-5).all()


@pytest.mark.parametrize("width", [1, 7, 64, 256, 1024, 4096])
def test_a_vector_alone_is_the_same_as_among_others(width: int) -> None:
    hidden = np.random.default_rng(1).standard_normal((50, 4096), dtype=np.float32) * 8

    together = finish(hidden, dimensions=width, normalize=True)

    for index in range(len(hidden)):
        alone = finish(hidden[index : index + 1], dimensions=width, normalize=True)
        assert alone.tobytes() == together[index].tobytes()


def test_a_zero_vector_stays_zero() -> None:
    assert finish(np.zeros((1, 4), np.float32), dimensions=None, normalize=True).tolist() == [
        [0] * 4
    ]


@pytest.mark.parametrize("dimensions", [None, 16])
def test_a_vector_is_left_raw_on_request(dimensions: int | None) -> None:
    vectors = finish(HIDDEN, dimensions=dimensions, normalize=False)

    assert np.array_equal(vectors, HIDDEN[:, :dimensions])


@pytest.mark.parametrize("normalize", [True, False])
def test_vectors_are_contiguous_float32_and_the_hidden_states_untouched(*, normalize: bool) -> None:
    hidden = HIDDEN.copy()

    vectors = finish(hidden, dimensions=16, normalize=normalize)

    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    assert np.array_equal(hidden, HIDDEN)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 63])
def test_one_number_that_is_not_finite_marks_its_row_alone(bad: float, column: int) -> None:
    hidden = HIDDEN.copy()
    hidden[2, column] = bad

    assert finite_rows(hidden).tolist() == [True, True, False, True, True]
