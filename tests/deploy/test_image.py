"""The image and its health check: well formed, of no rights, and made of settings that exist."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

from hexgrid.config import ServerConfig
from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.server.tls import Certificates
from tests.deploy.files import (
    DOCKER,
    ROOT,
    SECRET,
    config,
    dockerfile,
    image_environment,
    instructions,
)
from tests.server.certificates import Files, client_context
from tests.server.running import serving, serving_https, variant

INSTRUCTIONS = "ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK RUN USER VOLUME WORKDIR".split()


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
