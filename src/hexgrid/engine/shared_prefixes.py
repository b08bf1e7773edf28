"""Beginnings that many texts share, computed once: the bookkeeping and the memory together."""

from collections.abc import Callable, Iterator
from collections.abc import Sequence as Items
from contextlib import contextmanager

from hexgrid.engine.prefix_cache import Plan, PrefixCache
from hexgrid.engine.sequence import Salt
from hexgrid.model.kv_cache import KVCache, bytes_per_token
from hexgrid.model.packing import Reuse
from hexgrid.model.qwen3 import Qwen3
from hexgrid.wire import TokenIds


class SharedPrefixes:
    """Keys and values of the beginnings of a model's texts, in at most so many bytes."""

    def __init__(
        self, model: Qwen3, num_bytes: int, on_reuse: Callable[[int], None] = lambda _: None
    ) -> None:
        """`on_reuse` is told of every batch how many tokens need not be computed."""
        self._on_reuse = on_reuse
        self._bytes_per_token = bytes_per_token(model.config, model.dtype)
        self._cache = PrefixCache(num_bytes // self._bytes_per_token)
        self._kv = KVCache(model.config, self._cache.num_tokens, model.dtype, model.device)

    @property
    def num_bytes(self) -> int:
        """Memory of the tokens that are kept."""
        return len(self._cache) * self._cache.block_size * self._bytes_per_token

    @contextmanager
    def reused(self, token_ids: Items[TokenIds], salts: Items[Salt] = ()) -> Iterator[Reuse | None]:
        """What the pass in the `with` block reads and keeps; None if nothing. `salts`: none, or one a text.

        If it raises, nothing is kept.
        """
        plan = self._cache.plan(token_ids, salts)
        filled = False
        try:
            yield self._slots(plan) if plan.new or any(plan.found) else None
            filled = True
        finally:
            self._cache.finish(plan, filled=filled)

    def _slots(self, plan: Plan) -> Reuse:
        """What `plan` says of blocks, by the token."""
        size = self._cache.block_size
        read = [
            [block * size + at for block in blocks for at in range(size)] for blocks in plan.found
        ]
        self._on_reuse(sum(map(len, read)))
        kept = [
            (each.sequence, each.start + at, each.block * size + at)
            for each in plan.new
            for at in range(size)
        ]
        return Reuse(self._kv, read, kept)
