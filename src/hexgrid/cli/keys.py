"""hexgrid keys: API keys with names and limits, in the store that running servers follow."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hexgrid.cli.options import required_option
from hexgrid.tables import aligned

if TYPE_CHECKING:
    from hexgrid.server.key_store import KeyStore, StoredKey

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_LONGEST_SECONDS = 100 * 365 * 86_400
_HEADER = ("NAME", "KEY", "STATE", "CREATED", "EXPIRES", "LIMITS")


class _Duration(click.ParamType[int]):
    """`90d`, `12h`, `30m` or `45s`, as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"(\d{1,9})([smhd])", str(value))
        seconds = int(found[1]) * _UNITS[found[2]] if found else 0
        if not 0 < seconds <= _LONGEST_SECONDS:
            self.fail(f"{value!r} is no duration such as 90d, 12h, 30m or 45s", param, ctx)
        return seconds


_store_option = required_option("key_store", "file")


@click.group()
def command() -> None:
    """Make, list, replace and revoke API keys.

    Keys are in a file that a server follows which was started with --key-store: what is changed here
    holds there within a second.
    """


@command.command()
@_store_option
@click.option("--name", required=True, help="Whose it is, for the list and the limits.")
@click.option(
    "--expires", "lifetime", type=_Duration(), help="After so long, e.g. 90d.  [default: never]"
)
@click.option("--models", help="Served names that it is for, separated by commas.  [default: all]")
@click.option(
    "--rpm", type=click.IntRange(1, 10**9), help="Requests a minute.  [default: no limit]"
)
@click.option("--tpm", type=click.IntRange(1, 10**12), help="Tokens a minute.  [default: no limit]")
@click.option(
    "--max-concurrency",
    type=click.IntRange(1, 10**6),
    help="Requests at a time.  [default: no limit]",
)
def create(
    file: Path,
    name: str,
    lifetime: int | None,
    models: str | None,
    rpm: int | None,
    tpm: int | None,
    max_concurrency: int | None,
) -> None:
    """Make a key and print it, this once: the store holds a digest."""
    from hexgrid.server.key_store import Limits

    names = None if models is None else frozenset(filter(None, map(str.strip, models.split(","))))
    if names is not None and not names:
        raise click.BadParameter("no name in it", param_hint="--models")
    limits = Limits(names, rpm, tpm, max_concurrency)
    click.echo(_store(file).create(name, limits, lifetime=lifetime))
    _say(
        f"The key of {name!r}, shown this once. It goes into the header 'Authorization: Bearer KEY'."
    )


@command.command("list")
@_store_option
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
def list_(file: Path, *, as_json: bool) -> None:
    """Show all keys, by the part of them that is no secret."""
    keys = _store(file).read()
    if as_json:
        import orjson

        click.echo(orjson.dumps([_as_data(key) for key in keys]))
        return
    for line in _table(keys):
        click.echo(line)


@command.command()
@_store_option
@click.argument("name")
@click.option(
    "--grace",
    type=_Duration(),
    default="1d",
    help="How long the old one still works.  [default: 1d]",
)
@click.option(
    "--expires", "lifetime", type=_Duration(), help="Of the new one, e.g. 90d.  [default: never]"
)
def rotate(file: Path, name: str, grace: int, lifetime: int | None) -> None:
    """Make another key for NAME, with the same limits, and print it; the old one ends after --grace."""
    click.echo(_store(file).rotate(name, grace=grace, lifetime=lifetime))
    _say(
        f"The new key of {name!r}, shown this once. Older ones end at {_date(time.time() + grace)}."
    )


@command.command()
@_store_option
@click.argument("name")
def revoke(file: Path, name: str) -> None:
    """Let no key of NAME in any more. This cannot be taken back."""
    _store(file).revoke(name)
    _say(f"Keys of {name!r} are no longer valid.")


def _say(text: str) -> None:
    """For people: stdout holds the key alone."""
    click.echo(text, err=True)


def _store(file: Path) -> "KeyStore":
    from hexgrid.server.key_store import KeyStore

    return KeyStore(file)


def _table(keys: "list[StoredKey]") -> Iterator[str]:
    now = time.time()
    rows = [_HEADER] + [
        (
            key.name,
            f"hg_{key.prefix}_...",
            key.state(now),
            _date(key.created),
            "never" if key.expires is None else _date(key.expires),
            _limits(key),
        )
        for key in keys
    ]
    return aligned(rows, num_left=len(_HEADER))


def _limits(key: "StoredKey") -> str:
    limits = key.limits
    parts = [f"only {', '.join(sorted(limits.models))}"] if limits.models is not None else []
    for value, text in (
        (limits.rpm, "requests/min"),
        (limits.tpm, "tokens/min"),
        (limits.max_concurrency, "at a time"),
    ):
        if value is not None:
            parts.append(f"{value} {text}")
    return "; ".join(parts) or "none"


def _as_data(key: "StoredKey") -> dict[str, Any]:
    models = key.limits.models
    return {
        "name": key.name,
        "prefix": f"hg_{key.prefix}",
        "state": key.state(time.time()),
        "created": key.created,
        "expires": key.expires,
        "revoked": key.revoked,
        "models": None if models is None else sorted(models),
        "rpm": key.limits.rpm,
        "tpm": key.limits.tpm,
        "max_concurrency": key.limits.max_concurrency,
    }


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
