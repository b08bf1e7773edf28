"""A checkpoint's tokenizer.json, opened and checked: nobody vouches for it.

It is data for the Rust tokenizer, which runs no code of it. What it may be is bounded, so that neither
reading it nor a text that it makes tokens of costs more than it should.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import tokenizers

from hexgrid.errors import CheckpointError
from hexgrid.wire import TokenIds

MAX_FILE_BYTES = 64 * 2**20  # Qwen's has 11 million
# The longest of Qwen's has 128: runs of spaces. They say how long a text can be, so none may be absurd.
_MAX_TOKEN_CHARS = 1024


class TokenizerFile(NamedTuple):
    """The Rust tokenizer, which neither cuts nor pads, and what must be known of it."""

    tokenizer: tokenizers.Tokenizer
    max_token_chars: int  # of the longest entry: a character stands for a byte
    added_tokens: list[str]  # found in a text before anything else is
    prefix: TokenIds  # what the post-processor puts before a text
    suffix: TokenIds  # and after it


def open_tokenizer_file(path: Path, vocab_size: int) -> TokenizerFile:
    """Read and check a tokenizer.json for a model of `vocab_size` ids.

    Raises:
        CheckpointError: it is too large, unreadable, cannot read a text, or knows ids past the table.
    """
    _check_size(path)
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        bare, whole = (tokenizer.encode("a", add_special_tokens=s).ids for s in (False, True))
    except BaseException as error:
        # The Rust side raises bare Exception, and where it gives up what is not even that.
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        raise CheckpointError(f"{path} cannot be read as a tokenizer: {error}") from error
    longest = max(_token_lengths(tokenizer, path, vocab_size), default=0)
    if not 1 <= longest <= _MAX_TOKEN_CHARS:
        raise CheckpointError(
            f"{path}: the longest token has {longest} characters; 1 to {_MAX_TOKEN_CHARS} are taken"
        )
    added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    return TokenizerFile(tokenizer, longest, added, *_around(bare, whole, path))


def is_panic(error: BaseException) -> bool:
    """Whether the Rust side gave up: what it raises then is no Exception."""
    return type(error).__name__ == "PanicException"


def _check_size(path: Path) -> None:
    try:
        num_bytes = path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if num_bytes > MAX_FILE_BYTES:
        raise CheckpointError(f"{path} has {num_bytes} bytes; at most {MAX_FILE_BYTES} are read")


def _token_lengths(tokenizer: tokenizers.Tokenizer, path: Path, vocab_size: int) -> Iterable[int]:
    """Of each entry, in characters; refused where an id is past the embedding table."""
    num_tokens = tokenizer.get_vocab_size()
    # One by one: the dictionary of all takes twice as long, 0.14 s of every start.
    tokens = map(tokenizer.id_to_token, range(min(num_tokens, vocab_size)))
    lengths = [len(token) for token in tokens if token is not None]
    if len(lengths) == num_tokens:  # so there are no others
        return lengths
    vocabulary = tokenizer.get_vocab()
    largest_id = max(vocabulary.values())
    if largest_id >= vocab_size:
        raise CheckpointError(
            f"{path} knows ids up to {largest_id}, but the model's embedding table has "
            f"{vocab_size} rows: tokenizer and weights are not of the same model"
        )
    return map(len, vocabulary)


def _around(bare: TokenIds, whole: TokenIds, path: Path) -> tuple[TokenIds, TokenIds]:
    """What `whole` has before and after `bare`."""
    for start in range(len(whole) - len(bare) + 1):
        if bare and whole[start : start + len(bare)] == bare:
            return whole[:start], whole[start + len(bare) :]
    raise CheckpointError(
        f"{path}: the text 'a' has the tokens {bare[:8]}, with special ones {whole[:8]}: "
        "the former must be among the latter"
    )
