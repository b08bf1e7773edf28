"""The official tokenizer, with room and with little."""

import pytest

from hexgrid.tokenizer import Tokenizer
from tests.tokenizer.official import open_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return open_tokenizer()


@pytest.fixture(scope="module")
def short_tokenizer() -> Tokenizer:
    """Held to 8 tokens."""
    return open_tokenizer(max_model_len=8)
