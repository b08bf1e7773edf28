"""hexgrid bulk: the command, its processes killed, and servers as sources of vectors."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pyarrow.parquet as pq
import pytest

from hexgrid.engine.served_model import ServedModel
from hexgrid.model.pooling import finish
from hexgrid.server.key_store import KeyStore, Limits
from tests.cli.conftest import Command, one_line
from tests.cli.hexgrid_process import hexgrid
from tests.jobs.killed import running, wait_for_windows
from tests.server.running import serving_one

NUM_ROWS = 400


def expected(model: ServedModel, texts: list[str]) -> Any:
    ids = model.tokenizer.encode(texts).token_ids
    return finish(model.engine.submit(ids).result(), dimensions=None, normalize=True)


@pytest.fixture
def texts() -> list[str]:
    return [f"number {n} " + "of many " * (n % 7) for n in range(NUM_ROWS)]


@pytest.fixture
def data(tmp_path: Path, texts: list[str]) -> Path:
    lines = [json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(texts)]
    (tmp_path / "in.jsonl").write_text("".join(lines))
    return tmp_path / "in.jsonl"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.parquet"


def vectors_of(output: Path) -> Any:
    return np.array(pq.read_table(output)["embedding"].to_pylist(), np.float32)


def test_a_killed_job_goes_on_with_each_id_once(
    tiny_checkpoint: Path, tiny_model: ServedModel, data: Path, output: Path, texts: list[str]
) -> None:
    arguments = (
        *("bulk", str(data), str(output), "--model", str(tiny_checkpoint)),
        *("--dtype", "float32", "--window-rows", "10", "--num-threads", "1"),
    )
    for count in (3, 20):
        with running(*arguments) as process:
            wait_for_windows(process, output, count)

    done = hexgrid(*arguments, "--json")

    assert done.returncode == 0, done.stderr
    assert "Going on after" in done.stderr
    table = pq.read_table(output)
    assert table["id"].to_pylist() == list(range(NUM_ROWS))
    np.testing.assert_allclose(vectors_of(output), expected(tiny_model, texts), atol=2e-5)
    assert json.loads(done.stdout)["num_vectors"] == NUM_ROWS


def test_a_job_on_standard_input_goes_on_only_with_the_same(
    tiny_checkpoint: Path, data: Path, output: Path
) -> None:
    rows = data.read_text()
    arguments = ("bulk", "-", str(output), "--model", str(tiny_checkpoint), "--window-rows", "50")
    broken = rows[: len(rows) // 2] + "\n" + "x" * (64 * 2**20 + 1)
    assert "a line of more than" in hexgrid(*arguments, stdin=broken).stderr

    other = hexgrid(*arguments, stdin=rows.replace("number 3", "nummer 3"))
    same = hexgrid(*arguments, stdin=rows)

    assert "Standard input is not what it was" in other.stderr
    assert same.returncode == 0, same.stderr
    assert pq.read_table(output)["id"].to_pylist() == list(range(NUM_ROWS))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{data}", "{tmp}/out.bin"], "out.bin has no ending of .parquet, .jsonl, .npy"),
        (["{tmp}/none.jsonl", "{output}"], "none.jsonl cannot be read"),
        (["{data}", "{output}", "--dimensions", "0"], "only supports dimensions in range"),
        (["{data}", "{output}", "--prompt-name", "p"], "Unsupported prompt_name 'p'"),
        (
            ["{data}", "{output}", "--url", "http://127.0.0.1:9", "--dtype", "float32"],
            "--dtype goes with",
        ),
        (["{data}", "{output}", "--url", "ftp://x"], "must be such as"),
    ],
)
def test_what_cannot_be_done_is_told(
    command: Command,
    tiny_checkpoint: Path,
    data: Path,
    output: Path,
    arguments: list[str],
    message: str,
) -> None:
    names = {"data": data, "output": output, "tmp": data.parent}
    model = () if "--url" in arguments else ("--model", str(tiny_checkpoint))

    result = command("bulk", *(each.format(**names) for each in arguments), *model)

    assert result.exit_code != 0
    assert message in result.stderr
    assert not output.exists()


@pytest.fixture
def server(tiny_model: ServedModel) -> Iterator[httpx2.Client]:
    with serving_one(tiny_model) as client:
        yield client


def test_a_server_gives_the_same_vectors(
    command: Command,
    server: httpx2.Client,
    tiny_model: ServedModel,
    data: Path,
    output: Path,
    texts: list[str],
) -> None:
    result = command(
        "bulk", str(data), str(output), "--url", str(server.base_url), "--window-rows", "90"
    )

    assert result.exit_code == 0, result.output
    np.testing.assert_allclose(vectors_of(output), expected(tiny_model, texts), atol=2e-5)
    metadata = json.loads(pq.read_schema(output).metadata[b"hexgrid"])
    assert (metadata["model"], metadata["fingerprint"]) == ("m", None)


def test_a_server_that_refuses_a_row_harms_no_other(
    command: Command, server: httpx2.Client, tiny_model: ServedModel, tmp_path: Path, output: Path
) -> None:
    texts = ["one", "word " * (tiny_model.max_model_len + 1), "three"]
    (tmp_path / "in.txt").write_text("\n".join(texts))

    result = command("bulk", str(tmp_path / "in.txt"), str(output), "--url", str(server.base_url))

    assert result.exit_code == 0, result.output
    errors = pq.read_table(output)["error"].to_pylist()
    assert [error is None for error in errors] == [True, False, True]
    assert "maximum context length" in errors[1]


def test_a_key_of_few_requests_is_waited_for(
    command: Command, tiny_model: ServedModel, tmp_path: Path, data: Path, output: Path
) -> None:
    store = KeyStore(tmp_path / "keys")
    key = store.create("bulk", Limits(rpm=600))
    with serving_one(tiny_model, key_store=tmp_path / "keys") as client:
        for _ in range(598):
            client.get("/v1/models", headers={"authorization": f"Bearer {key}"})
        result = command(
            *("bulk", str(data), str(output), "--url", str(client.base_url)),
            *("--window-rows", "100"),
            env={"HEXGRID_API_KEY": key},
        )

    assert result.exit_code == 0, result.output
    assert Counter(pq.read_table(output)["id"].to_pylist()).most_common(1)[0][1] == 1
    assert len(vectors_of(output)) == NUM_ROWS


def test_a_server_that_knows_no_such_key_ends_the_job(
    command: Command, tiny_model: ServedModel, data: Path, output: Path
) -> None:
    with serving_one(tiny_model, api_key=()) as client:
        url = str(client.base_url)
        result = command("bulk", str(data), str(output), "--url", url, "--model", "other")

    assert "no such model" in one_line(result)
