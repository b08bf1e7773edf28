"""A checkpoint from its directory to vectors: against sentence-transformers, and every limit of it."""

import json
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hexgrid.config import EngineConfig
from hexgrid.encoding import Vectors
from hexgrid.engine import native
from hexgrid.engine.native import open_model
from hexgrid.engine.served_model import ServedModel, instruction_prompt
from hexgrid.errors import CheckpointError, ConfigError, RequestError
from hexgrid.metrics import Metrics
from hexgrid.model import cpu_kernels, qwen3
from hexgrid.model.cuda_graphs import BUCKETS
from hexgrid.model.pooling import finish
from tests.checkpoints import CheckpointFactory, random_ids, shaped
from tests.model.tape import attend_by_sums, record_on_tape

# As many rows as the real tokenizer has ids.
REAL_VOCABULARY = shaped(vocab_size=151_669)

TEXTS = [
    "What is the capital of China?",
    "",
    "The capital of China is Beijing. " * 20,
    "\u5317\u4eac\u662f\u4e2d\u56fd\u7684\u9996\u90fd\u3002",
    "def f(x):\n    return x  # <|im_start|>\n",
]


@contextmanager
def opened(directory: Path, **settings: Any) -> Iterator[ServedModel]:
    config = EngineConfig(**{"dtype": "float32", "result_cache_bytes": 0, **settings})
    model = open_model(["name", "alias"], directory, config, Metrics())
    try:
        yield model
    finally:
        model.engine.close()


def embed(
    model: ServedModel, texts: list[str], *, dimensions: int | None = None, prompt: str = ""
) -> Vectors:
    encoded = model.tokenizer.encode([prompt + text for text in texts])
    hidden = model.engine.submit(encoded.token_ids).result(30)
    return finish(hidden, dimensions=dimensions, normalize=True)


@pytest.fixture(scope="module")
def sentence_transformer(tiny_checkpoint: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(
        str(tiny_checkpoint), device="cpu", model_kwargs={"dtype": "float32"}
    )


def test_what_was_computed_serves_every_width_until_it_is_told_to_keep_none(
    tiny_checkpoint: Path,
) -> None:
    with opened(tiny_checkpoint, result_cache_bytes=10_000) as model:
        computed, kept, cut = (embed(model, TEXTS, dimensions=cut) for cut in (None, None, 8))
        assert model.metrics.result_cache_hits._value.get() == 2 * len(TEXTS)
    with opened(tiny_checkpoint, result_cache_bytes=0) as model:
        anew = embed(model, TEXTS), embed(model, TEXTS, dimensions=8)
        assert model.metrics.result_cache_hits._value.get() == 0

    assert np.array_equal(computed, kept)
    np.testing.assert_allclose(kept, anew[0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(cut, anew[1], rtol=0, atol=1e-5)


def test_vectors_outlive_the_server_for_the_same_weights_and_dtype_only(
    tiny_checkpoint: Path, new_checkpoint: CheckpointFactory, tmp_path: Path
) -> None:
    def hits_and_vectors(directory: Path, **settings: Any) -> tuple[float, Vectors]:
        with opened(directory, result_cache_dir=tmp_path / "kept", **settings) as model:
            vectors = embed(model, TEXTS)
            return model.metrics.result_store_hits._value.get(), vectors

    none, computed = hits_and_vectors(tiny_checkpoint)
    all_, kept = hits_and_vectors(tiny_checkpoint)

    assert (none, all_) == (0, len(TEXTS))
    assert np.array_equal(computed, kept)
    assert hits_and_vectors(tiny_checkpoint, dtype="bfloat16")[0] == 0
    assert hits_and_vectors(new_checkpoint(REAL_VOCABULARY))[0] == 0


def test_int8_is_near_float32_and_its_vectors_are_kept_apart(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    settings = {"result_cache_dir": tmp_path / "results", "quantized_dir": tmp_path / "weights"}
    with opened(tiny_checkpoint, result_cache_dir=tmp_path / "results") as model:
        exact = embed(model, TEXTS)
    with opened(tiny_checkpoint, quantization="int8", **settings) as model:
        rounded = embed(model, TEXTS)
        assert model.metrics.result_store_hits._value.get() == 0
        assert (model.precision, model.description.split(",")[0]) == ("int8", "cpu int8")

    assert len(list((tmp_path / "weights").iterdir())) == 1
    cosines = (exact * rounded).sum(axis=1)
    assert 0.99 < cosines.min() < cosines.max() < 1 - 1e-6


@pytest.mark.parametrize("enforce_eager", [False, True])
def test_small_passes_are_recorded_unless_every_one_shall_be_eager(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, *, enforce_eager: bool
) -> None:
    """As on CUDA, with a tape in place of its graphs."""
    recorded: list[int] = []

    def record(run: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        replay = record_on_tape(run)
        recorded.append(len(replay()))
        return replay

    monkeypatch.setattr(native, "can_record", lambda *_: True)
    monkeypatch.setattr(native, "CudaRecorder", lambda _: record)
    monkeypatch.setattr(qwen3, "backend_for", lambda *_: attend_by_sums)

    with opened(tiny_checkpoint, dtype="float32", enforce_eager=enforce_eager) as model:
        found = embed(model, TEXTS)
    monkeypatch.undo()
    with opened(tiny_checkpoint, dtype="float32") as model:
        expected = embed(model, TEXTS)

    assert len(recorded) == (0 if enforce_eager else len(BUCKETS))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_int8_goes_with_no_other_dtype_than_float32(tiny_checkpoint: Path, dtype: str) -> None:
    message = f"--quantization int8 computes .* in float32: --dtype {dtype} does not go with it"

    with (
        pytest.raises(ConfigError, match=message),
        opened(tiny_checkpoint, quantization="int8", dtype=dtype),
    ):
        pass


def test_vectors_are_those_of_sentence_transformers(
    tiny_model: ServedModel, sentence_transformer: Any
) -> None:
    expected = sentence_transformer.encode(TEXTS)

    np.testing.assert_allclose(embed(tiny_model, TEXTS), expected, rtol=0, atol=2e-5)


def test_the_prompt_for_queries_is_that_of_sentence_transformers(
    tiny_model: ServedModel, sentence_transformer: Any
) -> None:
    expected = sentence_transformer.encode(TEXTS, prompt_name="query")

    vectors = embed(tiny_model, TEXTS, prompt=tiny_model.prompt("query", param="input_type"))
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("dimensions", [1, 32, 63])
def test_a_cut_vector_is_that_of_sentence_transformers(
    tiny_model: ServedModel, sentence_transformer: Any, dimensions: int
) -> None:
    expected = sentence_transformer.encode(
        TEXTS, truncate_dim=dimensions, normalize_embeddings=True
    )

    vectors = embed(tiny_model, TEXTS, dimensions=dimensions)
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=2e-5)


def test_the_engines_batches_change_no_vector(tiny_checkpoint: Path) -> None:
    texts = [f"text {n} " * (n % 7 + 1) for n in range(40)]

    with (
        opened(tiny_checkpoint, max_num_batched_tokens=16, max_num_seqs=3) as narrow,
        opened(tiny_checkpoint, max_num_batched_tokens=10_000) as wide,
    ):
        np.testing.assert_allclose(embed(narrow, texts), embed(wide, texts), rtol=0, atol=1e-5)


@pytest.mark.parametrize("max_model_len", [1, 2, 7, 64])
def test_exactly_the_longest_input_works_and_one_token_more_does_not(
    tiny_checkpoint: Path, max_model_len: int
) -> None:
    digits = "7" * (max_model_len - 1)  # one token each, and the EOS

    with opened(tiny_checkpoint, max_model_len=max_model_len) as model:
        assert embed(model, [digits]).shape == (1, 64)
        with pytest.raises(RequestError, match=f"maximum context length is {max_model_len} tokens"):
            embed(model, [digits + "7"])


def test_all_positions_of_a_checkpoint_can_be_used(new_checkpoint: CheckpointFactory) -> None:
    with opened(new_checkpoint(REAL_VOCABULARY)) as model:
        assert model.max_model_len == 4096
        hidden = model.engine.submit(random_ids([4096])).result(60)

    assert np.isfinite(hidden).all()


def test_more_than_the_checkpoints_positions_are_refused(tiny_checkpoint: Path) -> None:
    message = "--max-model-len 32769 is more than the model's 32768 positions"

    with pytest.raises(ConfigError, match=message), opened(tiny_checkpoint, max_model_len=32_769):
        pass


def test_the_default_length_is_the_published_one_where_there_are_more_positions(
    new_checkpoint: CheckpointFactory,
) -> None:
    shape = shaped(vocab_size=151_669, max_position_embeddings=40_960)

    with opened(new_checkpoint(shape)) as model:
        assert model.max_model_len == 32_768


def test_what_is_served_is_said(tiny_checkpoint: Path) -> None:
    reports: list[str] = []
    config = EngineConfig(dtype="float32", device="cpu")

    model = open_model(["a", "b"], tiny_checkpoint, config, Metrics(), report=reports.append)
    model.engine.close()

    assert (model.name, model.names, model.root) == ("a", ("a", "b"), str(tiny_checkpoint))
    assert (model.embedding_dimension, model.config.num_hidden_layers, model.precision) == (
        64,
        2,
        "float32",
    )
    assert model.description.startswith("cpu float32, 64 dimensions, up to 32768 tokens an input")
    assert reports == [f"Loading a from {tiny_checkpoint} (0.02 GB)"]


def test_a_processor_without_its_kernels_is_told_of(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[str] = []
    monkeypatch.setattr(cpu_kernels, "_library", None)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")

    config = EngineConfig(dtype="float32", device="cpu")
    open_model(["a"], tiny_checkpoint, config, Metrics(), report=reports.append).engine.close()

    assert "kernels for this processor cannot be loaded" in reports[-1]


def test_a_model_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no config\.json"), opened(tmp_path):
        pass


def test_a_tokenizer_of_another_model_is_refused(new_checkpoint: CheckpointFactory) -> None:
    with (
        pytest.raises(CheckpointError, match=r"ids up to 151668, .* 500 rows"),
        opened(new_checkpoint()),
    ):
        pass


def test_a_number_of_threads_is_set(tiny_checkpoint: Path) -> None:
    before = torch.get_num_threads()

    try:
        with opened(tiny_checkpoint, num_threads=before + 1):
            assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("dimensions", [None, 1, 64])
def test_any_dimension_up_to_the_models_is_taken(
    tiny_model: ServedModel, dimensions: int | None
) -> None:
    tiny_model.check_dimensions(dimensions)


@pytest.mark.parametrize("dimensions", [-1, 0, 65])
def test_other_dimensions_are_refused_with_the_range(
    tiny_model: ServedModel, dimensions: int
) -> None:
    message = rf"'tiny' only supports dimensions in range \[1, 64\], got {dimensions}\."

    with pytest.raises(RequestError, match=message) as caught:
        tiny_model.check_dimensions(dimensions)
    assert caught.value.param == "dimensions"


def test_a_checkpoint_that_lists_dimensions_is_held_to_them(
    new_checkpoint: CheckpointFactory,
) -> None:
    directory = new_checkpoint(REAL_VOCABULARY, config={"matryoshka_dimensions": [32, 16]})

    with opened(directory) as model:
        model.check_dimensions(32)
        with pytest.raises(RequestError, match=r"Matryoshka dimensions \[16, 32\], got 64"):
            model.check_dimensions(64)


def test_an_unknown_prompt_is_refused_with_the_known_ones(tiny_model: ServedModel) -> None:
    message = "Unsupported prompt_name 'poem'. Supported values: document, query"

    with pytest.raises(RequestError, match=message) as caught:
        tiny_model.prompt("poem", param="prompt_name")
    assert caught.value.param == "prompt_name"


def test_an_instruction_takes_the_form_of_the_checkpoints_own_prompt(
    tiny_checkpoint: Path,
) -> None:
    path = tiny_checkpoint / "config_sentence_transformers.json"
    prompt: str = json.loads(path.read_text())["prompts"]["query"]

    task = prompt.removeprefix("Instruct: ").removesuffix("\nQuery:")
    assert instruction_prompt(task) == prompt


def test_a_tokenizer_that_appends_no_eos_is_told(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for file in tiny_checkpoint.glob("*.*"):
        (tmp_path / file.name).hardlink_to(file)
    tokenizer = json.loads((tmp_path / "tokenizer.json").read_text())
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "modules.json").unlink()
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer | {"post_processor": None}))
    reports: list[str] = []

    model = open_model(["name"], tmp_path, EngineConfig(), Metrics(), report=reports.append)
    model.engine.close()

    assert "tokenizer.json appends no EOS to a text" in reports[0]
