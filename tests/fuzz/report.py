"""What a campaign has shown, and whether it is good enough."""

import json
from collections import Counter
from pathlib import Path

import numpy as np

from tests.fuzz.campaign import Seen
from tests.fuzz.cases import Case
from tests.server.running import KEY

_WARM_UP = 0.5  # of the cases: allocators and caches fill
# Percent of memory, over the cases after that: of 100,000, half a kilobyte a case would be 5%.
# Found: 2.4%, a sixth of what the first half adds.
MOST_GROWTH = 5.0
_FEWEST_SAMPLES = 250  # 50,000 cases: before, memory still grows into what it holds
_SHOWN_OF_TRACEBACK = 700
_BAD_LEVELS = ("error", "critical")


def growth_percent(memory: list[tuple[int, int]]) -> float | None:
    """Of memory, by a straight line through what was seen after the warm-up."""
    found = memory[int(len(memory) * _WARM_UP) :]
    if len(found) < _FEWEST_SAMPLES:
        return None
    cases, sizes = np.array(found, dtype=float).T
    slope, _ = np.polyfit(cases, sizes, 1)
    return float(100 * slope * (cases[-1] - cases[0]) / sizes[0])


def log_problems(log: str) -> Counter[str]:
    """What must not stand in the server's log of JSON lines."""
    problems: Counter[str] = Counter()
    for line in log.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            problems[f"a line of the log is no JSON: {line[:200]}"] += 1
            continue
        if entry["level"] in _BAD_LEVELS or "Traceback" in line:
            told = entry.get("exception", "")[-_SHOWN_OF_TRACEBACK:]
            problems[f"in the log: {entry['level']} {entry['message']} {told}"] += 1
        if KEY in line and KEY not in entry.get("path", ""):
            problems[f"the key is in the log: {line[:200]}"] += 1
    return problems


def save(faults: list[tuple[Case, str]], seed: int, directory: Path) -> None:
    """Keep the bytes of each case at fault, and beside them what was wrong."""
    directory.mkdir(parents=True, exist_ok=True)
    for case, fault in faults:
        file = directory / f"{seed}-{case.index}"
        file.with_suffix(".bin").write_bytes(case.sent)
        file.with_suffix(".txt").write_text(f"{case.kind}, then {case.end}: {fault}\n")


def figures(seen: Seen) -> dict[str, object]:
    """What is printed, for people and for programs."""
    growth = growth_percent(seen.memory)
    sizes = [size for _, size in seen.memory]
    return {
        "cases": seen.num_cases,
        "cases/s": round(seen.num_cases / seen.seconds, 1),
        "good requests between them": seen.num_good,
        "answers by status": dict(sorted(seen.statuses.items())),
        "cases by kind": dict(sorted(seen.kinds.items())),
        "RSS at first (MB)": round(sizes[0] / 1e6, 1) if sizes else None,
        "RSS at half (MB)": round(sizes[len(sizes) // 2] / 1e6, 1) if sizes else None,
        "RSS at last (MB)": round(sizes[-1] / 1e6, 1) if sizes else None,
        f"RSS growth in the second half, at most {MOST_GROWTH} (%)": (
            None if growth is None else round(growth, 2)
        ),
    }
