"""A server that is started with ours: waited for, kept from others, and gone when ours is gone."""

import signal
import sys
from pathlib import Path

import psutil
import pytest

from hexgrid.config import UpstreamConfig
from hexgrid.errors import ConfigError
from hexgrid.upstream.child import parse_command
from tests.cli.hexgrid_process import DEADLINE, Serving, serve
from tests.server.running import TEXT, embed, vectors
from tests.upstream import stand_in

KEY = "sekret-of-the-child"
COMMAND = f"{sys.executable} {stand_in.__file__} serve"
LINE = r"hexgrid\.vllm: pid=(\d+) ours=(.*)"


def ended(pid: int) -> bool:
    """Whether the process is gone, at the latest in a while."""
    try:
        process = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return True
    gone, _ = psutil.wait_procs([process], DEADLINE)
    return bool(gone)


def arguments(checkpoint: Path, command: str = COMMAND) -> list[str]:
    return [f"n={checkpoint}", "--engine", "vllm", "--vllm-command", command]


def pid_in(served: Serving) -> int:
    return int(served.wait_for(LINE)[1])


def test_it_is_started_waited_for_and_ended_with_us(tiny_checkpoint: Path) -> None:
    variables = {"HEXGRID_UPSTREAM_API_KEY": KEY, "HEXGRID_LOG_LEVEL": "info"}
    with serve(*arguments(tiny_checkpoint), **variables) as served, served.client() as client:
        assert vectors(embed(client, TEXT, dimensions=10)).shape == (1, 10)
        line = served.wait_for(LINE)
        assert line[2] == "[]"  # none of our variables, whose keys are not for it
        socket = Path(served.wait_for(r"unix:(/\S+/socket)")[1])
        assert socket.parent.stat().st_mode & 0o777 == 0o700
        family = [served.process.pid, *_children(served.process.pid)]
        shown = [" ".join(psutil.Process(pid).cmdline()) for pid in family]
        assert len(shown) >= 3
        assert not any(KEY in each for each in shown)

        assert served.stop() == 0

        assert ended(int(line[1]))
        assert not socket.parent.exists()
    assert KEY not in served.stderr


def test_when_it_dies_we_end_to_be_started_again(tiny_checkpoint: Path) -> None:
    with serve(*arguments(tiny_checkpoint)) as served:
        served.wait_for(r"(?m)^Listening on")

        psutil.Process(pid_in(served)).send_signal(signal.SIGKILL)

        assert served.end() == 75, served.stderr
    assert "vLLM has ended with code 137" in served.stderr


def test_when_we_are_killed_it_ends(tiny_checkpoint: Path) -> None:
    with serve(*arguments(tiny_checkpoint)) as served:
        pid = pid_in(served)

        served.process.kill()

        assert ended(pid)


def test_one_that_fails_at_its_start_is_told_with_its_words(tiny_checkpoint: Path) -> None:
    with serve(*arguments(tiny_checkpoint, f"{COMMAND} --fail")) as served:
        assert served.end() == 1

    assert "no room on the device" in served.stderr
    assert "hexgrid: vLLM has ended with code 1" in served.stderr


def test_model_name_and_length_are_added_to_the_operators_words() -> None:
    words = parse_command(f"{sys.executable} -m x serve --dtype 'a b'", Path("/m"), "n", 100)

    assert words == [
        *(sys.executable, "-m", "x", "serve", "/m", "--dtype", "a b"),
        *("--max-model-len", "100", "--runner", "pooling", "--served-model-name", "n"),
    ]


def test_a_length_of_the_operators_own_stays() -> None:
    words = parse_command(f"{sys.executable} serve --max-model-len=50", Path("/m"), "n", 100)

    assert words.count("--max-model-len") == 0


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "is empty"),
        ("vllm serve 'x", "cannot be read"),
        ("no-such-program serve", "there is no program 'no-such-program'"),
        (sys.executable, "has no word `serve`"),
        (f"{sys.executable} serve --api-key k1", "holds a key"),
        (f"{sys.executable} serve --api-key=k1", "holds a key"),
        (f"{sys.executable} serve --port 8000", "--port is said by hexgrid itself"),
        (f"{sys.executable} serve --uds=/x", "--uds is said by hexgrid itself"),
    ],
)
def test_a_command_that_cannot_be_run_so_is_refused(command: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_command(command, Path("/m"), "n", 100)
    assert "k1" not in caught.value.message


def test_a_server_that_runs_and_a_command_are_not_both_given() -> None:
    with pytest.raises(ConfigError, match="two ways to have a vLLM"):
        UpstreamConfig(engine="vllm", upstream=("http://h",), vllm_command="vllm serve")


def _children(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]
