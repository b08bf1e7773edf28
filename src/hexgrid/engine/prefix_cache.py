"""Which beginnings of texts have their keys and values at hand, and in which blocks: ints, no tensors.

The rules:
1. A block stands for `block_size` tokens after one other block, or at the start. It is found by those very
   tokens: no digest that could be another's.
2. Beginnings are kept that came twice (an instruction, the header of a kind of document), not every text.
   What came is remembered by digests, a bounded number; a wrong one costs a useless block.
3. At least one token of a text is left to be computed: its vector is read there.
4. Texts of different salts share no block: each salt has a start of its own, by a digest of 128 bits.
5. A pass holds the blocks it reads and fills. Of those that none holds and none follows, the one unused
   longest makes room.
"""

from collections import OrderedDict
from collections.abc import Iterator
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import NamedTuple

from hexgrid.engine.sequence import NO_SALT, Salt
from hexgrid.wire import TokenIds

BLOCK_SIZE = 4  # tokens; an instruction of n tokens leaves n % 4 to be computed anew
_LEAST_BLOCKS = 2  # worth reading
_MOST_BLOCKS = 256  # of one beginning
_MOST_SEEN = 32_768  # blocks whose digests are remembered
_LOOK_AHEAD = 16  # blocks remembered beyond what was seen before
_NONE = -1  # no block


class NewBlock(NamedTuple):
    """A block that a pass fills: with the tokens from `start` on of one of its sequences."""

    sequence: int
    start: int
    block: int


@dataclass(frozen=True)
class Plan:
    """What one pass reads of each of its sequences, and what it fills."""

    found: list[list[int]]  # blocks, in the order of the tokens
    new: list[NewBlock]


@dataclass(slots=True)
class _Block:
    before: int  # negative: one of the starts
    tokens: tuple[int, ...]
    followers: int = 0
    holders: int = 0


class PrefixCache:
    """The bookkeeping of blocks for up to `num_tokens` tokens; one plan is open at a time."""

    def __init__(self, num_tokens: int, block_size: int = BLOCK_SIZE) -> None:
        self.block_size = block_size
        self._num_blocks = num_blocks = num_tokens // block_size
        self._blocks: dict[int, _Block] = {}
        self._free = list(range(num_blocks - 1, -1, -1))
        self._after: dict[tuple[int, tuple[int, ...]], int] = {}  # (block before, tokens) -> block
        # Those that none holds and none follows; the one unused longest first.
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._seen: OrderedDict[int, None] = OrderedDict()

    def __len__(self) -> int:
        """Blocks that are in use."""
        return len(self._blocks)

    @property
    def num_tokens(self) -> int:
        """For how many tokens there is room."""
        return self._num_blocks * self.block_size

    def plan(self, batch: Items[TokenIds], salts: Items[Salt] = ()) -> Plan:
        """What a pass over `batch` reads and fills; to be closed by `finish`. Salts: none, or one a text."""
        starts = [_start_of(salt) for salt in salts or [NO_SALT] * len(batch)]
        # All, before any that is yet to be filled.
        found = [self._find(ids, start) for ids, start in zip(batch, starts, strict=True)]
        for blocks in found:  # all, before any room is made
            if blocks:
                self._hold(blocks[-1])
        new: list[NewBlock] = []
        for number, (ids, start, blocks) in enumerate(zip(batch, starts, found, strict=True)):
            new += self._extend(number, ids, start, blocks)
        return Plan(found, new)

    def finish(self, plan: Plan, *, filled: bool) -> None:
        """The pass is over, or queued in front of all later ones; `filled` unless it failed."""
        for each in reversed(plan.new):
            self._blocks[each.block].holders -= 1
            if filled:
                self._rest(each.block)
            else:
                self._remove(each.block)
        for blocks in plan.found:
            if blocks:
                self._blocks[blocks[-1]].holders -= 1
                self._rest(blocks[-1])

    def check_integrity(self) -> None:
        """Assert that all views of the blocks agree; no plan may be open."""
        assert sorted([*self._free, *self._blocks]) == list(range(self._num_blocks))
        followers = dict.fromkeys(self._blocks, 0)
        for number, block in self._blocks.items():
            assert self._after[block.before, block.tokens] == number
            assert len(block.tokens) == self.block_size
            assert block.holders == 0
            if block.before >= 0:
                followers[block.before] += 1
        assert len(self._after) == len(self._blocks)
        assert followers == {number: block.followers for number, block in self._blocks.items()}
        assert self._idle.keys() == {number for number, count in followers.items() if count == 0}
        assert len(self._seen) <= _MOST_SEEN

    def _find(self, token_ids: TokenIds, start: int) -> list[int]:
        """The blocks of the longest beginning at hand."""
        blocks: list[int] = []
        before = start
        for tokens in self._split(token_ids):
            number = self._after.get((before, tokens), _NONE)
            if number == _NONE:
                break
            blocks.append(number)
            before = number
        return blocks if len(blocks) >= _LEAST_BLOCKS else []

    def _extend(
        self, sequence: int, token_ids: TokenIds, start: int, found: list[int]
    ) -> list[NewBlock]:
        """Take blocks for what came before and is not at hand, as far as there is room."""
        new: list[NewBlock] = []
        before = start
        num_seen = self._num_seen_blocks(token_ids, start)
        for index, tokens in enumerate(self._split(token_ids, num_seen)):
            number = (
                found[index] if index < len(found) else self._after.get((before, tokens), _NONE)
            )
            if number == _NONE:
                number = self._take(before, tokens)
                if number == _NONE:
                    break
                new.append(NewBlock(sequence, index * self.block_size, number))
            before = number
        return new

    def _num_seen_blocks(self, token_ids: TokenIds, start: int) -> int:
        """How many blocks of the beginning came before; from now on, they and some more have."""
        num_seen = num_new = 0
        digest = start
        for tokens in self._split(token_ids):
            digest = hash((digest, tokens))
            if digest in self._seen:
                self._seen.move_to_end(digest)
                num_seen += not num_new
                continue
            self._seen[digest] = None
            num_new += 1
            if num_new == _LOOK_AHEAD:
                break
        while len(self._seen) > _MOST_SEEN:
            self._seen.popitem(last=False)
        return num_seen if num_seen >= _LEAST_BLOCKS else 0

    def _split(self, token_ids: TokenIds, most: int = _MOST_BLOCKS) -> Iterator[tuple[int, ...]]:
        size = self.block_size
        num_blocks = min((len(token_ids) - 1) // size, most)
        for start in range(0, num_blocks * size, size):
            yield tuple(token_ids[start : start + size])

    def _take(self, before: int, tokens: tuple[int, ...]) -> int:
        """A block for `tokens`, held; `_NONE` if there is no room."""
        if before >= 0:
            self._hold(before)  # not to be taken for its own follower
        number = _NONE
        if self._free or self._idle:
            if not self._free:
                self._remove(next(iter(self._idle)))
            number = self._free.pop()
            self._blocks[number] = _Block(before, tokens, holders=1)
            self._after[before, tokens] = number
        if before >= 0:
            self._blocks[before].followers += number != _NONE
            self._blocks[before].holders -= 1
            self._rest(before)
        return number

    def _hold(self, number: int) -> None:
        self._blocks[number].holders += 1
        self._idle.pop(number, None)

    def _rest(self, number: int) -> None:
        """Line a block up for removal if nothing needs it; it was used just now."""
        block = self._blocks[number]
        if block.holders == block.followers == 0:
            self._idle[number] = None

    def _remove(self, number: int) -> None:
        block = self._blocks.pop(number)
        self._idle.pop(number, None)
        del self._after[block.before, block.tokens]
        self._free.append(number)
        if block.before >= 0:
            before = self._blocks[block.before]
            before.followers -= 1
            if before.holders == before.followers == 0:
                # It was used no later than what followed it: it goes next.
                self._idle[block.before] = None
                self._idle.move_to_end(block.before, last=False)


def _start_of(salt: Salt) -> int:
    """In place of the block before the first: a negative number, another for each salt."""
    return -1 - int.from_bytes(salt)
