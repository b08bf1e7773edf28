"""What goes between an ingress and a replica: token ids one way, vectors or why there are none the other.

Lists of ids are two strings of bytes, which cost nothing to pickle; vectors are one array.
"""

from array import array
from collections.abc import Sequence as Items
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple

from hexgrid.encoding import Vectors
from hexgrid.wire import TokenIds

_IDS, _LENGTHS = "I", "I"  # unsigned, 32 bits

# busy: the replica's queue is full. unwell: this replica cannot compute, another may. refused: it can, but
# not these inputs.
Refusal = Literal["busy", "unwell", "refused"]


class Ids(NamedTuple):
    """Lists of token ids, end to end, and how long each is."""

    ids: bytes
    lengths: bytes


class Reply(NamedTuple):
    """Hidden states float32 [B, hidden_size], or why there are none."""

    vectors: Vectors | None
    refusal: Refusal | None = None
    message: str = ""
    retry_after: int = 1  # seconds


def packed(token_ids: Items[TokenIds]) -> Ids:
    """Lists as bytes."""
    ids = array(_IDS)
    for each in token_ids:
        ids.extend(each)
    return Ids(ids.tobytes(), array(_LENGTHS, map(len, token_ids)).tobytes())


def unpacked(packed_ids: Ids) -> list[list[int]]:
    """Bytes as lists."""
    ids, lengths = array(_IDS, packed_ids.ids).tolist(), array(_LENGTHS, packed_ids.lengths)
    return [ids[start:end] for start, end in pairwise(accumulate(lengths, initial=0))]


def num_tokens(packed_ids: Ids) -> int:
    """Of all lists together."""
    return len(packed_ids.ids) // array(_IDS).itemsize
