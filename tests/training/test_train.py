"""Training: it learns, goes on where it was stopped, and what it writes is what it learnt."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.progress import Progress, TaskID
from torch.nn import functional

import packing
import ship
import train
from batches import Source
from corpus import Corpus
from hexgrid.config import EngineConfig
from hexgrid.engine.native import open_model
from hexgrid.metrics import Metrics
from student import Student
from tests.training.conftest import DESIGN
from train import Plan, Run

TEXTS = [
    "Where is lake 7?",
    "",
    "def f(x): return x",
    "Lake 3 lies between the mountains. " * 40,
    "7",
]


class Stopped(Exception):  # noqa: N818 - a stop, no error
    """What a user's Ctrl-C is to the training."""


class StoppingProgress(Progress):
    """Stops the training after a step of the model."""

    def __init__(self, step: int) -> None:
        super().__init__(disable=True)
        self._step = step

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        task = self.tasks[task_id]
        if task.description == "model" and task.completed == self._step:
            raise Stopped


def run_in(directory: Path, source: Source, first: torch.Tensor) -> Run:
    plan = Plan(bag_passes=1.0, passes=2.0, whole_passes=1.0)
    return Run(source, whole(source), first, DESIGN, plan, directory / "run", compiled=False)


def whole(source: Source) -> Source:
    """The rows of the longest passages."""
    lengths = [len(text) for text in source.corpus.texts]
    corpus = Corpus(
        source.corpus.texts,
        [row for row in source.corpus.rows if row.b >= 0 and lengths[row.b] > 200],
        source.corpus.sources,
    )
    return replace(source, corpus=corpus)


@pytest.mark.parametrize("from_the_end", [False, True])
def test_a_stopped_training_goes_on_to_the_same_weights(
    tmp_path: Path,
    source: Source,
    first: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
    *,
    from_the_end: bool,
) -> None:
    """Stopped in its first part, or in the last, with whole passages."""
    monkeypatch.setattr(train, "_SAVE_SECONDS", -1.0)  # after every step
    whole = train.train(run_in(tmp_path / "whole", source, first), Progress(disable=True))
    stopped = run_in(tmp_path / "stopped", source, first)
    at = stopped.num_first_steps + 2 if from_the_end else 2
    assert stopped.num_whole_steps > 2
    with pytest.raises(Stopped):
        train.train(stopped, StoppingProgress(at))
    assert torch.load(stopped.directory / "state.pt")["done"] == at - 1

    resumed = train.train(stopped, Progress(disable=True))

    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], weight, msg=name)


def test_the_losses_fall_and_the_curve_is_kept(
    tmp_path: Path, source: Source, first: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "_LOG_STEPS", 1)
    run = run_in(tmp_path, source, first)
    untrained = train.held_out(source, Student(DESIGN.shape, first))

    trained = train.held_out(source, train.train(run, Progress(disable=True)))

    assert trained.keys() == untrained.keys() == {"regress", "relate", "contrast"}
    curve = [json.loads(line) for line in (run.directory / "curve.jsonl").read_text().splitlines()]
    assert sum("step" in line for line in curve) == run.num_first_steps + run.num_whole_steps
    for name in ("regress", "relate"):  # any vectors tell these partners apart
        assert trained[name] < untrained[name], name


def test_rates_rise_and_fall_and_do_so_once_more_in_the_last_part_but_lower(
    tmp_path: Path, source: Source, first: torch.Tensor
) -> None:
    run = replace(
        run_in(tmp_path, source, first), plan=Plan(bag_passes=1.0, passes=99.0, whole_passes=99.0)
    )
    training = train._Training(run, Student(DESIGN.shape, first))
    rates = []
    for training._done in range(run.num_first_steps + run.num_whole_steps):
        rates.append(training._rate())

    of_first, of_last = rates[: run.num_first_steps], rates[run.num_first_steps :]
    for part, most in ((of_first, 1.0), (of_last, train._WHOLE_RATE)):
        peak = part.index(max(part))
        assert max(part) == pytest.approx(most, rel=0.05)
        assert part[: peak + 1] == sorted(part[: peak + 1])
        assert part[peak:] == sorted(part[peak:], reverse=True)
        assert 0 < part[-1] < 0.01 * most


def test_the_last_part_reads_whole_passages_and_now_and_then_the_rest(
    tmp_path: Path, source: Source, first: torch.Tensor
) -> None:
    steps = train._with_whole(run_in(tmp_path, source, first))

    lengths = [step.num_tokens / len(step.targets.weights) for step in itertools.islice(steps, 6)]

    assert [length > 40 for length in lengths] == [False, True, True, False, True, True]


@pytest.mark.parametrize(("form", "tolerance"), [(ship.FLOAT32, 2e-5), (ship.COMPACT, 2e-2)])
def test_a_written_checkpoint_gives_the_students_vectors(
    tmp_path: Path, source: Source, first: torch.Tensor, form: str, tolerance: float
) -> None:
    student = Student(DESIGN.shape, first)
    ship.write(student, source.vocabulary, first, tmp_path / "out", form=form)
    model = open_model(
        ["student"],
        tmp_path / "out",
        EngineConfig(dtype="float32", result_cache_bytes=0),
        Metrics(),
    )
    ids = model.tokenizer.encode(TEXTS).token_ids
    rows = [source.vocabulary.row_of_token[each] for each in ids]

    served = torch.from_numpy(model.engine.submit(ids).result())
    model.engine.close()

    placed = ship.place_unread(first, first, source.vocabulary)
    student.embed_tokens.weight.data.copy_(placed)
    with torch.no_grad():
        own = torch.cat([student(packing.alone(row)) for row in rows])
    torch.testing.assert_close(
        functional.normalize(served), functional.normalize(own), atol=tolerance, rtol=0
    )


def test_rows_that_no_text_reads_go_where_the_others_went(
    source: Source, first: torch.Tensor
) -> None:
    turn = torch.linalg.qr(torch.randn(len(first[0]), len(first[0])))[0]
    counts = torch.from_numpy(source.vocabulary.counts)
    unread = counts.eq(0) & first.ne(0).any(dim=1)
    trained = torch.where(unread[:, None], first, functional.normalize(first) @ turn)

    placed = ship.place_unread(trained, first, source.vocabulary)

    assert unread.sum() > 1000
    wanted = functional.normalize(first[unread] @ turn)
    assert (functional.normalize(placed[unread]) * wanted).sum(dim=1).min() > 0.99
    assert torch.equal(placed[~unread], trained[~unread])
