"""Steps: every row as often as it should be, the right ids in the right places, the right partners."""

import collections

import pytest
import torch

import batches
from batches import Source, Step, steps
from corpus import SHARES
from packing import Packed

STEP = 16_384  # tokens


def texts_of(packed: Packed) -> list[tuple[int, ...]]:
    """The table rows of each text of a micro-batch, in the order of its `texts`."""
    ids, text = packed.ids.flatten(), packed.text.flatten()
    return [tuple(ids[text == number].tolist()) for number in range(len(packed.texts))]


def in_order(step: Step) -> list[tuple[int, ...]]:
    """The table rows of each text of a step, in the order of its targets."""
    found = {
        place: rows
        for each in step.micro_batches
        for place, rows in zip(each.texts.tolist(), texts_of(each), strict=True)
    }
    assert found.keys() == set(range(len(found)))
    return [found[place] for place in range(len(found))]


def expected(source: Source, text: int) -> tuple[int, ...]:
    return tuple(source.vocabulary.row_of_token[source.texts[text]].tolist())


def test_a_step_holds_its_texts_with_their_targets_and_partners(source: Source) -> None:
    by_rows = {expected(source, text): text for text in range(len(source.corpus.texts))}
    (step, *_) = steps(source, STEP, epoch=0, seed=0, plain=True)

    places = [
        by_rows.get(rows, -1) for rows in in_order(step)
    ]  # -1: the long text that was put together
    assert places.count(-1) <= 1
    assert len(places) == len(step.targets.full) == len(step.targets.projected)
    assert len(places) == len(step.targets.weights)
    asked = [source.corpus.same_as.get(text, text) for text in places]
    for place, text in enumerate(asked):
        if text >= 0:
            assert torch.equal(step.targets.full[place], source.full[text].float())
    partners = {(row.a, row.b) for row in source.corpus.rows if row.b >= 0}
    against = {(row.a, row.neg) for row in source.corpus.rows if row.neg >= 0}
    assert len(step.targets.pairs) > 0 < len(step.targets.negatives)
    assert {(places[a], places[b]) for a, b in step.targets.pairs.tolist()} <= partners
    assert {(places[a], places[b]) for a, b in step.targets.negatives.tolist()} <= against


def test_a_text_counts_by_the_root_of_its_length(source: Source) -> None:
    (step, *_) = steps(source, STEP, epoch=0, seed=0)

    lengths = torch.tensor([len(rows) for rows in in_order(step)])

    weights = step.targets.weights
    torch.testing.assert_close(weights / weights[0], (lengths / lengths[0]).sqrt())
    torch.testing.assert_close(weights.mean(), torch.tensor(1.0))


def test_some_queries_are_instructed_and_end_as_the_text_does(source: Source) -> None:
    heads = {tuple(source.vocabulary.row_of_token[head].tolist()) for head in source.heads}
    (step, *_) = steps(source, STEP, epoch=0, seed=0)

    rows = in_order(step)

    instructed = sum(any(text[: len(head)] == head for head in heads) for text in rows)
    # Two in five of the first texts of pairs, one in ten of those alone.
    assert 0.08 < instructed / len(rows) < 0.3


def test_rows_held_out_are_in_no_pass_and_all_others_are(source: Source) -> None:
    def read(*, held_out: bool) -> set[tuple[int, ...]]:
        passes = steps(source, STEP, epoch=0, seed=0, plain=True, held_out=held_out)
        return {rows for step in passes for rows in in_order(step)}

    rows = source.corpus.rows
    kept_out = {expected(source, row.a) for at, row in enumerate(rows) if at % 100 == 0}
    others = {expected(source, row.a) for at, row in enumerate(rows) if at % 100}
    trained, tested = read(held_out=False), read(held_out=True)
    assert kept_out <= tested
    assert others <= trained
    assert not kept_out & trained
    assert not others & tested


def test_another_pass_has_another_order(source: Source) -> None:
    one, same, other = (
        in_order(next(steps(source, STEP, epoch=epoch, seed=0))) for epoch in (0, 0, 1)
    )

    assert one == same
    assert one != other


def test_the_sources_that_are_not_read_once_are_there() -> None:
    assert batches._TIMES.keys() <= SHARES.keys()


def test_a_pass_reads_some_sources_more_often_and_some_less(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_TIMES", {"nli": 2.0, "pairs": 0.7})
    numbers = {name: number for number, name in enumerate(source.corpus.sources)}

    def times_read(name: str, *, plain: bool) -> list[int]:
        """How often the second text of each row, which is never instructed, is there."""
        rows = [row for at, row in enumerate(source.corpus.rows) if at % 100]
        some = [expected(source, row.b) for row in rows if row.source == numbers[name]]
        passes = steps(source, STEP, epoch=0, seed=0, plain=plain)
        read = collections.Counter(text for step in passes for text in in_order(step))
        return [read[text] for text in some]

    assert set(times_read("nli", plain=False)) == {2}
    assert set(times_read("nli", plain=True)) == {1}
    fewer = times_read("pairs", plain=False)
    assert set(fewer) == {0, 1}
    assert 0.65 < sum(fewer) / len(fewer) < 0.75
    assert set(times_read("pairs", plain=True)) == {1}
