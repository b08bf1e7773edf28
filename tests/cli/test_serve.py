"""hexgrid serve as operators meet it: what it says at the start, keeps to itself, and refuses."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest
import trustme
from safetensors.torch import load_file, save_file

from hexgrid.cli.serve import _how_to_ask
from hexgrid.config import ServerConfig
from tests.cli.hexgrid_process import DEADLINE, Serving, environment, hexgrid, serve
from tests.server.certificates import PASSWORD, Files
from tests.server.running import vectors

KEY = "sekret-in-argv"
TEXT = "a text that is nobody else's business"
DOCUMENTS = [
    "The capital of China is Beijing.",
    (
        "Gravity is a force that attracts two bodies toward each other. It gives weight to physical "
        "objects and is responsible for the movement of planets around the sun."
    ),
]


@pytest.fixture(scope="module")
def server(tiny_checkpoint: Path) -> Iterator[Serving]:
    """One that was told something by flags, something by variables, and one thing by both."""
    with serve(
        *(str(tiny_checkpoint), "--served-model-name", "first", "--served-model-name", "second"),
        *("--api-key", KEY, "--log-level", "debug", "--dtype", "float32", "--max-model-len", "512"),
        HEXGRID_MAX_MODEL_LEN="100",
        HEXGRID_MAX_NUM_BATCHED_TOKENS="256",
        HEXGRID_MAX_BODY_BYTES="1000",
        HEXGRID_PUBLIC_METRICS="true",
    ) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Serving) -> Iterator[httpx2.Client]:
    """Its client, with the key; the server is ready."""
    with server.client(key=KEY) as client:
        assert client.get("/ready").status_code == 200
        yield client


def run_curl_line(server: Serving, *options: str, **variables: str) -> str:
    """What bash prints of the command that the server proposes, with more options of curl's."""
    line = server.wait_for(r"(?m)^ +(curl .*)$")[1]
    done = subprocess.run(
        ["bash", "-c", " ".join((line, "--silent", "--show-error", *options))],
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    return done.stdout


def test_it_says_what_it_serves_and_how(server: Serving) -> None:
    line = server.wait_for(r"(?m)^Serving .*$")[0]

    assert line.startswith("Serving first = second: cpu float32, 64 dimensions, up to 512 tokens")
    assert "256 tokens a batch" in line
    assert re.search(
        r"memory: weights 0\.02 GB, .* GB for a full batch, .* GB for the longest", line
    )


def test_it_says_where_it_listens_and_that_a_key_is_needed(
    server: Serving, client: httpx2.Client
) -> None:
    assert f"Listening on {server.url} (a key is required)" in server.stderr


def test_it_says_where_the_console_is_and_there_it_is(server: Serving) -> None:
    where = server.wait_for(r"(?m)^or open (\S+) in a browser\.$")[1]

    page = httpx2.get(where, trust_env=False)
    assert (page.status_code, "<title>hexgrid console</title>" in page.text) == (200, True)


@pytest.mark.parametrize(
    "config", [ServerConfig(no_console=True), ServerConfig(uds=Path("hexgrid.sock"))]
)
def test_it_speaks_of_no_console_where_no_browser_finds_one(config: ServerConfig) -> None:
    assert "browser" not in _how_to_ask(config, "http://127.0.0.1:8000", "m")


def test_a_client_may_come_as_soon_as_it_is_told_where(tiny_checkpoint: Path) -> None:
    with serve(str(tiny_checkpoint)) as server:
        port = int(server.url.rpartition(":")[2])

        socket.create_connection(("127.0.0.1", port), DEADLINE).close()


def test_the_proposed_curl_line_works(server: Serving) -> None:
    body = json.loads(run_curl_line(server, HEXGRID_API_KEY=KEY))

    assert body["model"] == "first"
    assert len(body["data"][0]["embedding"]) == 64


def test_variables_act_and_flags_beat_them(client: httpx2.Client) -> None:
    cards = client.get("/v1/models").json()["data"]
    body = {"input": "a" * 1000}

    assert [(card["id"], card["max_model_len"]) for card in cards] == [
        ("first", 512),
        ("second", 512),
    ]
    assert client.post("/v1/embeddings", json=body).status_code == 413
    assert client.get("/metrics", headers={"authorization": ""}).status_code == 200


def test_the_process_list_does_not_show_the_key(server: Serving, client: httpx2.Client) -> None:
    shown = " ".join(psutil.Process(server.process.pid).cmdline())

    assert KEY not in shown
    assert "hexgrid serve" in shown
    assert "--api-key ***" in shown


def test_neither_keys_nor_texts_are_logged_even_at_debug_level(tiny_checkpoint: Path) -> None:
    with serve(str(tiny_checkpoint), "--log-level", "debug", HEXGRID_API_KEY=KEY) as server:
        with server.client(key=KEY) as client:
            for body in ({"input": TEXT}, {"input": TEXT, "dimensions": 0}, {"input": {TEXT: 1}}):
                client.post("/v1/embeddings", json=body)
            client.get("/version", headers={"authorization": f"Bearer {KEY}x"})
        server.stop()

    said = server.stdout + server.stderr
    assert "POST /v1/embeddings" in said
    assert KEY not in said
    assert TEXT not in said


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A certificate for this machine; its key has a password."""
    files = Files(tmp_path / "certificate")
    files.write(trustme.CA())
    files.encrypt_key()
    return files


def test_over_tls_the_proposed_curl_line_works_and_the_password_is_hidden(
    tiny_checkpoint: Path, files: Files
) -> None:
    arguments = ("--ssl-certfile", str(files.cert), "--ssl-keyfile", str(files.key))
    with serve(str(tiny_checkpoint), *arguments, "--ssl-keyfile-password", PASSWORD) as server:
        assert server.url.startswith("https://127.0.0.1:")
        assert json.loads(run_curl_line(server, "--cacert", str(files.ca)))["data"]
        shown = " ".join(psutil.Process(server.process.pid).cmdline())
        server.stop()

    assert "--ssl-keyfile-password ***" in shown
    assert PASSWORD not in shown + server.stdout + server.stderr


def test_clients_certificates_are_asked_for_and_the_hint_says_so(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    files = Files(tmp_path)
    files.write(trustme.CA())
    with serve(
        *(str(tiny_checkpoint), "--ssl-certfile", str(files.cert), "--ssl-keyfile", str(files.key)),
        *("--ssl-ca-certs", str(files.ca), "--ssl-cert-reqs", "required"),
    ) as server:
        line = server.wait_for(r"(?m)^ +(curl .*)$")[1]
        assert "--cert CERTIFICATE --key KEY" in line
        # The last of several counts.
        own = ("--cert", str(files.cert), "--key", str(files.key), "--cacert", str(files.ca))

        assert json.loads(run_curl_line(server, *own))["data"]


def test_through_a_unix_socket_the_proposed_curl_line_works_without_a_key(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    path = tmp_path / "the socket"
    with serve(str(tiny_checkpoint), "--uds", str(path)) as server:
        assert json.loads(run_curl_line(server))["data"]
        assert f"Listening on the unix socket {path} (no key is required)" in server.stderr


def test_a_prefix_for_a_proxy_changes_nothing_for_who_asks_directly(tiny_checkpoint: Path) -> None:
    with serve(str(tiny_checkpoint), "--root-path", "/gw") as server, server.client() as client:
        assert json.loads(run_curl_line(server))["data"]
        assert client.get("/gw/v1/models").status_code == 200


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "x-forwarded-proto"])
def test_what_a_proxy_says_of_its_client_is_not_believed(
    tiny_checkpoint: Path, header: str
) -> None:
    with serve(str(tiny_checkpoint), "--log-level", "debug") as server:
        with server.client() as client:
            client.get("/live", headers={header: "for=203.0.113.9;https, 203.0.113.9"})
        server.stop()

    assert "/live" in server.stderr + server.stdout
    assert "203.0.113.9" not in server.stderr + server.stdout


def test_in_json_every_line_of_the_log_is_an_object(tiny_checkpoint: Path) -> None:
    with serve(f"tiny={tiny_checkpoint}", "--log-format", "json") as server:
        with server.client() as client:
            assert client.post("/v1/embeddings", json={"input": TEXT}).status_code == 200
        assert server.stop() in (0, -signal.SIGTERM)

    lines = [json.loads(line) for line in server.stderr.splitlines()]
    messages = [line["message"] for line in lines]
    assert server.stdout == ""
    assert all(line.keys() >= {"time", "level", "logger", "message"} for line in lines)
    for beginning in ("Loading tiny", "Serving tiny", "Listening on", "POST /v1/embeddings 200"):
        assert sum(message.startswith(beginning) for message in messages) == 1
    assert "uvicorn.error" in {line["logger"] for line in lines}
    assert TEXT not in server.stderr


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


@pytest.fixture(scope="module")
def nano() -> Iterator[Serving]:
    """One that was told nothing."""
    with serve() as server:
        yield server


def test_without_a_model_the_embedded_one_is_served(nano: Serving) -> None:
    assert "(no key is required)" in nano.wait_for("Listening.*")[0]
    body = json.loads(run_curl_line(nano))

    assert body["model"] == "hexgrid/nano"
    assert len(body["data"][0]["embedding"]) == 256


@pytest.mark.parametrize("dimensions", [None, 64])
@pytest.mark.parametrize("query", ["query", "document"])
def test_without_a_model_a_question_finds_its_document(
    nano: Serving, query: str, dimensions: int | None
) -> None:
    """The API page's retrieval example, with and without the instruction."""
    options = {"dimensions": dimensions}
    bodies = (
        {"input": "Explain gravity", "input_type": query} | options,
        {"input": DOCUMENTS, "input_type": "document"} | options,
    )
    with nano.client() as client:
        asked, found = (vectors(client.post("/v1/embeddings", json=body)) for body in bodies)

    wrong, right = found @ asked[0]
    assert right > wrong + 0.2


def test_the_embedded_model_can_be_served_under_another_name() -> None:
    with serve("Qwen/Qwen3-Embedding-0.6B=hexgrid/nano") as server:
        assert json.loads(run_curl_line(server))["model"] == "Qwen/Qwen3-Embedding-0.6B"


def test_several_models_are_served_side_by_side(tiny_checkpoint: Path) -> None:
    models = [f"{name}={tiny_checkpoint}" for name in ("a", "b")]
    with serve(*models, HEXGRID_MODEL="ignored") as server, server.client() as client:
        found = [
            client.post("/v1/embeddings", json={"input": "x", "model": name}).json()["model"]
            for name in ("a", "b")
        ]

        assert found == ["a", "b"]
        assert server.stderr.count("Serving ") == 2


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
