"""What stands between the matrix products of a decoder layer, in one pass over memory each: cpu_kernels.c.

Libraries of it come with the package for x86-64 Linux, one for each kind of processor. Elsewhere, and for
other dtypes, `usable` is false and layers.py does the same with torch's operators. Tensors are contiguous, of
float32 or bfloat16; what is computed is float32 in between.

Shapes: T rows, n and D of any size, N query and K key/value heads of D, C rows of keys and values.
"""

import ctypes
import platform
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from hexgrid.model.packing import Part

_DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.uint8: 2}  # as cpu_kernels.c has them
_MOST_KEYS, _MOST_HEAD_DIM, _HEAD_DIM_STEP = 512, 128, 32  # of `attend`
_MOST_KEYS_BFLOAT16 = (
    128  # from there on torch's attention, whose products are in bfloat16, is faster
)
_WIDEST = 2**17  # a row: some of them are on the stack

_POINTER, _LONG, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_long, ctypes.c_int, ctypes.c_float
_TENSOR = (_POINTER, _INT)
_SIGNATURES = {
    "hexgrid_norm": (*_TENSOR, *_TENSOR, _LONG, _LONG, _FLOAT, *_TENSOR, _INT, _POINTER, _INT),
    "hexgrid_swiglu": (*_TENSOR, _POINTER, _LONG, _LONG, *_TENSOR, _INT, _POINTER, _INT),
    "hexgrid_heads": (
        *(*_TENSOR, _POINTER, _LONG, _LONG, _LONG, _LONG),
        *(_POINTER, *_TENSOR, _POINTER, _POINTER, _FLOAT),
        *(_POINTER, _POINTER, *_TENSOR, _POINTER, _LONG, _INT),
    ),
    "hexgrid_attend": (
        *(_POINTER, _POINTER, *_TENSOR, _LONG, _LONG, _LONG),
        *(_POINTER, _POINTER, _LONG, _LONG, _POINTER, _INT),
    ),
}


def open_library(processor: str) -> ctypes.CDLL | None:
    """That for a `processor` ("avx2", "avx512"); None where there is none, or torch's threads are others."""
    try:
        library = ctypes.CDLL(str(Path(__file__).with_suffix(f".{processor}.so")))
    except OSError:
        return None
    for name, types in _SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = types, None
    return library


_library = open_library(torch.backends.cpu.get_cpu_capability().lower())


def are_missing() -> bool:
    """Whether this processor could run some, and there are none: to be told to who starts a server."""
    could_run = (sys.platform, platform.machine()) == ("linux", "x86_64")
    return could_run and torch.backends.cpu.get_cpu_capability() != "DEFAULT" and _library is None


def usable(x: Tensor) -> bool:
    """Whether rows like `x` can be given to the functions of this module."""
    return (
        _library is not None
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.bfloat16)
        and x.shape[-1] <= _WIDEST
    )


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x [..., n], each row divided by its root mean square, times `weight` [n]."""
    out = torch.empty_like(x)
    _norm(x, weight, eps, out)
    return out


class Steps(NamedTuple):
    """Rows in 8 bits."""

    values: Tensor  # uint8 [T, n]: steps of each row's largest magnitude, above a zero of the steps and one
    scales: Tensor  # float32 [T, 1], that magnitude


def in_steps(x: Tensor, steps: int, weight: Tensor | None = None, eps: float = 0.0) -> Steps:
    """x [T, n], normed with `weight` [n] if there is one, in so many steps to either side."""
    found = _new_steps(*x.shape)
    _norm(x, weight, eps, found.values, steps, found.scales)
    return found


def _norm(  # noqa: PLR0917
    x: Tensor,
    weight: Tensor | None,
    eps: float,
    out: Tensor,
    steps: int = 0,
    scales: Tensor | None = None,
) -> None:
    weight = weight if weight is None else _readable(weight)
    norm = (None, 0) if weight is None else _tensor(weight)
    sizes = (x.numel() // x.shape[-1], x.shape[-1])
    _call("hexgrid_norm", *_tensor(x), *norm, *sizes, eps, *_tensor(out), steps, _address(scales))


def swiglu(product: Tensor) -> Tensor:
    """silu(gate) * up of a `product` [T, 2 n], which has them side by side: [T, n]."""
    rows, n = len(product), product.shape[1] // 2
    out = product.new_empty(rows, n)
    _call("hexgrid_swiglu", *_tensor(product), None, rows, n, *_tensor(out), 0, None)
    return out


def swiglu_in_steps(product: Tensor, scales: Tensor, steps: int) -> Steps:
    """The same of a product yet to be multiplied by `scales` [T, 1], in so many steps to either side."""
    found = _new_steps(len(product), product.shape[1] // 2)
    sizes = found.values.shape
    out = (*_tensor(found.values), steps, _address(found.scales))
    _call("hexgrid_swiglu", *_tensor(product), _address(scales), *sizes, *out)
    return found


class Places(NamedTuple):
    """Where keys and values go."""

    k: Tensor  # [C, K, D]
    v: Tensor
    rows: Tensor | slice  # [T] of C, int64; a slice of step one


class Turn(NamedTuple):
    """What is done to the heads of queries and keys: a root-mean-square norm, then RoPE."""

    q_norm: Tensor  # [D]
    k_norm: Tensor
    eps: float
    cos: Tensor  # float32 [T, 1, D / 2]
    sin: Tensor


def split_heads(
    product: Tensor, scales: Tensor | None, turn: Turn, num_q: int, places: Places | None
) -> Tensor:
    """Queries [T, N, D] of a `product` [T, (N + 2 K) D], yet to be multiplied by `scales` [T, 1] if given.

    Its keys and values go to `places`; without those it has none. N, `num_q`, may be 0.
    """
    rows, dim = len(product), len(turn.q_norm)
    q = product.new_empty(rows, num_q, dim)
    num_kv, k, v, kv_rows, first = 0, None, None, None, 0
    if places is not None:
        num_kv = places.k.shape[1]
        k, v = _address(places.k), _address(places.v)
        if isinstance(places.rows, slice):
            first = places.rows.start or 0
        else:
            kv_rows = _address(places.rows)
    assert product.shape == (rows, (num_q + 2 * num_kv) * dim)
    q_norm, k_norm = _readable(turn.q_norm), _readable(turn.k_norm)
    assert q_norm.dtype == k_norm.dtype
    _call(
        "hexgrid_heads",
        *(*_tensor(product), _address(scales), rows, num_q, num_kv, dim),
        *(_address(q_norm), *_tensor(k_norm), _address(turn.cos), _address(turn.sin), turn.eps),
        *(_address(q), k, v, _DTYPES[q.dtype], kv_rows, first),
    )
    return q


def most_keys(q: Tensor) -> int:
    """Up to how many keys a sequence has for which `attend` takes queries q [T, N, D] and is the faster."""
    dim = q.shape[2]
    if not usable(q) or dim > _MOST_HEAD_DIM or dim % _HEAD_DIM_STEP:
        return 0
    return _MOST_KEYS if q.dtype == torch.float32 else _MOST_KEYS_BFLOAT16


def attend(q: Tensor, k: Tensor, v: Tensor, part: Part, most_keys: int) -> Tensor:
    """Causal attention of q [T, N, D] over k and v [C, K, D]: [T, N * D], in one call for the whole part.

    Rows of sequences that have more keys than `most_keys` stay as they are: anything.
    """
    _, num_q, dim = q.shape
    out = torch.empty_like(q)
    ends = (_address(part.cu_seqlens_q), _address(part.cu_seqlens_kv), len(part.q_lengths))
    _call(
        "hexgrid_attend",
        *(_address(q), _address(k), *_tensor(v), num_q, k.shape[1], dim),
        *(*ends, most_keys, _address(out)),
    )
    return out.flatten(1)


def _new_steps(rows: int, n: int) -> Steps:
    return Steps(torch.empty(rows, n, dtype=torch.uint8), torch.empty(rows, 1))


def _readable(weight: Tensor) -> Tensor:
    """A model in float16 may be run in float32."""
    return weight if weight.dtype in _DTYPES else weight.float()


def _tensor(x: Tensor) -> tuple[int | None, int]:
    return _address(x), _DTYPES[x.dtype]


def _address(x: Tensor | None) -> int | None:
    if x is None:
        return None
    assert x.is_contiguous()
    return x.data_ptr()


def _call(name: str, *arguments: float | None) -> None:
    getattr(_library, name)(*arguments, torch.get_num_threads())
