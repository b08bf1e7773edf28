"""The scheduler's rules, each by itself and all together under random use."""

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hexgrid.engine import scheduler as scheduler_module
from hexgrid.engine.scheduler import MAX_PASSED_OVER, Scheduler
from hexgrid.engine.sequence import Batch, Place, Sequence, Submission


def waiting(num_tokens: int, *, priority: int = 0) -> Sequence:
    submission = Submission(1, priority=priority, hidden_size=1, submitted_at=0.0)
    return Sequence([1] * num_tokens, b"", Place(submission, 0))


def filled(
    sequences: Iterable[Sequence],
    *,
    max_num_batched_tokens: int = 100,
    max_num_seqs: int = 100,
    max_batches_waited: int = 16,
) -> Scheduler:
    scheduler = Scheduler(
        max_num_batched_tokens=max_num_batched_tokens,
        max_num_seqs=max_num_seqs,
        max_batches_waited=max_batches_waited,
    )
    for sequence in sequences:
        scheduler.add(sequence)
    return scheduler


def drain(scheduler: Scheduler) -> list[Batch]:
    batches = []
    while batch := scheduler.next_batch():
        batches.append(batch)
    return batches


def test_nothing_waits_at_first() -> None:
    scheduler = filled([])

    assert scheduler.next_batch() == []
    assert (len(scheduler), scheduler.num_waiting_tokens) == (0, 0)


def test_sequences_that_fit_leave_together_in_their_order() -> None:
    sequences = [waiting(10), waiting(20), waiting(70)]

    assert filled(sequences).next_batch() == sequences


def test_a_batch_holds_no_more_tokens_than_its_budget() -> None:
    first, second, third = sequences = [waiting(60), waiting(41), waiting(59)]

    assert drain(filled(sequences)) == [[first], [second, third]]


def test_a_batch_holds_no_more_sequences_than_allowed() -> None:
    sequences = [waiting(1) for _ in range(5)]

    assert drain(filled(sequences, max_num_seqs=2)) == [
        sequences[:2],
        sequences[2:4],
        sequences[4:],
    ]


def test_longer_sequences_than_are_wanted_keep_waiting() -> None:
    long, short, longer, other = (waiting(n) for n in (101, 10, 200, 100))
    scheduler = filled([long, short, longer, other], max_batches_waited=1)

    assert scheduler.next_batch(most_tokens=100) == [short]
    assert scheduler.next_batch(most_tokens=100) == [other]
    assert scheduler.next_batch(most_tokens=100) == []
    assert drain(scheduler) == [[long], [longer]]


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_sequence_longer_than_the_budget_runs_alone(position: int) -> None:
    sequences = [waiting(1), waiting(1)]
    sequences.insert(position, waiting(101))

    batches = drain(filled(sequences))

    assert [sequences[position]] in batches
    assert len(batches) == 2


def test_a_lower_priority_number_goes_first_and_equal_ones_by_arrival() -> None:
    late, early, urgent, early_too = (waiting(1, priority=p) for p in (7, 0, -3, 0))

    batch = filled([late, early, urgent, early_too]).next_batch()

    assert batch == [urgent, early, early_too, late]


def test_later_ones_that_fit_fill_the_room_of_one_that_does_not() -> None:
    first, too_long, small, smaller = sequences = [waiting(n) for n in (70, 50, 20, 10)]

    assert drain(filled(sequences)) == [[first, small, smaller], [too_long]]


def test_the_first_in_order_is_never_passed_over() -> None:
    first, *others = sequences = [waiting(90), *(waiting(20) for _ in range(9))]

    assert drain(filled(sequences)) == [[first], others[:5], others[5:]]


def test_a_sequence_that_nobody_waits_for_never_runs() -> None:
    wanted, unwanted = waiting(1), waiting(2)
    scheduler = filled([unwanted, wanted])

    unwanted.places[0].submission.future.cancel()

    assert drain(scheduler) == [[wanted]]
    assert (len(scheduler), scheduler.num_waiting_tokens) == (0, 0)


def test_a_dropped_sequence_gives_its_room_back_at_once() -> None:
    kept, dropped = waiting(3), waiting(4)
    scheduler = filled([kept, dropped])

    scheduler.drop(dropped)

    assert (len(scheduler), scheduler.num_waiting_tokens) == (1, 3)
    assert drain(scheduler) == [[kept]]


def test_dropping_what_does_not_wait_changes_nothing() -> None:
    scheduler = filled([waiting(3)])

    scheduler.drop(waiting(4))

    assert (len(scheduler), scheduler.num_waiting_tokens) == (1, 3)


def test_everyone_is_handed_back_when_all_are_dropped() -> None:
    sequences = [waiting(1, priority=1), waiting(200), waiting(3)]
    scheduler = filled(sequences)

    assert scheduler.drop_all() == sequences
    assert drain(scheduler) == []
    assert scheduler.num_waiting_tokens == 0


@pytest.mark.parametrize("victim_tokens", [1, 100, 1000])
@pytest.mark.parametrize("rival_tokens", [1, 50, 100])
def test_nobody_starves_while_urgent_sequences_keep_arriving(
    victim_tokens: int, rival_tokens: int
) -> None:
    victim = waiting(victim_tokens, priority=9)
    scheduler = filled([victim], max_batches_waited=5, max_num_seqs=2)

    batches: list[Batch] = []
    while not batches or victim not in batches[-1]:
        for _ in range(2):
            scheduler.add(waiting(rival_tokens, priority=-9))
        batches.append(scheduler.next_batch())
        assert len(batches) <= 6

    assert len(batches) == 6


def test_the_overdue_leave_oldest_first_whatever_their_priority() -> None:
    overdue = [waiting(1, priority=p) for p in (3, 2, 1)]
    scheduler = filled([*overdue, waiting(1)], max_batches_waited=1, max_num_seqs=1)
    scheduler.next_batch()
    scheduler.add(waiting(1, priority=-1))

    assert [scheduler.next_batch() for _ in overdue] == [[sequence] for sequence in overdue]


def test_only_so_many_are_looked_past_and_none_of_them_is_lost() -> None:
    long = [waiting(100) for _ in range(MAX_PASSED_OVER + 1)]
    small = waiting(1)
    scheduler = filled([waiting(1), *long, small])

    assert len(scheduler.next_batch()) == 1  # not `small`: too many stand between
    assert list(itertools.chain(*drain(scheduler))) == [*long, small]


def test_the_dropped_leave_no_traces() -> None:
    scheduler = filled([waiting(1, priority=-1)])

    for _ in range(10 * MAX_PASSED_OVER):
        sequence = waiting(1)
        scheduler.add(sequence)
        scheduler.drop(sequence)

    assert len(scheduler._by_priority) < 2 * MAX_PASSED_OVER
    scheduler.check_integrity()


def test_overdue_sequences_that_nobody_waits_for_do_not_hide_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scheduler_module, "MAX_PASSED_OVER", 1)
    *gone, kept = (waiting(1) for _ in range(4))
    first, urgent = waiting(1, priority=-1), waiting(1, priority=-1)
    scheduler = filled([*gone, kept, first], max_num_seqs=1, max_batches_waited=1)
    assert scheduler.next_batch() == [first]
    scheduler.add(urgent)
    for sequence in gone:
        sequence.places[0].submission.future.cancel()

    assert scheduler.next_batch() == [kept]


class Use(RuleBasedStateMachine):
    """Random use of one scheduler, beside what is known of everyone who waits."""

    @initialize(
        budget=st.integers(1, 20), max_num_seqs=st.integers(1, 4), patience=st.integers(1, 4)
    )
    def open(self, budget: int, max_num_seqs: int, patience: int) -> None:
        self.scheduler = filled(
            [],
            max_num_batched_tokens=budget,
            max_num_seqs=max_num_seqs,
            max_batches_waited=patience,
        )
        self.waiting: list[Sequence] = []  # in order of arrival
        self.seen: dict[Sequence, int] = {}  # batches that left since a sequence arrived
        self.ahead: dict[Sequence, int] = {}  # how many waited when it arrived

    @rule(num_tokens=st.integers(1, 25), priority=st.integers(-2, 2))
    def add(self, num_tokens: int, priority: int) -> None:
        sequence = waiting(num_tokens, priority=priority)
        self.ahead[sequence] = len(self.waiting)
        self.seen[sequence] = 0
        self.waiting.append(sequence)
        self.scheduler.add(sequence)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.waiting)).places[0].submission.future.cancel()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(sequence)
        self.scheduler.drop(sequence)

    @rule()
    def next_batch(self) -> None:
        wanted = [sequence for sequence in self.waiting if not sequence.done]
        expected = self.by_the_rules(wanted)

        batch = self.scheduler.next_batch()

        assert batch[:1] == expected[:1]
        if scheduler_module.MAX_PASSED_OVER == MAX_PASSED_OVER:
            assert batch == expected
        self.check(batch, wanted)
        for sequence in batch:
            self.waiting.remove(sequence)
        for sequence in self.waiting:
            self.seen[sequence] += bool(batch)

    def by_the_rules(self, wanted: list[Sequence]) -> Batch:
        patience = self.scheduler.max_batches_waited
        overdue = [sequence for sequence in wanted if self.seen[sequence] >= patience]
        others = [sequence for sequence in wanted if sequence not in overdue]
        batch: Batch = []
        for sequence in [*overdue, *sorted(others, key=lambda s: s.priority)]:  # a stable sort
            room = self.scheduler.max_num_batched_tokens - sum(s.num_tokens for s in batch)
            fits = sequence.num_tokens <= room and len(batch) < self.scheduler.max_num_seqs
            if fits or not batch:
                batch.append(sequence)
        return batch

    def check(self, batch: Batch, wanted: list[Sequence]) -> None:
        assert bool(batch) == bool(wanted)
        assert len(set(batch)) == len(batch) <= self.scheduler.max_num_seqs
        assert set(batch) <= set(wanted)
        num_tokens = sum(sequence.num_tokens for sequence in batch)
        assert num_tokens <= self.scheduler.max_num_batched_tokens or len(batch) == 1
        for sequence in batch:
            assert self.seen[sequence] <= self.scheduler.max_batches_waited + self.ahead[sequence]

    @invariant()
    def the_counts_are_right(self) -> None:
        # The scheduler learns of a cancelled sequence when it meets it, so it may hold more.
        wanted = [sequence for sequence in self.waiting if not sequence.done]
        self.scheduler.check_integrity()
        assert len(wanted) <= len(self.scheduler) <= len(self.waiting)
        assert self.scheduler.num_waiting_tokens >= sum(s.num_tokens for s in wanted)

    def teardown(self) -> None:
        left = [sequence for sequence in self.waiting if not sequence.done]
        drained = list(itertools.chain(*drain(self.scheduler)))
        assert len(drained) == len(left)
        assert set(drained) == set(left)
        assert (len(self.scheduler), self.scheduler.num_waiting_tokens) == (0, 0)
        self.scheduler.check_integrity()


@pytest.mark.parametrize("max_passed_over", [MAX_PASSED_OVER, 1])
def test_all_rules_hold_under_random_use(
    monkeypatch: pytest.MonkeyPatch, max_passed_over: int
) -> None:
    monkeypatch.setattr(scheduler_module, "MAX_PASSED_OVER", max_passed_over)

    run_state_machine_as_test(Use, settings=settings(max_examples=150, stateful_step_count=40))
