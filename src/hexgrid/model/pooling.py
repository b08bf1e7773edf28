"""From hidden states to the vectors that clients get: cut, normalise, in float32. numpy only.

The engine and its caches keep full-width hidden states; this runs last, so that every `dimensions` shares
one computation.
"""

import math

import numpy as np
from numpy.typing import NDArray

from hexgrid.encoding import Vectors

# torch.nn.functional.normalize divides by at least this; so do we, to agree with it on a zero vector.
_SMALLEST_NORM = np.float32(1e-12)


def finish(hidden: Vectors, *, dimensions: int | None, normalize: bool) -> Vectors:
    """Hidden states [B, H] -> vectors [B, dimensions or H], of length 1 where `normalize`."""
    vectors = hidden if dimensions is None else hidden[:, :dimensions]
    if not normalize:
        return np.ascontiguousarray(vectors)
    return np.divide(vectors, np.maximum(_norms(vectors), _SMALLEST_NORM), dtype=np.float32)


def finite_rows(hidden: Vectors) -> NDArray[np.bool_]:
    """Which rows of [B, H] hold neither NaN nor infinity: bool [B]."""
    return np.asarray(np.isfinite(hidden).all(axis=1))


def _norms(vectors: Vectors) -> Vectors | np.float32:
    """Lengths of the rows, [B, 1], or the one that there is."""
    if len(vectors) == 1:  # a query: numpy's machinery for many rows takes longer than its row
        row = vectors[0]
        return np.float32(math.sqrt(row.dot(row)))
    norms: Vectors = np.sqrt(np.vecdot(vectors, vectors))[:, np.newaxis]
    return norms
