"""One design, trained: first the table as a bag of tokens, then the whole model.

Stopped at any point, the same call goes on from the last saved state. The losses of a run go to its
`curve.jsonl` as it learns.
"""

import functools
import itertools
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from torch import Tensor, nn

import batches
import losses
import teacher
from batches import Source, Step
from designs import Design
from packing import Packed
from start import as_bag
from student import Student
from tokens import EOS

_SAVE_SECONDS = 180.0
_COMPILED_WIDTH = 256
_MOST_COMPILED = 32  # variants for widths and numbers of rows; beyond, it would go on uncompiled
_LOG_STEPS = 20
_WARM_UP = 0.03  # share of the steps over which learning rates rise
_HELD_OUT_STEPS, _HELD_OUT_TOKENS = 8, 16_384
# Learning rates: of matrices, of norms, of table rows (whose values are near one), of the bag's rows (near
# a tenth). Most rows are read a few dozen times in a training: they need long strides.
_MATRIX, _NORM, _ROWS, _BAG_ROWS = 2e-3, 1e-2, 2e-2, 1.5e-2
_BETAS = (0.9, 0.98)
_BAG_EPOCH = 1_000  # the first of the passes as a bag: their order is not that of the model's
# The last part, with long passages: its learning rates, times those of the first; every how many steps one
# is of the other texts, which are not to be forgotten; and the first of these texts' passes.
_WHOLE_RATE, _WHOLE_OTHER, _WHOLE_EPOCH = 0.25, 3, 2_000


@dataclass(frozen=True)
class Plan:
    """How long a run is: passes over the corpus as a bag of tokens, as the model, and over what is whole."""

    bag_passes: float
    passes: float
    whole_passes: float
    seed: int = 0


def _fastest() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Run:
    """What is trained on what, and where its state and curve are kept."""

    source: Source
    whole: Source  # long passages, for the last part
    first: Tensor  # [K, H] the table to begin with
    design: Design
    plan: Plan
    directory: Path
    device: torch.device = field(default_factory=_fastest)
    compiled: bool = field(default_factory=teacher.can_compile)

    @functools.cached_property  # each looks at all rows
    def num_bag_steps(self) -> int:
        """Of the table as a bag."""
        return self._num_steps(self.source, self.plan.bag_passes)

    @functools.cached_property
    def num_first_steps(self) -> int:
        """Of the model before its last part."""
        return self._num_steps(self.source, self.plan.passes)

    @functools.cached_property
    def num_whole_steps(self) -> int:
        """Of the last part, those of other texts among them."""
        long = self._num_steps(self.whole, self.plan.whole_passes)
        return long * _WHOLE_OTHER // (_WHOLE_OTHER - 1)

    def _num_steps(self, source: Source, passes: float) -> int:
        return max(1, int(batches.num_tokens(source) / self.design.step * passes))


def train(run: Run, progress: Progress) -> Student:
    """The trained model."""
    run.directory.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(run.plan.seed)
    rows = _bag(run, progress) if run.design.bag else run.first
    eos = int(run.source.vocabulary.row_of_token[EOS])
    student = as_bag(run.design.shape, rows, eos).to(run.device)
    _Training(run, student).go(progress)
    return student


def held_out(source: Source, student: Student) -> dict[str, float]:
    """The losses on rows that are never trained on, weighed alike for every design."""
    found: dict[str, list[float]] = {}
    steps = batches.steps(source, _HELD_OUT_TOKENS, epoch=0, seed=0, held_out=True)
    with torch.no_grad():
        for step in itertools.islice(steps, _HELD_OUT_STEPS):
            for name, value in _parts(student, step, Design()).items():
                found.setdefault(name, []).append(float(value))
    return {name: sum(values) / len(values) for name, values in found.items()}


class _Training:
    """The main part: the model, its optimisers, and where they stand."""

    def __init__(self, run: Run, student: Student) -> None:
        self._run, self._student = run, student
        self._file = run.directory / "state.pt"
        self._optimisers = _optimisers(student, run.design)
        self._done = 0
        self._total = run.num_first_steps + run.num_whole_steps

    def go(self, progress: Progress) -> None:
        """Train to the end, from the state that was saved last."""
        self._load()
        if self._run.compiled:
            self._student.encode = _compiled(self._student.encode)  # type: ignore[method-assign]
        task = progress.add_task("model", total=self._total, completed=self._done)
        saved = started = time.monotonic()
        num_tokens = 0
        for step in self._remaining():
            parts = self._learn(step)
            num_tokens += step.num_tokens
            self._done += 1
            progress.advance(task)
            if self._done % _LOG_STEPS == 0:
                speed = num_tokens / (time.monotonic() - started)
                _log(self._run, step=self._done, tokens_per_s=round(speed), **parts)
            if time.monotonic() - saved > _SAVE_SECONDS:
                self._save()
                saved = time.monotonic()
        self._student.__dict__.pop(
            "encode", None
        )  # what is done with it now is not worth compiling
        self._save()

    def _learn(self, step: Step) -> dict[str, float]:
        share = self._run.design.rate * self._rate()
        for optimiser, rate in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate * share
        parts = _parts(self._student, step, self._run.design)
        _descend(parts, [optimiser for optimiser, _ in self._optimisers])
        return _rounded(parts)

    def _rate(self) -> float:
        """Up, then down to nothing along a half cosine; lower, in the last part once more."""
        done_of_last = self._done - self._run.num_first_steps
        if done_of_last < 0:
            return _hump(self._done, self._run.num_first_steps)
        return _WHOLE_RATE * _hump(done_of_last, self._run.num_whole_steps)

    def _remaining(self) -> Iterator[Step]:
        run = self._run
        if self._done < run.num_first_steps:
            first = _endless(run, run.source, first_epoch=0)
            yield from itertools.islice(first, self._done, run.num_first_steps)
        done = self._done - run.num_first_steps
        yield from itertools.islice(_with_whole(run), done, run.num_whole_steps)

    def _save(self) -> None:
        partial = self._file.with_suffix(".tmp")
        state = {
            "done": self._done,
            "student": self._student.state_dict(),
            "optimisers": [each.state_dict() for each, _ in self._optimisers],
        }
        torch.save(state, partial)
        partial.replace(self._file)

    def _load(self) -> None:
        if not self._file.is_file():
            return
        state: dict[str, Any] = torch.load(self._file, map_location=self._run.device)
        self._done = state["done"]
        self._student.load_state_dict(state["student"])
        for (optimiser, _), kept in zip(self._optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(kept)


def _hump(done: int, total: int) -> float:
    """From nothing to one within the warm-up, then back along a half cosine."""
    part = done / total
    if part < _WARM_UP:
        return (part + 1 / total) / _WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (part - _WARM_UP) / (1 - _WARM_UP)))


def _compiled(encode: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`encode`, a third faster where rows are narrow (nearly all), after a minute of compiling."""
    torch._dynamo.config.recompile_limit = _MOST_COMPILED  # noqa: SLF001
    fast = torch.compile(encode)

    def either(*inputs: Tensor) -> Tensor:
        if inputs[0].shape[1] > _COMPILED_WIDTH:
            return encode(*inputs)
        for each in inputs:
            torch._dynamo.maybe_mark_dynamic(each, 0)  # noqa: SLF001 - the number of rows
        return fast(*inputs)

    return either


def _optimisers(student: Student, design: Design) -> list[tuple[torch.optim.Optimizer, float]]:
    """One for each kind of weight, with its learning rate."""
    matrices = [weight for weight in student.layers.parameters() if weight.dim() == 2]
    norms = [weight for weight in student.parameters() if weight.dim() == 1]
    rows = [student.embed_tokens.weight]
    adamw = torch.optim.AdamW
    of_matrices: torch.optim.Optimizer = adamw(matrices, betas=_BETAS, weight_decay=0.01)
    if design.muon:
        of_matrices = torch.optim.Muon(matrices, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    return [
        (of_matrices, _MATRIX),
        (adamw(norms, betas=_BETAS, weight_decay=0.0), _NORM),
        (torch.optim.SparseAdam(rows, betas=_BETAS, eps=1e-9), _ROWS),
    ]


class _Bag(nn.Module):
    """A text as the mean of its tokens' rows."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag.from_pretrained(
            rows.clone(), freeze=False, mode="sum", sparse=True, padding_idx=0
        )

    def forward(self, packed: Packed) -> Tensor:
        """Vectors [T, H] of the texts in their order in `packed`."""
        read = packed.text >= 0
        lengths = torch.bincount(packed.text[read], minlength=len(packed.texts))
        starts = lengths.cumsum(dim=0) - lengths
        summed: Tensor = self.table(packed.ids[read], starts)
        return summed / lengths.unsqueeze(1)


def _bag(run: Run, progress: Progress) -> Tensor:
    """What `_train_bag` gives, kept beside the runs of all designs: it is the same for each."""
    file = run.directory.parent / "bag.pt"
    if not file.is_file():
        torch.save(_train_bag(run, progress), file)
    rows: Tensor = torch.load(file)
    return rows


def _train_bag(run: Run, progress: Progress) -> Tensor:
    """The table [K, H] that serves best with no model above it."""
    bag = _Bag(run.first).to(run.device)
    optimiser = torch.optim.SparseAdam(list(bag.parameters()), betas=_BETAS)
    total = run.num_bag_steps
    task = progress.add_task("table", total=total)
    steps = itertools.islice(_endless(run, run.source, first_epoch=_BAG_EPOCH, plain=True), total)
    for done, step in enumerate(steps):
        step = step.to(run.device)  # noqa: PLW2901
        for group in optimiser.param_groups:
            group["lr"] = _BAG_ROWS * (1 - done / total)
        vectors = _in_order([bag(each) for each in step.micro_batches], step)
        parts = losses.loss(vectors, step.targets, run.design)
        _descend(parts, [optimiser])
        progress.advance(task)
        if done % _LOG_STEPS == 0:
            _log(run, bag_step=done, **_rounded(parts))
    return bag.table.weight.detach().cpu().clone()


def _with_whole(run: Run) -> Iterator[Step]:
    """Steps of long passages, and now and then one of the other texts."""
    other = _endless(run, run.source, first_epoch=_WHOLE_EPOCH)
    long = _endless(run, run.whole, first_epoch=0)
    for number in itertools.count():
        yield next(other if number % _WHOLE_OTHER == 0 else long)


def _endless(run: Run, source: Source, *, first_epoch: int, plain: bool = False) -> Iterator[Step]:
    for epoch in itertools.count(first_epoch):
        yield from batches.steps(
            source, run.design.step, epoch=epoch, seed=run.plan.seed, plain=plain
        )


def _parts(student: Student, step: Step, design: Design) -> dict[str, Tensor]:
    """The losses of a step, by name."""
    device = student.norm.weight.device
    step = step.to(device)
    with teacher.autocast(device):
        vectors = [student(each).float() for each in step.micro_batches]
    return losses.loss(_in_order(vectors, step), step.targets, design)


def _in_order(vectors: list[Tensor], step: Step) -> Tensor:
    """The vectors of all micro-batches as the targets stand."""
    places = torch.cat([each.texts for each in step.micro_batches])
    return torch.cat(vectors)[places.argsort()]


def _descend(parts: dict[str, Tensor], optimisers: list[torch.optim.Optimizer]) -> None:
    torch.stack(list(parts.values())).sum().backward()
    for optimiser in optimisers:
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)


def _rounded(parts: dict[str, Tensor]) -> dict[str, float]:
    return {name: round(float(part.detach()), 4) for name, part in parts.items()}


def _log(run: Run, **values: float) -> None:
    with (run.directory / "curve.jsonl").open("a") as lines:
        lines.write(json.dumps(values) + "\n")
