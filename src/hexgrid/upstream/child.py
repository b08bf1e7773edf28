"""A vLLM that is ours: started on a unix socket, its output in our log, ended with us."""

import asyncio
import logging
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path

from hexgrid.config.settings import ENV_PREFIX, Secret
from hexgrid.errors import ConfigError
from hexgrid.upstream import minder
from hexgrid.upstream.address import Address

_OURS = ("--uds", "--host", "--port", "--served-model-name", "--runner", "--api-key")
_SECONDS_TO_END = 15.0
_SHOWN_CHARS = 2000  # of a line that it says

# All that it says, at the level of ordinary messages: its own levels are in its words.
_logger = logging.getLogger("hexgrid.vllm")


def parse_command(text: str, model: Path, name: str, longest: int) -> list[str]:
    """The command's words, with what says that it serves `model` as `name`, and how long inputs are.

    Where it is to listen is said by `Child`.

    Raises:
        ConfigError: it cannot be read, or says itself what we say, or holds a key.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"--vllm-command cannot be read: {error}", param="vllm_command") from None
    if not words:
        raise ConfigError("--vllm-command is empty", param="vllm_command")
    if shutil.which(words[0]) is None:
        raise ConfigError(
            f"--vllm-command: there is no program {words[0]!r}. Install vLLM, or say where it is, or give "
            "the --upstream URL of one that runs",
            param="vllm_command",
        )
    if "serve" not in words:
        raise ConfigError(
            f"--vllm-command {text!r} has no word `serve`, behind which MODEL goes",
            param="vllm_command",
        )
    flags = {word.partition("=")[0] for word in words}
    if "--api-key" in flags:
        raise ConfigError(
            "--vllm-command holds a key, which other users of the machine can read. None is needed: only "
            "this server reaches it",
            param="vllm_command",
        )
    for flag in _OURS:
        if flag in flags:
            raise ConfigError(
                f"--vllm-command: {flag} is said by hexgrid itself; leave it out",
                param="vllm_command",
            )
    if "--max-model-len" not in flags:
        words += ["--max-model-len", str(longest)]
    # vLLM takes its model right behind the word, and nowhere else.
    behind = words.index("serve") + 1
    return [
        *words[:behind],
        str(model),
        *words[behind:],
        *("--runner", "pooling", "--served-model-name", name),
    ]


class Child:
    """The process, running; everything that it starts ends with it."""

    def __init__(self, command: list[str], environ: Mapping[str, str], key: Secret | None) -> None:
        """It is given none of our variables, whose keys are not for it; `key` by its own variable."""
        self._directory = Path(tempfile.mkdtemp(prefix="hexgrid-"))  # nobody else may enter
        socket = self._directory / "socket"
        self.address = Address("http://vllm", str(socket))
        variables = {k: v for k, v in environ.items() if not k.startswith(ENV_PREFIX)}
        if key is not None:
            variables["VLLM_API_KEY"] = key.value
        self._process = subprocess.Popen(  # noqa: S603 (what the operator says is to be run)
            [sys.executable, "-I", minder.__file__, *command, "--uds", str(socket)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=variables,
        )
        self._ended: Future[str] = Future()
        self._reader = threading.Thread(target=self._read, name="hexgrid-vllm", daemon=True)
        self._reader.start()
        threading.Thread(target=self._wait, name="hexgrid-vllm-end", daemon=True).start()

    async def ended(self) -> str:
        """See `fleet.Owned.ended`."""
        return await asyncio.shield(asyncio.wrap_future(self._ended))

    def close(self) -> None:
        """End it, and wait until it has."""
        assert self._process.stdin is not None
        self._process.stdin.close()  # the minder's sign
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reader.join(_SECONDS_TO_END)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in iter(lambda: lines.readline(_SHOWN_CHARS), b""):
                text = line.decode(errors="replace").rstrip()
                if text:
                    _logger.info("%s", text)

    def _wait(self) -> None:
        code = self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)
        self._ended.set_result(f"vLLM has ended with code {code}; its own lines in the log say why")
