"""Send a real server with nano what no client should, and say whether it stood it.

    python -m tests.fuzz --cases 100000 --seed 0
    python -m tests.fuzz --seed 0 --first 1234 --cases 1    # one case again

Figures for people, one line of JSON last; exits with 1 at a fault, whose bytes are kept in build/fuzz.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.fuzz.report import figures, save
from tests.fuzz.server import fuzz

_KEPT = Path("build/fuzz")
_SHOWN_FAULTS = 20


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        cases = range(asked.first, asked.first + asked.cases)
        seen = fuzz(cases, asked.seed, Path(directory))
    found = figures(seen)
    for name, value in found.items():
        sys.stdout.write(f"{name}: {value}\n")
    for problem, count in seen.problems.items():
        sys.stdout.write(f"FAULT ({count} times): {problem}\n")
    for case, fault in seen.faults[:_SHOWN_FAULTS]:
        sys.stdout.write(f"FAULT in case {case.index} ({case.kind}, {case.end}): {fault}\n")
    if seen.faults:
        save(seen.faults, asked.seed, _KEPT)
        sys.stdout.write(f"The bytes of {len(seen.faults)} cases are in {_KEPT}\n")
    line = {"fuzz": asked.seed, "faults": len(seen.faults), "problems": seen.problems}
    sys.stdout.write(json.dumps(line | {"figures": found}) + "\n")
    return 1 if seen.faults or seen.problems else 0


if __name__ == "__main__":
    sys.exit(main())
