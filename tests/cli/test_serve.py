"""hexgrid serve as operators meet it: what it says at the start, and keeps to itself."""

import json
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest
import trustme

from hexgrid.cli.serve import _how_to_ask
from hexgrid.config import ServerConfig
from tests.cli.hexgrid_process import DEADLINE, Serving, run_curl_line, serve
from tests.server.certificates import PASSWORD, Files

KEY = "sekret-in-argv"
TEXT = "a text that is nobody else's business"


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
