"""Starts that hexgrid serve refuses, and how it says so."""

import json
import os
import shutil
import socket
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.cli.hexgrid_process import hexgrid


def test_what_stops_a_start_is_an_object_too() -> None:
    refused = hexgrid("serve", "--host", "0.0.0.0", "--port", "0", "--log-format", "json")
    missing = hexgrid("serve", "/no/such/model", "--port", "0", HEXGRID_LOG_FORMAT="json")

    assert (refused.returncode, missing.returncode) == (2, 1)
    assert "no API key is set" in json.loads(refused.stderr)["message"]
    assert "is neither a directory nor a hub id" in json.loads(missing.stderr)["message"]


def test_a_bug_at_the_start_is_an_object_too(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "uvicorn.py").write_text("raise ValueError('in\\ntwo lines')")

    done = hexgrid("serve", str(tiny_checkpoint), "--log-format", "json", **before(tmp_path))

    (line,) = map(json.loads, done.stderr.splitlines())
    assert (done.returncode, line["level"]) == (1, "critical")
    assert line["exception"].endswith("ValueError: in\ntwo lines")


def test_traces_without_opentelemetry_are_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "opentelemetry.py").write_text("raise ImportError")

    done = hexgrid(
        *("serve", "--port", "0", "--otlp-traces-endpoint", "http://127.0.0.1:4318/v1/traces"),
        **before(tmp_path),
    )

    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "pip install 'hexgrid[otel]'" in done.stderr


def before(directory: Path) -> dict[str, str]:
    """Variables by which modules in `directory` come before installed ones."""
    return {"PYTHONPATH": f"{directory}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


def test_other_machines_are_not_let_in_without_a_key() -> None:
    done = hexgrid("serve", "--host", "0.0.0.0", "--port", "0")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "--host 0.0.0.0 is reachable from other machines and no API key is set" in done.stderr


def test_a_taken_port_is_told_before_anything_is_loaded(tiny_checkpoint: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = hexgrid("serve", str(tiny_checkpoint), "--port", port)

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"Cannot listen on 127.0.0.1 port {port}" in done.stderr


def test_a_bad_checkpoint_is_told_by_its_tensor_before_the_port_opens(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "bad"
    shutil.copytree(tiny_checkpoint, directory)
    weights = load_file(directory / "model.safetensors")
    del weights["layers.1.self_attn.k_norm.weight"]
    save_file(weights, directory / "model.safetensors")

    done = hexgrid("serve", str(directory), "--port", "0")

    assert done.returncode == 1
    assert "layers.1.self_attn.k_norm.weight is missing" in done.stderr
    assert "Listening" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "variables", "message"),
    [
        (["--port", "-1"], {}, "--port must be at least 0, got -1"),
        ([], {"HEXGRID_PROT": "1"}, "HEXGRID_PROT names no setting; did you mean HEXGRID_PORT?"),
        ([], {"HEXGRID_PORT": "http"}, "HEXGRID_PORT must be a number, got 'http'"),
        (
            ["--port", "0", "a=hexgrid/nano", "a=hexgrid/nano"],
            {},
            "Two models are served under the name 'a'",
        ),
        (["--dtype", "auto"], {"HEXGRID_ALLOW_ANONYMOUS": "maybe"}, "must be true or false"),
        (["--ssl-certfile", "no.pem"], {}, "--ssl-certfile no.pem cannot be read: No such file"),
        (["--ssl-keyfile", "key.pem"], {}, "--ssl-keyfile goes with --ssl-certfile"),
        (["--cors-origin", "app.example"], {}, "--cors-origin must be scheme://host"),
        (["--root-path", "/v1"], {}, "--root-path /v1 is how /v1/embeddings begins"),
        (["--uds", "x.sock", "--port", "8000"], {}, "two places to listen; give one"),
        (["--uds", "/no/such/directory/x.sock"], {}, "Cannot listen on --uds /no/such"),
        (["--uds", "x.sock", "--uds-mode", "rw"], {}, "--uds-mode must be permissions"),
    ],
    ids=str,
)
def test_a_wrong_setting_is_one_line(
    arguments: list[str], variables: dict[str, str], message: str
) -> None:
    done = hexgrid("serve", *arguments, **variables)

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert message in done.stderr
