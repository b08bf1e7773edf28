"""Which beginnings are kept, which go, and that no block is ever taken for another."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hexgrid.engine.prefix_cache import Plan, PrefixCache
from hexgrid.engine.sequence import NO_SALT, Salt, salt_of

TASK = list(range(100, 120))
ONE, OTHER = salt_of("one"), salt_of("other")


def query(*own: int) -> list[int]:
    return [*TASK, *own]


class Watched:
    """A cache with what its blocks would hold: the tokens up to the end of each."""

    def __init__(self, num_tokens: int, block_size: int = 4) -> None:
        self.cache = PrefixCache(num_tokens, block_size)
        self.memory: dict[int, list[int]] = {}

    def run(
        self, *batch: list[int], fails: bool = False, salts: tuple[Salt, ...] = ()
    ) -> list[int]:
        """A pass; how many tokens of each text were read."""
        plan = self.cache.plan(batch, salts)
        self._check(plan, batch)
        if not fails:
            for each in plan.new:
                self.memory[each.block] = batch[each.sequence][: each.start + self.cache.block_size]
        self.cache.finish(plan, filled=not fails)
        self.cache.check_integrity()
        return [len(blocks) * self.cache.block_size for blocks in plan.found]

    def _check(self, plan: Plan, batch: tuple[list[int], ...]) -> None:
        for ids, blocks in zip(batch, plan.found, strict=True):
            for number, block in enumerate(blocks, 1):
                assert self.memory[block] == ids[: number * self.cache.block_size]
            assert len(blocks) * self.cache.block_size < len(ids)
        filled = [each.block for each in plan.new]
        assert len(set(filled)) == len(filled)
        assert not set(filled) & {block for blocks in plan.found for block in blocks}


@pytest.fixture
def watched() -> Watched:
    return Watched(400)


def test_what_came_twice_is_read_the_third_time(watched: Watched) -> None:
    assert watched.run(query(1, 2, 3)) == [0]
    assert watched.run(query(4, 5)) == [0]
    assert watched.run(query(6)) == [20]
    assert len(watched.cache) == 5


def test_texts_of_different_salts_share_no_block(watched: Watched) -> None:
    for _ in range(2):
        assert watched.run(query(1), query(1), salts=(ONE, OTHER)) == [0, 0]
    assert watched.run(query(2), query(2), query(2), salts=(ONE, OTHER, NO_SALT)) == [20, 20, 0]
    assert len(watched.cache) == 10


def test_what_another_salt_has_seen_counts_for_nothing(watched: Watched) -> None:
    watched.run(query(1), salts=(ONE,))
    watched.run(query(1), salts=(OTHER,))
    watched.run(query(1))

    assert len(watched.cache) == 0


def test_blocks_of_all_salts_make_room(watched: Watched) -> None:
    texts = [list(range(start, start + 61)) for start in (0, 1000)]
    for salt in map(salt_of, "abcdefgh"):
        for _ in range(2):
            watched.run(*texts, salts=(salt, salt))

    assert len(watched.cache) <= 100
    assert watched.run(texts[0], salts=(salt_of("h"),)) == [60]


def test_texts_of_one_batch_count_as_well(watched: Watched) -> None:
    assert watched.run(query(1), query(2), query(3)) == [0, 0, 0]
    assert watched.run(query(4), query(5)) == [20, 20]
    assert len(watched.cache) == 5


def test_texts_that_share_nothing_keep_nothing(watched: Watched) -> None:
    for start in range(0, 4_000, 40):
        watched.run(list(range(start, start + 40)))

    assert len(watched.cache) == 0


def test_the_last_token_is_always_computed(watched: Watched) -> None:
    for _ in range(3):
        read = watched.run(TASK)

    assert read == [16]


def test_the_same_tokens_after_others_are_other_blocks(watched: Watched) -> None:
    for _ in range(3):
        watched.run([1, 2, 3, 4, *TASK], [5, 6, 7, 8, *TASK])

    assert watched.run([1, 2, 3, 4, *TASK], [5, 6, 7, 8, *TASK]) == [20, 20]
    assert len(watched.cache) == 10


def test_one_block_is_not_worth_it(watched: Watched) -> None:
    for own in range(5):
        assert watched.run([1, 2, 3, 4, 10 + own, 20 + own]) == [0]

    assert len(watched.cache) == 0


def test_a_long_beginning_is_kept_piece_by_piece(watched: Watched) -> None:
    header = list(range(1_000, 1_300))
    read = [watched.run([*header, own])[0] for own in range(8)]

    assert read[0] == read[1] == 0
    assert sorted(read) == read
    assert read[-1] == 300


def test_what_a_failed_pass_was_to_fill_is_not_read(watched: Watched) -> None:
    watched.run(query(1))
    watched.run(query(2), fails=True)

    assert len(watched.cache) == 0
    assert watched.run(query(3)) == [0]
    assert watched.run(query(4)) == [20]
    assert watched.run(query(5), fails=True) == [20]
    assert watched.run(query(6)) == [20]


def test_the_beginning_unused_longest_makes_room() -> None:
    watched = Watched(40)
    tasks = [[start + n for n in range(20)] for start in (1_000, 2_000, 3_000)]
    for task in tasks[:2]:
        for own in range(3):
            watched.run([*task, own])
    assert watched.run([*tasks[0], 7]) == [20]

    for own in range(3):
        watched.run([*tasks[2], own])

    assert watched.run([*tasks[0], 8]) == [20]
    assert watched.run([*tasks[2], 8]) == [20]
    assert watched.run([*tasks[1], 8]) == [0]


def test_a_beginning_loses_its_end_first() -> None:
    watched = Watched(28)
    for own in range(3):
        watched.run([*TASK, own])
    for own in range(3):
        watched.run([*range(500, 512), own])

    assert watched.run(query(9)) == [16]


def test_a_beginning_that_a_pass_reads_makes_no_room_for_it() -> None:
    watched = Watched(20)
    for own in range(3):
        watched.run(query(own))
    other = list(range(200, 220))
    watched.run([*other, 1])

    assert watched.run(query(5), [*other, 2], [*other, 3]) == [20, 0, 0]
    assert watched.run(query(6)) == [20]


@pytest.mark.parametrize("num_tokens", [0, 3])
def test_a_cache_without_room_for_a_block_keeps_nothing(num_tokens: int) -> None:
    watched = Watched(num_tokens)
    for own in range(4):
        assert watched.run(query(own)) == [0]


HEADS: list[list[int]] = [[1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4, *[9] * 6], [3] * 12, []]
# Of few tokens, so that they share beginnings of all lengths.
TEXTS = st.builds(
    lambda head, own: [*head, *own],
    st.sampled_from(HEADS),
    st.lists(st.integers(1, 3), min_size=1, max_size=12),
)
PASSES = st.tuples(st.lists(TEXTS, min_size=1, max_size=4), st.booleans())


@given(
    passes=st.lists(PASSES, min_size=1, max_size=30),
    num_tokens=st.integers(0, 40),
    block_size=st.sampled_from([1, 2, 4]),
)
@settings(max_examples=150, deadline=None)
def test_whatever_comes_a_block_is_read_for_the_tokens_that_it_holds(
    passes: list[tuple[list[list[int]], bool]], num_tokens: int, block_size: int
) -> None:
    watched = Watched(num_tokens, block_size)

    for batch, fails in passes:
        watched.run(*batch, fails=fails)
    assert len(watched.cache) * block_size <= num_tokens
