"""Put a real server with nano through mixed load and overload, and say whether it stood it.

    python -m tests.soak --seconds 900

A table for people, one line of JSON last; exits with 1 if a goal is missed.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from hexgrid.tables import aligned
from tests.soak.phases import Plan, soak
from tests.soak.pool import make_pool
from tests.soak.report import Goal, correctness, figures, stability


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=900.0)
    seconds = parser.parse_args().seconds
    pool = make_pool(num_short=3_000, num_long=60, num_heavy=1_500)
    with tempfile.TemporaryDirectory() as directory:
        seen = soak(Plan.of(seconds), pool, Path(directory))
        goals = [*correctness(seen, Path(directory) / "usage"), *stability(seen)]
    others = figures(seen)
    write(goals, others, seen.calls.problems)
    print_json = {
        "soak": seconds,
        "goals": {goal.name: goal.value for goal in goals},
        "missed": [goal.name for goal in goals if not goal.is_met],
        "figures": others,
        "problems": seen.calls.problems,
    }
    sys.stdout.write(json.dumps(print_json) + "\n")
    return 0 if all(goal.is_met for goal in goals) else 1


def write(goals: list[Goal], others: dict[str, float], problems: dict[str, int]) -> None:
    """The table."""
    rows = [("", "found", "goal", "")]
    for goal in goals:
        found = "none" if goal.value is None else f"{goal.value:.4g}"
        rows.append((goal.name, found, goal.bound, "ok" if goal.is_met else "MISSED"))
    rows += [(name, f"{value:.4g}", "", "") for name, value in others.items()]
    rows += [(problem, str(count), "0", "MISSED") for problem, count in problems.items()]
    sys.stdout.write("\n".join(aligned(rows, num_left=1)) + "\n\n")


if __name__ == "__main__":
    sys.exit(main())
