"""What the benchmarks share: the texts, the checkpoint, the machine's own speed, how results are printed."""

import json
import platform
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hexgrid.model.synthetic import make_checkpoint
from hexgrid.tokenizer import Tokenizer

# Plain words of everyday and technical English; order and number are drawn with a seed.
_WORDS = """
the of a to in is that for it as was with be by on not he his but at are this have from or had an
they which one you were all her she there would their we him been has when who will no more if out
so up said what its about than into them can only other time new some could these two may first
then do any like my now over such our man even most made after also many before must through years
where much your way well down should because long each just state those people too mister how
little good world make very year still see own work men day get here old life both between being
under three never know same last another while us off might great go come since against right came
take used himself few house use place during high without again home around small however found
thought went say part once general upon school every don't united number does course war until
always away something fact water though less public put think almost hand enough far took head yet
government system better set told nothing night end why called didn't eyes find going look asked
later knew point next program city business give group toward young days let room word light learn
network model search index query vector document cluster memory server request latency token batch
matrix gradient function variable compile gravity planet orbit energy protein enzyme voltage
circuit river mountain harbour theorem integral keyboard
""".split()


def english_texts(
    tokenizer: Tokenizer,
    count: int,
    *,
    mean: float = 80.0,
    low: int = 8,
    high: int = 400,
    seed: int = 2,
) -> list[str]:
    """`count` texts whose lengths in tokens are log-normal around `mean`, from `low` to `high`."""
    random = np.random.default_rng(seed)
    sigma = 0.85
    mu = np.log(mean) - sigma**2 / 2
    texts = []
    for length in np.clip(random.lognormal(mu, sigma, count), low, high).astype(int):
        words = random.choice(_WORDS, size=length)
        (ids,) = tokenizer.encode([" ".join(words)]).token_ids
        # One token is the EOS; a detokenized prefix gives the wanted length to within a token.
        texts.append(tokenizer.detokenize(ids[: length - 1]))
    return texts


def queries(instruction: str, *, seed: int = 3) -> Iterator[str]:
    """Endless questions under one instruction, of which hardly two are alike."""
    random = np.random.default_rng(seed)
    while True:
        what, of, there = random.choice(_WORDS, size=3)
        yield f"{instruction}What is the {what} of {of} in {there}?"


def sentences(num_words: int, *, seed: int = 4) -> Iterator[str]:
    """Endless texts of so many words, of which hardly two are alike."""
    random = np.random.default_rng(seed)
    while True:
        yield " ".join(random.choice(_WORDS, size=num_words)) + "."


@contextmanager
def checkpoint(path: Path | None, size: Any, *, num_layers: int | None = None) -> Iterator[Path]:
    """The directory given, or a seeded random checkpoint that is gone afterwards."""
    if path is not None:
        yield path
        return
    with tempfile.TemporaryDirectory() as directory:
        made = Path(directory) / "checkpoint"
        make_checkpoint(made, size, num_layers=num_layers)
        yield made


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), cpu)
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "cpu": cpu,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": commit or "unknown",
    }


def report(title: str, rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> None:
    """A table for people, and one JSON line last for scripts."""
    columns = list(rows[0])
    cells = [[_cell(row[column]) for column in columns] for row in rows]
    widths = [max(len(c), *(len(row[i]) for row in cells)) for i, c in enumerate(columns)]
    print(f"\n{title}\n")
    print("| " + " | ".join(c.ljust(w) for c, w in zip(columns, widths, strict=True)) + " |")
    print("|" + "|".join("-" * (w + 2) for w in widths) + "|")
    for row in cells:
        print("| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |")
    print()
    print(json.dumps({**summary, "rows": list(rows), "machine": machine()}))


def _cell(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
