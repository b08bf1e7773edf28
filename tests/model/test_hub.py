"""MODEL arguments: directories, hub ids and what the hub may answer. The hub is a small one on loopback."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hexgrid import nano
from hexgrid.errors import CheckpointError
from hexgrid.model.checkpoint import open_checkpoint
from hexgrid.model.hub import resolve

COMMIT = "c0ffee" + "0" * 34
FILES = {
    "config.json": b"{}",
    "1_Pooling/config.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"pickle",
    "modeling_custom.py": b"code",
    "README.md": b"text",
}
OUTLINE = {"config.json", "1_Pooling/config.json", "chat_template.jinja"}

REFUSALS = {
    "/api/models/acme/gated/revision/main": (401, "GatedRepo"),
    "/api/models/acme/unknown/revision/main": (401, "RepoNotFound"),
    "/api/models/acme/open/revision/dev": (404, "RevisionNotFound"),
    "/api/models/acme/broken/revision/main": (500, "ServerError"),
}
LISTINGS = {
    "/api/models/acme/open/revision/main": {
        "id": "acme/open",
        "sha": COMMIT,
        "siblings": [{"rfilename": name} for name in FILES],
    },
    f"/api/models/acme/open/tree/{COMMIT}": [
        {"type": "file", "path": name, "size": len(content), "oid": name}
        for name, content in FILES.items()
    ],
}


class _Hub(BaseHTTPRequestHandler):
    """acme/open can be downloaded; each other repository is refused in its own way."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        file = FILES.get(path.removeprefix(f"/acme/open/resolve/{COMMIT}/"))
        if path in LISTINGS:
            self._answer(200, json.dumps(LISTINGS[path]).encode(), {})
        elif file is not None:
            self._answer(200, file, {"x-repo-commit": COMMIT, "etag": f'"{len(file)}"'})
        else:
            status, code = REFUSALS.get(path, (404, "EntryNotFound"))
            self._answer(status, b"", {"x-error-code": code})

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


ASK = """
import json, sys
from pathlib import Path
from hexgrid.errors import CheckpointError
from hexgrid.model.hub import OUTLINE_FILES, resolve
answers = {}
for model, revision in json.loads(sys.argv[1]):
    try:
        found = resolve(model, revision=revision, download_dir=Path(sys.argv[2]))
        answers[f"{model}@{revision}"] = str(found)
    except CheckpointError as error:
        answers[f"{model}@{revision}"] = str(error)
outline = resolve("acme/open", download_dir=Path(sys.argv[3]), files=OUTLINE_FILES)
print(json.dumps(answers | {"outline": str(outline)}))
"""


def files_in(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*.*")}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What `resolve` said of each "model@revision", in a process that is online with our hub."""
    models = [("gated", "main"), ("unknown", "main"), ("open", "dev"), ("broken", "main")]
    asked = [(f"acme/{name}", revision) for name, revision in [*models, ("open", "main")]]
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as hub:
        threading.Thread(target=hub.serve_forever).start()
        cache = tmp_path_factory.mktemp("hub")
        environ = {
            **os.environ,
            "HF_HUB_OFFLINE": "0",
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
            "HF_HOME": str(cache / "home"),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }
        done = subprocess.run(
            [
                *(sys.executable, "-c", ASK, json.dumps(asked)),
                *(cache / "download", cache / "outline"),
            ],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        hub.shutdown()
    assert done.returncode == 0, done.stderr
    told: dict[str, str] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            "acme/gated@main",
            "acme/gated is gated on the hub: accept its terms there and set HF_TOKEN",
        ),
        ("acme/unknown@main", "acme/unknown is no directory here and no public repository"),
        ("acme/open@dev", "acme/open has no revision 'dev' on the hub"),
        (
            "acme/broken@main",
            "acme/broken is not in the local hub cache and the hub cannot be reached",
        ),
    ],
)
def test_what_the_hub_refuses_is_explained(
    answers: dict[str, str], asked: str, message: str
) -> None:
    assert answers[asked].startswith(message)


def test_a_download_takes_weights_json_and_template_but_neither_pickles_nor_code(
    answers: dict[str, str],
) -> None:
    directory = Path(answers["acme/open@main"])

    assert files_in(directory) == {*OUTLINE, "model.safetensors"}
    assert directory.name == COMMIT


def test_a_download_of_the_outline_leaves_the_weights(answers: dict[str, str]) -> None:
    assert files_in(Path(answers["outline"])) == OUTLINE


def test_a_directory_is_itself(tmp_path: Path) -> None:
    assert resolve(str(tmp_path)) == tmp_path


def test_a_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()

    assert resolve("~/model") == tmp_path / "model"


def test_the_embedded_model_needs_no_download() -> None:
    assert resolve(nano.NAME) == nano.DIRECTORY
    assert open_checkpoint(nano.DIRECTORY).tensors


def test_what_needs_no_download_does_not_load_the_hubs_client() -> None:
    code = f"""
import sys
from hexgrid.model.hub import resolve
resolve({nano.NAME!r})
print("huggingface_hub" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"


@pytest.mark.parametrize("model", ["/no/such", "no-such", "a/b/c", "../a", "a/b c", "-a/b"])
def test_what_is_neither_directory_nor_hub_id_is_refused(model: str) -> None:
    with pytest.raises(CheckpointError, match="neither a directory nor a hub id"):
        resolve(model)


def test_offline_a_model_that_is_not_cached_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="acme/new is not in the local hub cache"):
        resolve("acme/new", download_dir=tmp_path)


def test_offline_a_cached_model_is_found(tmp_path: Path) -> None:
    repository = tmp_path / "models--acme--old"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(COMMIT)

    assert resolve("acme/old", download_dir=tmp_path) == snapshot
