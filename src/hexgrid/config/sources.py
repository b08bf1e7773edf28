"""Where the values of a config come from: a flag beats the variable, the variable beats the default."""

import difflib
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from hexgrid.config import EngineConfig, ServerConfig, UpstreamConfig, all_settings
from hexgrid.config.settings import ENV_PREFIX, settings
from hexgrid.errors import ConfigError

# Kubernetes puts variables of this form into every pod beside a Service named "hexgrid".
_KUBERNETES_LINK = re.compile(r"HEXGRID_(SERVICE_.*|PORT_\d+_.*)$")

# Where clients find the server: ours, and whatever else runs in the same environment.
URL_VARIABLE = f"{ENV_PREFIX}BASE_URL"

Config = TypeVar("Config", EngineConfig, UpstreamConfig, ServerConfig)


def load(config: type[Config], flags: Mapping[str, Any], environ: Mapping[str, str]) -> Config:
    """A config from flags (None or an empty tuple: not given) over HEXGRID_* variables over defaults.

    Raises:
        ConfigError: a value is wrong, or a HEXGRID_* variable has a name that no setting has.
    """
    _refuse_unknown_variables(environ)
    values = {}
    for setting in settings(config):
        given = flags.get(setting.name)
        text = environ.get(setting.variable)
        if given is not None and given != ():
            values[setting.name] = given
        elif text is not None and not text.startswith("tcp://"):  # a Kubernetes link, see above
            values[setting.name] = setting.parse(text)
    if config is ServerConfig:
        values["engine"] = load(EngineConfig, flags, environ)
        values["upstreams"] = load(UpstreamConfig, flags, environ)
    return config(**values)


def _refuse_unknown_variables(environ: Mapping[str, str]) -> None:
    known = [setting.name.upper() for setting in all_settings()]
    for name in environ:
        own = name.removeprefix(ENV_PREFIX)
        if name == URL_VARIABLE:
            continue
        if own != name and own not in known and not _KUBERNETES_LINK.match(name):
            near = difflib.get_close_matches(own, known, n=1)
            hint = f"; did you mean {ENV_PREFIX}{near[0]}?" if near else ""
            raise ConfigError(f"Environment variable {name} names no setting{hint}")
