"""Train nano: from text and teacher to the files in src/hexgrid/nano. One command; again, it goes on.

    python training/train_nano.py --data DIR --work DIR [--eval DIR]

With --compare, designs are trained for a short while each instead, and nothing is shipped.
"""

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from designs import DESIGNS, SHIPPED
from hexgrid import nano
from prepare import prepare
from score import score, score_lengths
from ship import COMPACT, FLOAT32, SHIPPED_FILES, write
from train import Plan, Run, held_out, train

FULL = Plan(bag_passes=3.5, passes=1.35, whole_passes=1.0)
SHORT = Plan(bag_passes=0.5, passes=0.05, whole_passes=0.05)


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    data: Path
    work: Path
    sets: Path | None
    designs: tuple[str, ...]  # none: the one that is shipped, in full


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Texts.")
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Kept between runs.")
@click.option("--eval", "sets", type=click.Path(path_type=Path, exists=True), help="To be scored.")
@click.option(
    "--compare",
    "designs",
    type=click.Choice(list(DESIGNS)),
    multiple=True,
    help="Train this design for a short while and ship nothing; repeat for several.",
)
def main(**options: Any) -> None:
    """Train nano, or compare designs of it."""
    _run(Options(**options))


def _run(options: Options) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        prepared = prepare(options.data, options.work, progress)
        for name in options.designs:
            directory = options.work / "short" / name
            _one(name, Run(*prepared, DESIGNS[name], SHORT, directory), options.sets, progress)
        if not options.designs:
            run = Run(*prepared, DESIGNS[SHIPPED], FULL, options.work / "full" / SHIPPED)
            _one(SHIPPED, run, options.sets, progress)
            for file in SHIPPED_FILES:
                shutil.copyfile(run.directory / COMPACT / file, nano.DIRECTORY / file)


def _one(name: str, run: Run, sets: Path | None, progress: Progress) -> None:
    """Train one design, write its checkpoints, score them; the report is printed and kept."""
    started = time.monotonic()
    student = train(run, progress)
    report: dict[str, Any] = {
        "design": name,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "parameters_of_layers": sum(weight.numel() for weight in student.layers.parameters()),
        "held_out_with_head": held_out(run.source, student),
    }
    student.set_head_aside()
    report["held_out"] = held_out(run.source, student)
    for form in (COMPACT, FLOAT32):
        target = run.directory / form
        shutil.rmtree(target, ignore_errors=True)
        write(student, run.source.vocabulary, run.first, target, form=form)
        if sets is not None:
            report[f"scores_{form}"] = score(target, sets)
    if sets is not None:
        report["lengths"] = score_lengths(run.directory / COMPACT, sets)
    (run.directory / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
