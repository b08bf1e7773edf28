"""How far two sets of vectors of the same texts agree: what a cheaper way to compute them costs.

Shapes: N texts, H dimensions; all vectors are unit length.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hexgrid.encoding import Vectors

NEIGHBOURS = 10
_BLOCK = 1024  # texts whose similarities to all others are held at a time
_PERCENTILES = (1, 5, 50)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """What `agreement` found, a number for each text."""

    cosines: Floats  # [N] of a text's two vectors
    num_neighbours: int  # that were looked at: ten, or all others where there are fewer
    changed: npt.NDArray[np.int64]  # [N] of a text's nearest neighbours, those that are other ones
    nearest_kept: npt.NDArray[np.bool_]  # [N] whether the first of them is the same

    def summary(self) -> dict[str, float]:
        """The figures that are reported."""
        percentiles = np.percentile(self.cosines, _PERCENTILES)
        return {
            "cosine_mean": float(self.cosines.mean()),
            "cosine_min": float(self.cosines.min()),
            **{
                f"cosine_p{p}": float(value)
                for p, value in zip(_PERCENTILES, percentiles, strict=True)
            },
            "neighbours_changed": float(self.changed.mean()),
            "texts_with_all_kept": float((self.changed == 0).mean()),
            "texts_with_nearest_kept": float(self.nearest_kept.mean()),
        }


def agreement(vectors: Vectors, reference: Vectors) -> Agreement:
    """Compare unit vectors [N, H] of N different texts, at least two, with those of `reference`."""
    num_neighbours = min(NEIGHBOURS, len(vectors) - 1)
    ours, theirs = (_nearest(each, num_neighbours) for each in (vectors, reference))
    kept = (ours[:, :, None] == theirs[:, None, :]).any(axis=2).sum(axis=1)
    return Agreement(
        cosines=np.einsum("nh,nh->n", vectors, reference, dtype=np.float64),
        num_neighbours=num_neighbours,
        changed=num_neighbours - kept,
        nearest_kept=ours[:, 0] == theirs[:, 0],
    )


def _nearest(vectors: Vectors, count: int) -> npt.NDArray[np.int64]:
    """The `count` texts most similar to each, itself left out, the nearest first: [N, count]."""
    found = []
    for start in range(0, len(vectors), _BLOCK):
        similarities = vectors[start : start + _BLOCK] @ vectors.T
        rows = np.arange(len(similarities))[:, None]
        similarities[rows[:, 0], start + rows[:, 0]] = -np.inf
        some = np.argpartition(-similarities, count - 1, axis=1)[:, :count]
        found.append(some[rows, np.argsort(-similarities[rows, some], axis=1, kind="stable")])
    return np.concatenate(found)
