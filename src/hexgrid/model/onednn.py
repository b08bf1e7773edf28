"""oneDNN's matrix products on x86-64 CPUs: whether they are at hand, and what they keep in memory.

For every number of rows that a product has, oneDNN makes a program and keeps the last ones. To make one takes
a fifth of a millisecond, which a small model would feel; a thousand of them, the usual bound, take most of a
gigabyte. So fewer are kept, and for small matrices, where some rows more cost less than a program, rows are
rounded up to few numbers, whose programs all stay.
"""

import os
import platform

import torch
from torch import Tensor

_MACHINES = ("x86_64", "AMD64")
# Read by oneDNN at its first product. What torch keeps beside is the same once more.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "512")
os.environ.setdefault("LRU_CACHE_CAPACITY", "16")
_EXACT, _COARSEST = 8, 16
_SMALL = 2**20  # weights of a matrix


def has_onednn(device: torch.device) -> bool:
    """Whether oneDNN's products are at hand: an x86-64 CPU and a torch that was built with it."""
    return (
        device.type == "cpu"
        and platform.machine() in _MACHINES
        and torch.backends.mkldnn.is_available()
    )


def with_few_sizes(x: Tensor, num_weights: int) -> Tensor:
    """x [T, n] with rows of zeros below, so that T is one of few numbers if the matrix is small."""
    rows = len(x)
    missing = rounded(rows) - rows if num_weights <= _SMALL else 0
    return x if not missing else torch.cat((x, x.new_zeros(missing, x.shape[1])))


def rounded(rows: int) -> int:
    """The next of few numbers: each one up to 8, then four for each power of two, from 64 on those of 16."""
    step = 1 if rows <= _EXACT else min(_COARSEST, 1 << ((rows - 1).bit_length() - 3))
    return -(-rows // step) * step
