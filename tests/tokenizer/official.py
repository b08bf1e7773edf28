"""The official tokenizer, as the tests open it."""

from hexgrid import nano
from hexgrid.tokenizer import Tokenizer
from hexgrid.wire import TokenIds, TruncationSide

EOS = 151_643
VOCAB_SIZE = 151_669
SIDES: list[TruncationSide] = ["left", "right"]


def open_tokenizer(*, max_model_len: int = 32_768, vocab_size: int = VOCAB_SIZE) -> Tokenizer:
    return Tokenizer(nano.TOKENIZER, vocab_size=vocab_size, max_model_len=max_model_len)


def whole(tokenizer: Tokenizer, text: str) -> TokenIds:
    """Read at once, as a bare tokenizer does."""
    ids: TokenIds = tokenizer._tokenizer.encode(text, add_special_tokens=False).ids
    return ids
