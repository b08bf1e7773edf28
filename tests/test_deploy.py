"""The files in deploy/: well formed, hardened as the docs say, and made of settings that exist."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
import trustme
import yaml

from hexgrid.cli import main
from hexgrid.cli.serve import command as serve
from hexgrid.config import ServerConfig
from hexgrid.config.sources import load
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.server.tls import Certificates
from tests.server.certificates import Files, client_context
from tests.server.running import serving, serving_https, variant

ROOT = Path(__file__).parents[1]
UNIT = ROOT / "deploy/systemd/hexgrid.service"
DOCKER = ROOT / "deploy/docker"
SECRET = re.compile("KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)
# What systemd knows by these names, as of systemd.exec(5), systemd.service(5) and systemd.unit(5).
DIRECTIVES = {
    "Unit": "Description Documentation After Wants Requires StartLimitBurst StartLimitIntervalSec",
    "Service": """
        AmbientCapabilities CacheDirectory CacheDirectoryMode CapabilityBoundingSet DynamicUser Environment
        EnvironmentFile ExecStart KeyringMode LimitNOFILE LoadCredential LockPersonality
        MemoryDenyWriteExecute NoNewPrivileges NotifyAccess PrivateDevices PrivateTmp PrivateUsers
        ProtectClock ProtectControlGroups ProtectHome ProtectHostname ProtectKernelLogs
        ProtectKernelModules ProtectKernelTunables ProtectProc ProtectSystem RemoveIPC Restart
        RestartPreventExitStatus RestartSec RestrictAddressFamilies RestrictNamespaces RestrictRealtime
        RestrictSUIDSGID RuntimeDirectory StateDirectory StateDirectoryMode SystemCallArchitectures
        SystemCallErrorNumber SystemCallFilter TimeoutStartSec TimeoutStopSec Type UMask
    """,
    "Install": "WantedBy",
}
HARDENING = {
    "CapabilityBoundingSet": "",
    "DynamicUser": "yes",
    "LockPersonality": "yes",
    "NoNewPrivileges": "yes",
    "PrivateDevices": "yes",
    "PrivateTmp": "yes",
    "ProtectHome": "yes",
    "ProtectSystem": "strict",
    "RestrictNamespaces": "yes",
    "RestrictSUIDSGID": "yes",
    "SystemCallArchitectures": "native",
    "UMask": "0077",
}
INSTRUCTIONS = "ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK RUN USER VOLUME WORKDIR".split()


class Line(NamedTuple):
    """A directive with its section, or an instruction of a Dockerfile with its stage."""

    where: str
    name: str
    value: str


def unit_lines() -> list[Line]:
    section, found = "", []
    for line in UNIT.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            assert equals, line
            found.append(Line(section, name, value))
    return found


def unit(name: str) -> list[str]:
    """The values of one directive."""
    return [line.value for line in unit_lines() if line.name == name]


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


@pytest.fixture(scope="module")
def service() -> dict[str, Any]:
    """The one service of the compose file."""
    (found,) = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"].values()
    assert isinstance(found, dict)
    return found


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


def test_every_directive_of_the_unit_is_one_of_systemd() -> None:
    unknown = [
        line for line in unit_lines() if line.name not in DIRECTIVES.get(line.where, "").split()
    ]

    assert unknown == []


def test_the_unit_is_hardened() -> None:
    assert {name: unit(name)[-1] for name in HARDENING} == HARDENING


def test_the_unit_starts_the_server_with_settings_that_exist() -> None:
    (start,) = unit("ExecStart")
    program, *arguments = shlex.split(start)
    environ = dict(line.split("=", 1) for line in unit("Environment"))

    assert Path(program).name == "hexgrid"
    assert config(arguments, environ).usage_dir == Path("%S/hexgrid/usage")


def test_the_unit_holds_no_secret() -> None:
    assert not any(SECRET.search(line) for line in unit("Environment"))
    assert unit("EnvironmentFile") == ["/etc/hexgrid/hexgrid.env"]


def test_systemd_waits_longer_than_the_server_drains() -> None:
    (stop,) = unit("TimeoutStopSec")

    assert outlasts_the_drain(stop)


def test_a_wrong_setting_is_not_tried_again() -> None:
    assert unit("Restart") == ["on-failure"]
    assert unit("RestartPreventExitStatus") == ["2"]


@pytest.fixture
def runnable_unit(tmp_path: Path) -> Path:
    """The unit with a program that is there, where this machine can look at units."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("there is no systemd-analyze here")
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/hexgrid/bin/hexgrid", sys.executable))
    return copy


def test_systemd_takes_the_unit_as_it_is(runnable_unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", runnable_unit],
        capture_output=True,
        text=True,
        check=False,
    )

    assert runnable_unit.name not in done.stderr
    assert done.returncode == 0


def test_systemd_finds_little_that_the_service_may_do(runnable_unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=20", runnable_unit],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout


def test_every_instruction_of_the_dockerfile_is_one() -> None:
    assert [line for line in dockerfile() if line.name not in INSTRUCTIONS] == []


def test_the_image_has_two_stages_and_only_the_last_one_serves() -> None:
    stages = instructions("FROM")

    assert len(stages) == 2
    assert all(re.match(r"python:\$\{PYTHON_VERSION\}-slim\b", stage) for stage in stages)
    (copied,) = [each for each in instructions("COPY") if each.startswith("--from=")]
    assert copied == "--from=build /opt/hexgrid /opt/hexgrid"


def test_the_image_runs_as_a_user_of_no_rights_by_number() -> None:
    (user,) = instructions("USER")

    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    assert f"--uid {user.split(':')[0]}" in " ".join(instructions("RUN"))


def test_the_image_gets_signals_itself_and_serves_with_settings_that_exist() -> None:
    (entry,), (arguments,) = instructions("ENTRYPOINT"), instructions("CMD")
    served = config(json.loads(arguments), image_environment())

    assert json.loads(entry) == ["/opt/hexgrid/bin/hexgrid"]
    assert (served.host, served.port) == ("0.0.0.0", int(*instructions("EXPOSE")))


def test_no_secret_is_in_a_layer() -> None:
    named = [line for line in dockerfile() if line.name in {"ARG", "ENV"}]

    assert not any(SECRET.search(line.value) for line in named)


def test_all_that_is_copied_is_there_and_nothing_else_is_sent() -> None:
    everything, *lines = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    sent = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        source
        for line in instructions("COPY")
        if not line.startswith("--from=")
        for source in line.split()[:-1]
    }

    assert everything == "*"
    assert sent == copied
    assert all((ROOT / source).exists() for source in sent - {"src"})  # tests of a wheel lack it


@pytest.mark.parametrize("script", instructions("RUN"))
def test_every_step_is_a_shell_script(script: str) -> None:
    subprocess.run(["sh", "-n", "-c", script], check=True)


@pytest.mark.parametrize(
    ("index", "options"),
    [("", ""), ("https://torch.example/cpu", "--index-url https://torch.example/cpu ")],
)
def test_torch_comes_from_the_index_that_is_named(index: str, options: str) -> None:
    """The image's step, but that pip only says what it was told."""
    (script,) = [each for each in instructions("RUN") if "TORCH_INDEX" in each]
    done = subprocess.run(
        ["sh", "-c", script.replace("/opt/hexgrid/bin/pip", "echo")],
        env={"TORCH_INDEX": index},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == f"install {options}--constraint constraints.txt torch\n"


def is_healthy(port: int, **variables: str) -> bool:
    """What the image's health check says of a server."""
    done = subprocess.run(
        [sys.executable, DOCKER / "healthcheck.py"],
        env=os.environ
        | {"HEXGRID_PORT": str(port), "http_proxy": "http://127.0.0.1:1"}
        | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert done.returncode in (0, 1)
    return done.returncode == 0


def test_the_health_check_follows_the_server(tiny_model: ServedModel) -> None:
    metrics = Metrics()
    model = variant(tiny_model, metrics, "tiny")
    with serving([model], metrics) as client:
        port = client.base_url.port
        assert port is not None
        assert is_healthy(port)
        model.engine.close()
        assert not is_healthy(port)
    assert not is_healthy(port)


def test_the_health_check_works_with_tls(tiny_model: ServedModel, tmp_path: Path) -> None:
    metrics, authority, files = Metrics(), trustme.CA(), Files(tmp_path)
    files.write(authority)
    certificates = Certificates(ServerConfig(ssl_certfile=files.cert, ssl_keyfile=files.key))
    model = variant(tiny_model, metrics, "tiny")
    with serving_https(model, metrics, certificates, client_context(authority)) as client:
        port = client.base_url.port
        assert port is not None
        assert is_healthy(port, HEXGRID_SSL_CERTFILE=str(files.cert))
        assert not is_healthy(port)
    certificates.close()


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


@pytest.mark.parametrize("page", ["docs/operate.md"])
def test_the_docs_name_settings_that_exist(page: str) -> None:
    from hexgrid.config import all_settings

    text = (ROOT / page).read_text()
    known = {setting.variable for setting in all_settings()}
    flags = {setting.flag for setting in all_settings()}

    assert set(re.findall(r"HEXGRID_[A-Z_]+", text)) <= known
    for line in re.findall(r"^\$ hexgrid serve (.*)$", text, re.MULTILINE):
        assert set(re.findall(r"--[a-z-]+", line)) <= flags
