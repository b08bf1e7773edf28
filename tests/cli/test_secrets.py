"""Every secret that a server is given, wherever it might be shown: process list, log, answers."""

import ssl
from pathlib import Path

import httpx2
import psutil
import pytest
import trustme

from hexgrid.server.key_store import KeyStore, Limits
from tests.cli.hexgrid_process import Serving, hexgrid, serve
from tests.server.certificates import PASSWORD, Files
from tests.server.test_body import BAD_BODIES

FLAG, VARIABLE, IN_FILE = "flag-key-31337", "variable-key-31337", "file-key-31337"
HUB_TOKEN = "hf_" + "Token31337" * 3
CLIENTS = "sk-a-key-of-somewhere-else-31337"


def ask(server: Serving, authority: Path, keys: list[str]) -> list[httpx2.Response]:
    """What is answered to each key, and with it to requests that are right, wrong and not allowed."""
    answers = []
    trusted = ssl.create_default_context(cafile=str(authority))
    with httpx2.Client(base_url=server.url, verify=trusted, trust_env=False, timeout=60) as client:
        for key in keys:
            headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
            answers += [
                client.get("/metrics", headers=headers),
                client.get("/nope", headers=headers),
                client.get("/version", headers={"authorization": f"Basic {key}", "x-api-key": key}),
                client.delete("/v1/models", headers=headers),
                client.post("/v1/embeddings", headers=headers, json={"input": "a", "model": "x"}),
                *(
                    client.post("/v1/embeddings", headers=headers, content=body)
                    for body in (b'{"input":"a"}', *(body for body, *_ in BAD_BODIES[:20]))
                ),
            ]
    return answers


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_no_secret_is_in_the_process_list_the_log_or_an_answer(
    tiny_checkpoint: Path, tmp_path: Path, log_format: str
) -> None:
    """At the debug level, which says all that others say and more."""
    files = Files(tmp_path / "certificate")
    files.write(trustme.CA())
    files.encrypt_key()
    store = KeyStore(tmp_path / "keys.sqlite3")
    stored, ended = store.create("one", Limits()), store.create("two", Limits(), lifetime=-1)
    (tmp_path / "keys").write_text(IN_FILE)
    clients = [FLAG, IN_FILE, stored, ended, CLIENTS, f"{FLAG}x"]
    with serve(
        *(str(tiny_checkpoint), "--log-level", "debug", "--log-format", log_format),
        *("--api-key", FLAG, "--api-key-file", str(tmp_path / "keys")),
        *("--key-store", str(store.file), "--usage-dir", str(tmp_path / "usage")),
        *("--ssl-certfile", str(files.cert), "--ssl-keyfile", str(files.key)),
        *("--ssl-keyfile-password", PASSWORD),
        HF_TOKEN=HUB_TOKEN,
    ) as server:
        answers = ask(server, files.ca, clients)
        shown = " ".join(psutil.Process(server.process.pid).cmdline())
        server.stop()

    assert {answer.status_code for answer in answers} == {200, 400, 401, 404, 405}
    told = "".join(answer.text + str(answer.headers) for answer in answers)
    said = server.stdout + server.stderr
    assert "/v1/embeddings" in said
    for secret in (*clients, stored.rpartition("_")[2], HUB_TOKEN, PASSWORD):
        for where, text in (("process list", shown), ("log", said), ("answers", told)):
            assert secret not in text, (secret, where)


def test_a_key_from_the_environment_is_in_neither(tiny_checkpoint: Path) -> None:
    with serve(str(tiny_checkpoint), "--log-level", "debug", HEXGRID_API_KEY=VARIABLE) as server:
        with server.client(key=VARIABLE) as client:
            answers = [client.get("/version"), client.get("/nope")]
        shown = " ".join(psutil.Process(server.process.pid).cmdline())
        server.stop()

    assert [answer.status_code for answer in answers] == [200, 404]
    told = "".join(answer.text + str(answer.headers) for answer in answers)
    assert VARIABLE not in shown + server.stdout + server.stderr + told


def test_a_download_that_fails_tells_no_token() -> None:
    done = hexgrid(
        *("serve", "some/model", "--port", "0", "--log-level", "debug"),
        HF_TOKEN=HUB_TOKEN,
        HF_ENDPOINT="http://127.0.0.1:1",
    )

    assert done.returncode != 0
    assert "some/model" in done.stderr
    assert HUB_TOKEN not in done.stdout + done.stderr
