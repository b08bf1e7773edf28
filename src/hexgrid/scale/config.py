"""What is told of a deployment: the server's and the engine's settings, and what Ray Serve has beside them.

`server` and `engine` hold fields of `ServerConfig` and `EngineConfig` under their own names. As for any
server, a HEXGRID_* variable where the process runs acts where the file says nothing. What only a process that
listens by itself can honour is refused: on a cluster, Ray's proxies listen.
"""

import difflib
import typing
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from hexgrid import nano
from hexgrid.config import EngineConfig, ServerConfig
from hexgrid.config.settings import Secret, Setting, settings
from hexgrid.config.sources import load
from hexgrid.errors import ConfigError

Count = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]
Resources = dict[str, Share]

# By what does their work on a cluster.
_ELSEWHERE = {
    "Ray Serve's http_options": (
        "host port uds uds_mode ssl_certfile ssl_keyfile ssl_keyfile_password ssl_ca_certs ssl_cert_reqs "
        "root_path keep_alive_timeout"
    ),
    "a proxy in front of Ray's": (
        "max_connections max_url_bytes max_num_headers max_header_bytes header_timeout body_timeout "
        "stall_timeout min_transfer_rate"
    ),
    "graceful_shutdown_timeout_s": "drain_delay drain_timeout",
    "models": "model served_model_name",
}

Config = TypeVar("Config", EngineConfig, ServerConfig)


class Ingress(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The replicas that answer HTTP."""

    num_replicas: Count = 1
    num_cpus: Share = 1.0
    # To keep them where a file is that they share, such as the key store: a custom resource of that node.
    resources: Resources = {}
    graceful_shutdown_timeout_s: Seconds = 60.0


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One served model, and the replicas that compute it."""

    model: str = nano.NAME  # a directory on every node, or a hub id
    names: tuple[str, ...] = ()  # that clients use; empty: `model` as given
    engine: dict[str, Any] = {}  # over the deployment's own `engine`
    min_replicas: Count = 1
    max_replicas: Count = 1
    num_cpus: Share = 1.0  # of one replica
    num_gpus: Share = 0.0
    resources: Resources = {}
    # Tokens that wait or run in a replica: on average more is what makes another one start.
    target_queued_tokens: Count = 32_768
    upscale_delay_s: Seconds = 10.0
    downscale_delay_s: Seconds = 300.0
    look_back_period_s: Annotated[float, msgspec.Meta(gt=0)] = 15.0
    # Calls at a time, of many inputs each; more wait at the ingress, and beyond those it answers 429.
    max_ongoing_requests: Count = 64
    max_queued_requests: Count = 1024
    graceful_shutdown_timeout_s: Seconds = 60.0

    @property
    def served_names(self) -> tuple[str, ...]:
        return self.names or (self.model,)

    def __post_init__(self) -> None:
        if self.max_replicas < self.min_replicas:
            raise ConfigError(
                f"models: max_replicas {self.max_replicas} of {self.served_names[0]} is less than its "
                f"min_replicas {self.min_replicas}"
            )


class ScaleConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole deployment."""

    server: dict[str, Any] = {}
    engine: dict[str, Any] = {}  # of every model
    ingress: Ingress = Ingress()
    models: tuple[Model, ...] = (Model(),)


def parse(args: Mapping[str, Any]) -> ScaleConfig:
    """Check all that can be known before a process of the deployment runs.

    Raises:
        ConfigError: a key, a value or a setting is wrong.
    """
    try:
        config = msgspec.convert(dict(args), ScaleConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(f"The deployment's args are wrong: {error}") from error
    if not config.models:
        raise ConfigError(
            "models is empty: name at least one, or leave it out for the embedded model"
        )
    _refuse_shared_names(config)
    _refuse_elsewhere(config.server)
    ServerConfig(**_values(ServerConfig, config.server, "server"))
    for model in config.models:
        EngineConfig(**_values(EngineConfig, config.engine | model.engine, "engine"))
    return config


def server_config(config: ScaleConfig, environ: Mapping[str, str]) -> ServerConfig:
    """The server's settings in a process of the deployment.

    Raises:
        ConfigError: a variable is wrong, or cannot act here.
    """
    loaded = load(ServerConfig, _values(ServerConfig, config.server, "server"), environ)
    default = ServerConfig()
    names = [setting.name for setting in settings(ServerConfig)]
    _refuse_elsewhere([name for name in names if getattr(loaded, name) != getattr(default, name)])
    return loaded


def refuse_open_door(config: ServerConfig) -> None:
    """Without a key nobody may ask, unless the operator says so: who reaches Ray's proxies is not known.

    Raises:
        ConfigError: anybody could.
    """
    if not (config.has_keys() or config.allow_anonymous):
        raise ConfigError(
            "No API key is set. Set HEXGRID_API_KEY on the cluster's nodes, or api_key_file or key_store in "
            "`server`; or set allow_anonymous there to serve anybody who reaches Ray's proxies"
        )


def engine_config(config: ScaleConfig, model: Model, environ: Mapping[str, str]) -> EngineConfig:
    """The settings of a replica that computes `model`.

    Raises:
        ConfigError: a variable is wrong.
    """
    values = _values(EngineConfig, config.engine | model.engine, "engine")
    return load(EngineConfig, values, environ)


def _refuse_shared_names(config: ScaleConfig) -> None:
    names = [name for model in config.models for name in model.served_names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"models: two are served under the name {twice[0]!r}")


def _refuse_elsewhere(given: Collection[str]) -> None:
    for place, names in _ELSEWHERE.items():
        for name in names.split():
            if name in given:
                raise ConfigError(
                    f"server: {name} cannot act on a cluster, where Ray's proxies listen; its place is "
                    f"{place}",
                    param=name,
                )


def _values(config: type[Config], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields of `config` that are given, each of its own type."""
    known = {setting.name: setting for setting in settings(config)}
    hints = typing.get_type_hints(config)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(f"{where}: {name} names no setting{hint}")
    return {name: _value(known[name], hints[name], value, where) for name, value in given.items()}


def _value(setting: Setting, hint: Any, value: Any, where: str) -> Any:
    if setting.kind is Secret:
        raise ConfigError(
            f"{where}: {setting.name} would be shown to all who see Ray's dashboard; set "
            f"{setting.variable} on the nodes",
            param=setting.name,
        )
    try:
        return msgspec.convert(value, hint, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"{where}: {setting.name} is wrong: {error}", param=setting.name
        ) from error


def _path(kind: type, value: Any) -> Any:
    assert kind is Path
    if not isinstance(value, str):
        raise msgspec.ValidationError(f"Expected a path, got {value!r}")
    return Path(value)
