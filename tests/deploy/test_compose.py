"""The compose file: well formed, hardened as the docs say, and made of settings that exist."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.files import (
    DOCKER,
    ROOT,
    SECRET,
    config,
    image_environment,
    instructions,
    outlasts_the_drain,
)


@pytest.fixture(scope="module")
def service() -> dict[str, Any]:
    """The one service of the compose file."""
    (found,) = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"].values()
    assert isinstance(found, dict)
    return found


def test_the_image_and_the_compose_file_ask_by_the_same_health_check(
    service: dict[str, Any],
) -> None:
    (check,) = instructions("HEALTHCHECK")

    assert json.loads(check.partition("CMD ")[2]) == service["healthcheck"]["test"][1:]
    (copied,) = [each for each in instructions("COPY") if "healthcheck.py" in each]
    assert copied.split()[-1] == service["healthcheck"]["test"][-1]


def test_the_compose_file_is_of_its_published_form() -> None:
    done = subprocess.run(
        [
            Path(sys.executable).with_name("check-jsonschema"),
            *("--builtin-schema", "vendor.compose-spec", DOCKER / "compose.yaml"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compose_service_is_hardened(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert not {"privileged", "cap_add", "user", "network_mode"} & service.keys()


def test_the_compose_service_takes_its_key_from_a_secret(service: dict[str, Any]) -> None:
    served = config(service["command"], image_environment() | service["environment"])
    (secret,) = service["secrets"]

    assert served.api_key_file == Path("/run/secrets") / secret
    assert not any(SECRET.search(name) for name in service["environment"])


def test_the_compose_file_builds_this_image_and_keeps_what_it_writes(
    service: dict[str, Any],
) -> None:
    build = service["build"]
    (volumes,) = instructions("VOLUME")

    assert (DOCKER / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()
    assert all(
        any(line.split()[-1].startswith(f"{name}") for line in instructions("ARG"))
        for name in build["args"]
    )
    assert {volume.partition(":")[2] for volume in service["volumes"]} == set(json.loads(volumes))


def test_docker_waits_longer_than_the_server_drains(service: dict[str, Any]) -> None:
    assert outlasts_the_drain(service["stop_grace_period"])
