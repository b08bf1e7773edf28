"""hexgrid usage: requests and tokens by key, model and time, as servers counted them."""

import csv
import io
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hexgrid.cli.options import required_option
from hexgrid.tables import aligned

if TYPE_CHECKING:
    from hexgrid.server.usage import Slot, Sums, Used

_TIMES = {"hour": "%Y-%m-%d %H:00", "day": "%Y-%m-%d", "month": "%Y-%m"}
_PARTS = ("key", "model", *_TIMES)
_COUNTS = ("requests", "inputs", "tokens")
_NOBODY = "-"  # the operator's own keys, and requests without one

Row = tuple[str | int, ...]


@click.command()
@required_option("usage_dir", "directory")
@click.option(
    "--by",
    "parts",
    default="key,model",
    help=f"What is shown apart, of {', '.join(_PARTS)}, separated by commas; '' for the total.  "
    "[default: key,model]",
)
@click.option("--since", type=click.DateTime(), help="From this time on (UTC), in whole hours.")
@click.option("--until", type=click.DateTime(), help="Up to this time (UTC), in whole hours.")
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated values.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def command(
    directory: Path,
    parts: str,
    since: datetime | None,
    until: datetime | None,
    *,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Show requests, inputs and tokens that were answered, up to this moment.

    Tokens are those of the `usage` field in the answers. Times are in UTC.
    """
    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    from hexgrid.server.usage import read

    by = _parse(parts)
    rows = _rows(_within(read(directory), since, until), by)
    header = (*by, *_COUNTS)
    if as_json:
        import orjson

        click.echo(orjson.dumps([dict(zip(header, row, strict=True)) for row in rows]))
    elif as_csv:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([header, *rows])
        click.echo(text.getvalue(), nl=False)
    else:
        for line in _table(header, rows):
            click.echo(line)


def _parse(parts: str) -> tuple[str, ...]:
    by = tuple(filter(None, (part.strip() for part in parts.split(","))))
    for part in by:
        if part not in _PARTS:
            raise click.BadParameter(f"{part!r} is none of {', '.join(_PARTS)}", param_hint="--by")
    return by


def _within(sums: "Sums", since: datetime | None, until: datetime | None) -> "Sums":
    first = since.replace(tzinfo=UTC).timestamp() if since else float("-inf")
    end = until.replace(tzinfo=UTC).timestamp() if until else float("inf")
    return {slot: used for slot, used in sums.items() if first <= slot.hour < end}


def _rows(sums: "Sums", by: Sequence[str]) -> list[Row]:
    """Sorted, one for each combination of `by`."""
    added: dict[tuple[str, ...], Used] = {}
    for slot, used in sums.items():
        key = tuple(_part(slot, part) for part in by)
        added[key] = added[key].plus(used) if key in added else used
    return [(*key, *used) for key, used in sorted(added.items())]


def _part(slot: "Slot", part: str) -> str:
    if part == "key":
        return slot.name or _NOBODY
    if part == "model":
        return slot.model
    return time.strftime(_TIMES[part], time.gmtime(slot.hour))


def _table(header: Sequence[str], rows: Sequence[Row]) -> Iterator[str]:
    """Texts on the left, counts on the right."""
    cells = [[name.upper() for name in header], *([str(value) for value in row] for row in rows)]
    return aligned(cells, num_left=len(header) - len(_COUNTS))
