"""What a setting is: a field of a frozen dataclass, with a flag, a variable, bounds and a text.

Nothing heavy is imported: `hexgrid --help` reads this file.
"""

import dataclasses
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, Literal

from hexgrid.errors import ConfigError

ENV_PREFIX = "HEXGRID_"


@dataclass(frozen=True, repr=False)
class Secret:
    """A string that prints as stars."""

    value: str

    def __repr__(self) -> str:
        return "'***'"


@dataclass(frozen=True)
class Setting:
    """What the command line, the environment and the docs need to know of one field."""

    name: str
    default: Any
    help: str
    kind: type  # int, float, str, bool, Path or Secret
    choices: tuple[str, ...] = ()
    repeated: bool = False
    low: float | None = None
    high: float | None = None
    shown_default: str | None = None

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return ENV_PREFIX + self.name.upper()

    def parse(self, text: str) -> Any:
        """The value that the environment's `text` stands for.

        Raises:
            ConfigError: it is not of the setting's kind.
        """
        if self.repeated and self.kind is str:
            return tuple(part.strip() for part in text.split(",") if part.strip())
        if self.repeated:  # one secret: a key may hold any character, so nothing splits it
            return (self.kind(text),)
        if self.kind is bool:
            return self._parse_bool(text)
        try:
            return self.kind(text)
        except ValueError:
            raise ConfigError(
                f"{self.variable} must be a number, got {text!r}", param=self.name
            ) from None

    def _parse_bool(self, text: str) -> bool:
        meaning = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
        if text.lower() not in meaning:
            raise ConfigError(
                f"{self.variable} must be true or false, got {text!r}", param=self.name
            )
        return meaning[text.lower()]

    def check(self, value: Any) -> None:
        """Refuse a value outside the setting's bounds or choices."""
        if value is None:
            return
        if self.choices and value not in self.choices:
            raise ConfigError(
                f"{self.flag} must be one of {', '.join(self.choices)}; got {value!r}",
                param=self.name,
            )
        if self.low is not None and not value >= self.low:  # so written, it refuses NaN, too
            raise ConfigError(
                f"{self.flag} must be at least {self.low:g}, got {value}", param=self.name
            )
        if self.high is not None and value > self.high:
            raise ConfigError(
                f"{self.flag} must be at most {self.high:.0f}, got {value}", param=self.name
            )


def new_setting(
    default: Any,
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    shown_default: str | None = None,
) -> Any:
    metadata = {"help": text, "low": low, "high": high, "shown_default": shown_default}
    return field(default=default, metadata=metadata)


class Checked:
    """Checks every field once, when the frozen dataclass is made."""

    def __post_init__(self) -> None:
        for setting in settings(type(self)):
            setting.check(getattr(self, setting.name))


def settings(config: type) -> Iterator[Setting]:
    """The settings of one config class, in the order of its fields; a nested config is not entered."""
    hints = typing.get_type_hints(config)
    for entry in dataclasses.fields(config):
        if "help" in entry.metadata:
            yield _describe(entry, hints[entry.name])


def refuse_given(config: Checked, described: Iterable[Setting], why: str) -> None:
    """Refuse settings that would not act."""
    for setting in described:
        if getattr(config, setting.name) != setting.default:
            raise ConfigError(f"{setting.flag} {why}", param=setting.name)


def _describe(entry: "dataclasses.Field[Any]", hint: Any) -> Setting:
    kind, choices, repeated = hint, (), False
    if isinstance(hint, UnionType):  # X | None
        (kind,) = (part for part in typing.get_args(hint) if part is not type(None))
    elif typing.get_origin(hint) is Literal:
        kind, choices = str, typing.get_args(hint)
    elif typing.get_origin(hint) is tuple:
        kind, repeated = typing.get_args(hint)[0], True
    return Setting(
        name=entry.name,
        default=entry.default,
        kind=kind,
        choices=choices,
        repeated=repeated,
        **entry.metadata,
    )
