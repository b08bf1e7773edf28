"""Usage is counted once: through crashes, by several processes, while it is read."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hexgrid.engine.served_model import ServedModel
from hexgrid.metrics import Metrics
from hexgrid.server import usage as usage_module
from hexgrid.server.key_store import KeyStore, Limits
from hexgrid.server.usage import Slot, UsageMeter, Used, read
from tests.server.running import embed, new_client, serving, variant
from tests.server.usage.sums import NOON, journals, total


def test_what_was_recorded_is_read_at_once_and_after_the_end(directory: Path) -> None:
    meter = UsageMeter(directory)
    meter.record("search", "m", inputs=3, tokens=30)
    meter.record("search", "m", inputs=1, tokens=7)
    meter.record(None, "m", inputs=1, tokens=5)
    expected = {Slot(NOON, "search", "m"): Used(2, 4, 37), Slot(NOON, "", "m"): Used(1, 1, 5)}

    assert read(directory) == expected
    meter.close()

    assert read(directory) == expected
    assert journals(directory) == []


def test_hours_are_apart(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = UsageMeter(directory)
    for seconds in (0, 3_599, 3_600):
        monkeypatch.setattr(usage_module, "_now", lambda at=seconds: NOON + at)
        meter.record("a", "m", inputs=1, tokens=1)
    meter.close()

    assert {slot.hour: used.requests for slot, used in read(directory).items()} == {
        NOON: 2,
        NOON + 3_600: 1,
    }


def test_servers_after_and_beside_each_other_add_up(directory: Path) -> None:
    first = UsageMeter(directory)
    second = UsageMeter(directory)
    for meter in (first, second, first):
        meter.record("a", "m", inputs=1, tokens=10)
    first.close()
    third = UsageMeter(directory)
    third.record("a", "m", inputs=1, tokens=10)

    assert total(read(directory)) == Used(4, 4, 40)
    second.close()
    third.close()
    assert total(read(directory)) == Used(4, 4, 40)


CRASHING = """
import sys
from pathlib import Path
from hexgrid.server.usage import UsageMeter

meter = UsageMeter(Path(sys.argv[1]), fold_seconds=0.001)
print("ready", flush=True)
for number in range(10**9):
    meter.record("a", "m", inputs=1, tokens=2)
    print(number + 1, flush=True)
"""


def test_killed_processes_lose_nothing_and_count_nothing_twice(directory: Path) -> None:
    """Each is killed at some moment of folding; a last line may have been counted before it was told."""
    counted = 0
    num_kills = 5
    for kill in range(num_kills):
        command = [sys.executable, "-c", CRASHING, str(directory)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            told = 0
            for line in process.stdout:
                if line.strip() == str(50 + 37 * kill):
                    process.send_signal(signal.SIGKILL)
                if line.strip().isdecimal():
                    told = int(line)
        counted += told

    UsageMeter(directory).close()

    found = total(read(directory))
    assert counted <= found.requests <= counted + num_kills
    assert found.tokens == 2 * found.requests
    assert journals(directory) == []


@pytest.mark.parametrize("dies_at", ["COMMIT", "unlink"])
def test_a_fold_that_dies_in_the_middle_is_done_once(
    directory: Path, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    meter = UsageMeter(directory)
    meter.record("a", "m", inputs=1, tokens=10)
    unlink = Path.unlink

    def fail(*_: object) -> None:
        raise OSError("the process dies here")

    if dies_at == "COMMIT":
        monkeypatch.setattr(usage_module, "_ADD", "nonsense")
    else:
        monkeypatch.setattr(Path, "unlink", fail)
    meter.close()
    assert len(journals(directory)) == 1
    monkeypatch.setattr(Path, "unlink", unlink)
    if dies_at == "unlink":
        assert total(read(directory)) == Used(1, 1, 10)
    monkeypatch.undo()

    UsageMeter(directory).close()

    assert total(read(directory)) == Used(1, 1, 10)
    assert journals(directory) == []


def test_the_journal_of_a_running_process_is_left_to_it(directory: Path) -> None:
    running = UsageMeter(directory)
    running.record("a", "m", inputs=1, tokens=10)
    UsageMeter(directory).close()

    running.record("a", "m", inputs=1, tokens=10)
    running.close()

    assert total(read(directory)) == Used(2, 2, 20)


def test_an_hour_that_comes_again_is_added_to(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that is set back repeats hours, and may repeat a journal's; each request counts once."""
    meter = UsageMeter(directory)
    for seconds in (3_600, 0, 3_600, -7_200):
        monkeypatch.setattr(usage_module, "_now", lambda at=seconds: NOON + at)
        meter.record("a", "m", inputs=1, tokens=1)
        meter._change_journal()
    meter.close()

    assert {slot.hour - NOON: used.requests for slot, used in read(directory).items()} == {
        3_600: 2,
        0: 1,
        -7_200: 1,
    }


def test_reading_while_others_fold_is_exact(directory: Path) -> None:
    """The sum never falls, and is never more than what was recorded."""
    meter = UsageMeter(directory, fold_seconds=0.0005)
    recorded, over = [0], threading.Event()

    def record() -> None:
        for _ in range(400):
            recorded[0] += 1
            meter.record("a", "m", inputs=1, tokens=1)
        over.set()

    thread = threading.Thread(target=record)
    thread.start()
    last = 0
    while not over.is_set():
        found = total(read(directory)).requests
        assert last <= found <= recorded[0]
        last = found
    thread.join()
    meter.close()
    assert total(read(directory)).requests == 400


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys.sqlite3")


def test_totals_are_the_sum_of_what_clients_were_told(
    tiny_model: ServedModel, store: KeyStore, tmp_path: Path
) -> None:
    metrics = Metrics()
    keys = {name: store.create(name, Limits()) for name in ("one", "other")}
    models = [variant(tiny_model, metrics, name) for name in "mn"]
    told: dict[tuple[str, str], int] = {}
    usage = tmp_path / "usage"
    with serving(models, metrics, key_store=store.file, usage_dir=usage) as client:
        for name, key in keys.items():
            with new_client(str(client.base_url)) as own:
                own.headers["authorization"] = f"Bearer {key}"
                for model in "mn":
                    for texts in (["a"], ["some words", "and more"], "text"):
                        answer = embed(own, texts, model=model)
                        slot = (name, model)
                        tokens = answer.json()["usage"]["prompt_tokens"]
                        told[slot] = told.get(slot, 0) + tokens
                    assert embed(own, [], model=model).status_code == 400
        during = read(usage)
    after = read(usage)

    assert during == after
    found = {(slot.name, slot.model): used for slot, used in after.items()}
    assert {slot: used.tokens for slot, used in found.items()} == told
    assert {used.requests for used in found.values()} == {3}
    assert {used.inputs for used in found.values()} == {4}
