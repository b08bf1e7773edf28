"""Usage on a disk that is full, hangs, or cannot be used: nothing is lost, and nothing counted twice."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import pytest

from hexgrid.engine.served_model import ServedModel
from hexgrid.errors import UsageError
from hexgrid.metrics import Metrics
from hexgrid.server import usage as usage_module
from hexgrid.server.usage import FILE, UsageMeter, Used, read
from tests.server.running import DEADLINE, embed, serving, variant
from tests.server.usage.sums import journals, total


def test_a_line_that_was_cut_off_is_not_counted(directory: Path) -> None:
    UsageMeter(directory).close()
    left = directory / "journal-1-dead.jsonl"
    left.write_bytes(b'[0, "a", "m", 1, 1, 10]\n[0, "a", "m", 1, 1')

    assert total(read(directory)) == Used(1, 1, 10)
    UsageMeter(directory).close()
    assert total(read(directory)) == Used(1, 1, 10)
    assert not left.exists()


def test_what_a_full_disk_does_not_take_waits_in_few_lines(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    meter = UsageMeter(directory)
    write = usage_module._append

    def fail(*_: object) -> None:
        raise OSError("no space is left")

    monkeypatch.setattr(usage_module, "_append", fail)
    for _ in range(100):
        meter.record("a", "m", inputs=1, tokens=10)
    assert len(meter._waiting) <= 2
    assert len(caplog.records) == 1
    monkeypatch.setattr(usage_module, "_append", write)
    meter.record("a", "m", inputs=1, tokens=10)

    assert total(read(directory)) == Used(101, 101, 1_010)
    meter.close()


FULL_DISK = """
import resource, sys
from pathlib import Path
from hexgrid.server.usage import UsageMeter

def limit_files(num_bytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, resource.RLIM_INFINITY))

def record(count):
    for _ in range(count):
        meter.record("a", "m", inputs=1, tokens=2)

meter = UsageMeter(Path(sys.argv[1]))
record(20)
"""
FULL_FOR_A_WHILE = "limit_files(1_000); record(200); limit_files(-1); record(200); meter.close()"
FULL_WHEN_IT_ENDS = "limit_files(500); meter.close()"


@pytest.mark.parametrize(
    ("what_happens", "expected"), [(FULL_FOR_A_WHILE, 420), (FULL_WHEN_IT_ENDS, 20)]
)
def test_on_a_disk_that_is_really_full_nothing_is_lost_or_counted_twice(
    directory: Path, what_happens: str, expected: int
) -> None:
    command = [sys.executable, "-c", FULL_DISK + what_happens, str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, done.stderr

    assert total(read(directory)) == Used(expected, expected, 2 * expected)
    UsageMeter(directory).close()
    assert total(read(directory)) == Used(expected, expected, 2 * expected)
    assert journals(directory) == []


def test_a_write_that_is_cut_short_is_taken_back(tmp_path: Path) -> None:
    class Short:
        """A file that takes five bytes."""

        content = b"before\n"

        def tell(self) -> int:
            return len(self.content)

        def write(self, data: bytes) -> int:
            self.content += data[:5]
            return 5

        def truncate(self, size: int) -> None:
            self.content = self.content[:size]

        def seek(self, place: int) -> None:
            assert place == len(self.content)

    file = Short()
    with pytest.raises(OSError, match="no space is left"):
        usage_module._append(file, b"[1, 2, 3]\n")  # type: ignore[arg-type]
    assert file.content == b"before\n"


def test_a_directory_without_usage_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"has no {FILE}; a server with --usage-dir"):
        read(tmp_path)


def test_a_directory_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"--usage-dir .* cannot be used"):
        UsageMeter(tmp_path / "file")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / FILE).write_bytes(b"\xff" * 10_000)
    with pytest.raises(UsageError, match="cannot be used"):
        UsageMeter(tmp_path / "broken")
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path / "broken")


def test_a_disk_that_hangs_holds_up_no_other_request(
    tiny_model: ServedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = Metrics()
    hangs, goes_on = threading.Event(), threading.Event()
    write = usage_module._append

    def hang(journal: IO[bytes], data: bytes) -> None:
        hangs.set()
        assert goes_on.wait(DEADLINE)
        write(journal, data)

    monkeypatch.setattr(usage_module, "_append", hang)
    with (
        serving([variant(tiny_model, metrics, "m")], metrics, usage_dir=tmp_path) as client,
        ThreadPoolExecutor(1) as callers,
    ):
        request = callers.submit(embed, client, "text")
        assert hangs.wait(DEADLINE)
        assert client.get("/ready").status_code == 200
        assert client.post("/tokenize", json={"prompt": "a"}).status_code == 200
        assert not request.done()
        goes_on.set()
        assert request.result().status_code == 200
    assert total(read(tmp_path)).requests == 1
