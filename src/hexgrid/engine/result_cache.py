"""Vectors of what was computed lately, so that the same input is not computed again.

Not thread-safe: the engine holds a lock. The rules:
1. A cache belongs to one loaded model, and a key to one list of token ids: what it gives is never stale.
2. It keeps hidden states at full width; `dimensions`, normalisation and encodings come after it.
3. It holds at most `max_bytes`, its own bookkeeping included. The least recently used go first.
4. A kept vector is a copy that nobody writes to.
"""

from collections import OrderedDict

import numpy as np

from hexgrid.encoding import Vectors
from hexgrid.engine.sequence import Key

# Of one entry beside the vector's numbers: the digest, the array's object, the node of the ordered dict.
ENTRY_BYTES = 400


class ResultCache:
    """Hidden states [H] by key."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._rows: OrderedDict[Key, Vectors] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, key: Key) -> bool:
        return key in self._rows

    def get(self, key: Key) -> Vectors | None:
        """The vector of `key`, read-only, if it is here; it is then the most recently used."""
        row = self._rows.get(key)
        if row is not None:
            self._rows.move_to_end(key)
        return row

    def put(self, key: Key, hidden: Vectors) -> None:
        """Keep a copy of `hidden` [H], if there is room for one at all."""
        size = hidden.nbytes + ENTRY_BYTES
        if size > self.max_bytes:
            return
        old = self._rows.pop(key, None)
        if old is not None:
            self.num_bytes -= old.nbytes + ENTRY_BYTES
        row = np.array(hidden)
        row.flags.writeable = False
        self._rows[key] = row
        self.num_bytes += size
        while self.num_bytes > self.max_bytes:
            _, dropped = self._rows.popitem(last=False)
            self.num_bytes -= dropped.nbytes + ENTRY_BYTES

    def check_integrity(self) -> None:
        """Assert that the count of bytes is right and within its bound."""
        assert self.num_bytes == sum(row.nbytes + ENTRY_BYTES for row in self._rows.values())
        assert self.num_bytes <= self.max_bytes
