"""The files in deploy/, parsed, and what their settings mean."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import click

from hexgrid.cli import main
from hexgrid.cli.serve import command as serve
from hexgrid.config import ServerConfig
from hexgrid.config.sources import load

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy/docker"
SECRET = re.compile("KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)


class Line(NamedTuple):
    """A directive with its section, or an instruction of a Dockerfile with its stage."""

    where: str
    name: str
    value: str


def dockerfile() -> list[Line]:
    text = re.sub(r"^#.*\n", "", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE)
    stage, found = "", []
    for line in text.replace("\\\n", " ").splitlines():
        if line:
            name, _, value = line.partition(" ")
            stage = value if name == "FROM" else stage
            found.append(Line(stage, name, value.strip()))
    return found


def instructions(name: str) -> list[str]:
    return [line.value for line in dockerfile() if line.name == name]


def image_environment() -> dict[str, str]:
    last = dockerfile()[-1].where
    return dict(
        word.split("=", 1)
        for line in dockerfile()
        if (line.where, line.name) == (last, "ENV")
        for word in shlex.split(line.value)
    )


def config(arguments: Sequence[str], environ: Mapping[str, str]) -> ServerConfig:
    """What `hexgrid serve` makes of these; it refuses flags and variables that do not exist."""
    verb, *rest = arguments
    assert verb == "serve"
    parent = click.Context(main, **main.context_settings)
    return load(ServerConfig, serve.make_context(verb, rest, parent).params, environ)


def seconds(text: str) -> float:
    number, kind = re.fullmatch(r"(\d+)(s|min|m)", text).groups()  # type: ignore[union-attr]
    return int(number) * (1 if kind == "s" else 60)


def outlasts_the_drain(text: str) -> bool:
    settings = ServerConfig()
    return seconds(text) > settings.drain_delay + settings.drain_timeout
