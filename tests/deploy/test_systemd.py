"""The unit of systemd: well formed, hardened as the docs say, and made of settings that exist."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy.files import ROOT, SECRET, Line, config, outlasts_the_drain

UNIT = ROOT / "deploy/systemd/hexgrid.service"
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
