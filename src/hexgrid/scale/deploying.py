"""`hexgrid deploy`: a config file of Ray Serve, checked here and handed to a cluster, until it serves.

The file is that of `serve deploy`; what is more is that its settings are checked before anything is sent, and
that the end is awaited and told.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import yaml
from pydantic import ValidationError
from ray.dashboard.modules.serve.sdk import ServeSubmissionClient
from ray.exceptions import RayError
from ray.serve.schema import ServeDeploySchema

from hexgrid.errors import ConfigError, RemoteError, UnreachableError
from hexgrid.scale.config import parse

IMPORT_PATH = "hexgrid.scale:app"
_ASK_SECONDS = 0.5
_FAILED = {"DEPLOY_FAILED", "UNHEALTHY"}


def read(path: Path) -> dict[str, Any]:
    """The file, of Ray Serve's form, with the args of our applications checked.

    Raises:
        ConfigError: it cannot be read, is not of that form, or has no application of ours.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"--ray {path} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(
            f"--ray {path} must hold a config of Ray Serve, got {type(document).__name__}"
        )
    try:
        schema = ServeDeploySchema.model_validate(document)
    except ValidationError as error:
        raise ConfigError(f"--ray {path} is no config of Ray Serve: {error}") from error
    ours = [each for each in schema.applications if each.import_path == IMPORT_PATH]
    if not ours:
        raise ConfigError(f"--ray {path} has no application with import_path: {IMPORT_PATH}")
    for application in ours:
        parse(application.args)
    return document


def deploy(
    config: dict[str, Any], address: str, *, seconds: float, report: Callable[[str], None]
) -> None:
    """Hand `config` to the cluster whose dashboard is at `address`, and return when all of it serves.

    Raises:
        RemoteError: the cluster refuses it, an application fails, or it takes longer than `seconds`.
        UnreachableError: no dashboard answers there, or none any more.
    """
    names = [each.name for each in ServeDeploySchema.model_validate(config).applications]
    with _asking(address, "refuses the config"):
        client = ServeSubmissionClient(address)
        before = _deployed_times(client)
        client.deploy_applications(config)
    deadline, told = monotonic() + seconds, ""
    while True:
        with _asking(address, "has taken the config but does not tell how far it is"):
            applications = _applications(client)
        fresh = {
            name: applications[name]
            for name in names
            if name in applications
            and applications[name]["last_deployed_time_s"] != before.get(name)
        }
        states = {name: fresh[name]["status"] if name in fresh else "WAITING" for name in names}
        state = ", ".join(f"{name}: {status}" for name, status in states.items())
        if state != told:
            report(state)
            told = state
        for name, status in states.items():
            if status in _FAILED:
                raise RemoteError(f"{name} is {status}: {_reason(fresh[name])}")
        if all(status == "RUNNING" for status in states.values()):
            return
        left = deadline - monotonic()
        if left <= 0:
            raise RemoteError(
                f"Not everything serves after {seconds:g} seconds ({state}). It goes on being deployed; "
                "`serve status` tells how far it is"
            )
        # Ray's API has nothing to wait for: it is asked again, and a last time at the deadline.
        sleep(min(_ASK_SECONDS, left))


@contextmanager
def _asking(address: str, otherwise: str) -> Iterator[None]:
    """Errors of Ray's client as ours: no dashboard answers, or what the cluster does otherwise."""
    try:
        yield
    except (ConnectionError, OSError) as error:
        raise UnreachableError(f"No dashboard of Ray answers at {address}: {error}") from error
    except (RayError, RuntimeError, ValueError) as error:
        raise RemoteError(f"The cluster at {address} {otherwise}: {error}") from error


def _applications(client: ServeSubmissionClient) -> dict[str, Any]:
    applications: dict[str, Any] = client.get_serve_details().get("applications", {})
    return applications


def _deployed_times(client: ServeSubmissionClient) -> dict[str, float]:
    return {name: each["last_deployed_time_s"] for name, each in _applications(client).items()}


def _reason(application: dict[str, Any]) -> str:
    messages = [application.get("message", "")]
    messages += [each.get("message", "") for each in application.get("deployments", {}).values()]
    return " ".join(filter(None, messages)) or "see the cluster's logs"
