"""Settings as command-line options: one field of a config class is one option, help and all."""

import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
import setproctitle

from hexgrid.config import ServerConfig
from hexgrid.config.settings import Secret, Setting, settings
from hexgrid.errors import ConfigError

_KEY_VARIABLES = ("HEXGRID_API_KEY", "OPENAI_API_KEY")

Function = TypeVar("Function", bound=Callable[..., Any])


class _SecretType(click.ParamType[Secret]):
    name = "key"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Secret:
        return Secret(value)


def config_options(*configs: type, without: tuple[str, ...] = ()) -> Callable[[Function], Function]:
    """A decorator that adds the options of `configs`; those not given arrive as None or ()."""
    described = [s for config in configs for s in settings(config) if s.name not in without]

    def decorate(function: Function) -> Function:
        for setting in reversed(described):
            function = _option(setting)(function)
        return function

    return decorate


def required_option(name: str, parameter: str) -> Callable[[Function], Function]:
    """A server's setting as an option that another command cannot do without; the variable works, too."""
    (setting,) = (each for each in settings(ServerConfig) if each.name == name)
    return click.option(
        setting.flag,
        parameter,
        type=click.Path(path_type=Path),
        envvar=setting.variable,
        required=True,
        help=f"As the server's.  [{setting.variable}]",
    )


def refuse_engine_options(url: str, flags: Mapping[str, Any]) -> None:
    """Options that say how a model is loaded cannot act on a server that has loaded its own."""
    for name, value in flags.items():
        if value is not None:
            flag = "--" + name.replace("_", "-")
            raise ConfigError(f"{flag} goes with a MODEL; the server at {url} has its own settings")


def server_key(environ: Mapping[str, str]) -> str | None:
    """The key to send to a server that is not ours to start."""
    keys = (environ.get(name, "").strip() for name in _KEY_VARIABLES)
    return next(filter(None, keys), None)


def key_option(function: Function) -> Function:
    """An option for the same key, which beats the variables."""
    return click.option(
        "--api-key",
        type=_SecretType(),
        help="Key to send. Prefer the variable: a flag can be read by other users of the machine until the "
        f"process has renamed itself.  [{' or '.join(_KEY_VARIABLES)}]",
    )(function)


def hide_secrets(*given: Secret | None) -> None:
    """Rename the process, so that `ps` shows its arguments without these."""
    secrets = [secret for secret in given if secret is not None]
    shown = [_without(argument, secrets) for argument in sys.argv[1:]]
    setproctitle.setproctitle(" ".join(["hexgrid", *shown]))


def _without(argument: str, secrets: Iterable[Secret]) -> str:
    for secret in secrets:
        argument = argument.replace(secret.value, "***")
    return argument


def _option(setting: Setting) -> Callable[[Function], Function]:
    default = setting.shown_default
    if default is None and setting.default not in (None, (), False):
        default = str(setting.default)
    text = setting.help + (
        f"  [{setting.variable}" + (f"; default: {default}]" if default else "]")
    )
    if setting.kind is bool:
        # None when absent, so that the environment can still decide.
        return click.option(setting.flag, is_flag=True, default=None, help=text)
    kinds: dict[type, Any] = {Path: click.Path(path_type=Path), Secret: _SecretType()}
    kind = (
        click.Choice(setting.choices) if setting.choices else kinds.get(setting.kind, setting.kind)
    )
    return click.option(
        setting.flag,
        type=kind,
        multiple=setting.repeated,
        default=None,
        help=text,
    )
