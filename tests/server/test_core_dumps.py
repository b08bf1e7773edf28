"""Core dumps: a crash of the server leaves none, unless the operator wants one."""

import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.hexgrid_process import serve

_CRASH = "import os, signal; {}; os.kill(os.getpid(), signal.SIGSEGV)"
_REFUSE = "from hexgrid.server.core_dumps import refuse_core_dumps; refuse_core_dumps()"


@pytest.fixture(autouse=True)
def _with_core_dumps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Processes started here may write core dumps, into a directory that is thrown away."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if hard == 0:
        pytest.skip("this machine lets no process write a core dump")
    monkeypatch.chdir(tmp_path)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def crashing(before: str) -> int:
    """The id of a process that does `before` and crashes."""
    command = [sys.executable, "-c", _CRASH.format(before)]
    return os.posix_spawn(sys.executable, command, os.environ)


def leaves_core(pid: int) -> bool:
    """Whether the kernel wrote a core, into a file or a program's pipe, when this child crashed."""
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGSEGV
    return os.WCOREDUMP(status)


@pytest.mark.parametrize(("refuse", "expected"), [("pass", True), (_REFUSE, False)])
def test_a_process_that_refuses_them_leaves_none(refuse: str, *, expected: bool) -> None:
    assert leaves_core(crashing(refuse)) is expected


def test_a_core_is_refused_also_where_a_program_would_get_it() -> None:
    """There the limit of its size does not count: without it, the kernel still writes none."""
    if sys.platform != "linux":
        pytest.skip("other systems have no such programs")
    unlimited = f"import resource; resource.setrlimit = lambda *_: None; {_REFUSE}"
    assert not leaves_core(crashing(unlimited))


def test_a_server_that_crashes_leaves_no_core(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with serve(str(tiny_checkpoint)) as server:
        assert server.url
        server.process.send_signal(signal.SIGSEGV)

        assert not leaves_core(server.process.pid)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell of another process")
def test_an_operator_may_have_them(tiny_checkpoint: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    for flags, expected in (([], (0, 0)), (["--allow-core-dumps"], limits)):
        with serve(str(tiny_checkpoint), *flags) as server:
            assert server.url
            assert resource.prlimit(server.process.pid, resource.RLIMIT_CORE) == expected
