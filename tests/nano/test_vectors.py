"""nano's vectors do not depend on what else is in the batch, from 1 to 2,048 tokens."""

import numpy as np
import pytest

from hexgrid import nano
from hexgrid.config import EngineConfig
from hexgrid.engine.native import open_model
from hexgrid.engine.served_model import ServedModel
from hexgrid.evaluation.datasets import EvaluationSet, RetrievalSet
from hexgrid.metrics import Metrics
from hexgrid.model.pooling import finish
from hexgrid.wire import TokenIds

LENGTHS = [1, 2, 3, 8, 63, 64, 65, 511, 1024, 2047, 2048]


@pytest.fixture(scope="module")
def token_ids(nano_model: ServedModel, sets: list[EvaluationSet]) -> list[TokenIds]:
    """The ids of English and code of those lengths, each with its EOS."""
    (data,) = (each for each in sets if isinstance(each, RetrievalSet))
    text = "\n\n".join([*data.paragraphs, *data.questions] * 2)
    ids = nano_model.tokenizer.tokenize(text, add_special_tokens=False)
    assert len(ids) >= LENGTHS[-1]
    return [ids[: length - 1] + nano_model.tokenizer.eos_ids for length in LENGTHS]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_each_input_alone_is_itself_in_any_batch(token_ids: list[TokenIds], dtype: str) -> None:
    settings = EngineConfig(dtype=dtype, max_num_batched_tokens=16_384, result_cache_bytes=0)  # type: ignore[arg-type]
    model = open_model(["nano"], nano.NAME, settings, Metrics())

    def vectors(inputs: list[TokenIds]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        hidden = model.engine.submit(inputs).result()
        found = finish(hidden, dimensions=None, normalize=True).astype(np.float64)
        found /= np.linalg.norm(
            found, axis=1, keepdims=True
        )  # it was of length one in float32 only
        return found

    together = vectors(token_ids)
    backwards = vectors(token_ids[::-1])[::-1]
    alone = np.concatenate([vectors([ids]) for ids in token_ids])

    model.engine.close()
    least = 1 - 1e-7 if dtype == "float32" else 0.9999
    for batch in (together, backwards):
        assert (np.einsum("nh,nh->n", batch, alone) >= least).all()
    if dtype == "float32":
        np.testing.assert_allclose(together, alone, atol=1e-5)
        np.testing.assert_allclose(backwards, alone, atol=1e-5)
