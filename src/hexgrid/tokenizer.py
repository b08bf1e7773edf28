"""Text or token ids -> the ids that the model reads: EOS, truncation, limits and exact counts.

Text gets what the tokenizer's own post-processor appends (one <|endoftext|> for Qwen3-Embedding); ids get
nothing. Nothing is cut unless the request asks for it. All calls block and may run in any thread.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import tokenizers

from hexgrid.errors import CheckpointError, RequestError
from hexgrid.wire import TokenIds, TruncationSide

Inputs = list[str] | list[TokenIds]

# A letter or digit, and then a space, a line's end or a CJK comma or full stop, read backwards: Qwen's
# pre-tokenizer splits there whatever stands around.
_WORD_END_MIRRORED = re.compile(r"(?<=[ \n\u3001\u3002\uff0c])(?=[^\W_])")


class Truncation(NamedTuple):
    """Keep at most `max_tokens`, EOS included; `side` is the side that is cut off last.

    As in vLLM, "right" keeps the first tokens and "left" the last.
    """

    max_tokens: int
    side: TruncationSide


class Encoded(NamedTuple):
    """The ids of each input, in order, and how many inputs were cut."""

    token_ids: list[TokenIds]
    num_truncated: int

    @property
    def num_tokens(self) -> int:
        return sum(map(len, self.token_ids))


class Tokenizer:
    """A checkpoint's tokenizer, held to the served length and to the embedding table.

    Raises:
        CheckpointError: the file is unreadable, or knows ids past the embedding table.
    """

    def __init__(self, path: Path, *, vocab_size: int, max_model_len: int) -> None:
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the Rust side raises bare Exception
            raise CheckpointError(f"{path} cannot be read as a tokenizer: {error}") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.vocab_size = vocab_size
        self.max_model_len = max_model_len
        # The longest entry bounds how many characters a token can stand for.
        self._max_token_chars = max(self._token_lengths(path))
        self._prefix, self._suffix = self._special_ids()

    @property
    def eos_ids(self) -> TokenIds:
        """What the post-processor appends to a text; [151643] for Qwen3-Embedding."""
        return self._suffix

    def encode(
        self,
        inputs: Inputs,
        *,
        add_special_tokens: bool = True,
        truncation: Truncation | None = None,
    ) -> Encoded:
        """The ids of each text, or each id list as given; cut where `truncation` says so.

        Raises:
            RequestError: an input is longer than `max_model_len`, or holds a lone surrogate.
        """
        if isinstance(inputs[0], str):
            encoded = self._encode_texts(inputs, truncation, add_special_tokens=add_special_tokens)
        else:
            encoded = self._slice_ids(inputs, truncation)
        for index, ids in enumerate(encoded.token_ids):
            if len(ids) > self.max_model_len:
                raise self._too_long(len(ids), "input tokens", "input_tokens", index)
        return encoded

    def check_ids(self, token_ids: list[TokenIds]) -> None:
        """Refuse what the model cannot read: an empty input, an id outside the embedding table."""
        for index, ids in enumerate(token_ids):
            if not ids:
                raise RequestError(
                    f"The decoder prompt cannot be empty (input {index} has no tokens)",
                    param="input",
                    index=index,
                )
            if min(ids) < 0 or max(ids) >= self.vocab_size:
                wrong = next(i for i in ids if not 0 <= i < self.vocab_size)
                raise RequestError(
                    f"Token id {wrong} is out of vocabulary (input {index}); ids must be "
                    f"0 to {self.vocab_size - 1}",
                    param="input",
                    index=index,
                )

    def tokenize(self, text: str, *, add_special_tokens: bool = True) -> tuple[TokenIds, list[str]]:
        """All ids of a text, of any length, and the vocabulary's byte-level pieces."""
        (encoding,) = self._encode_batch([text], add_special_tokens=add_special_tokens)
        # Not encoding.tokens: the fast encoding leaves the vocabulary's pieces empty there.
        return encoding.ids, [str(self._tokenizer.id_to_token(i)) for i in encoding.ids]

    def detokenize(self, token_ids: TokenIds) -> str:
        """The text of `token_ids`, special tokens kept, unknown ids dropped."""
        return self._tokenizer.decode(token_ids, skip_special_tokens=False)

    def _encode_texts(
        self, texts: list[str], truncation: Truncation | None, *, add_special_tokens: bool
    ) -> Encoded:
        """Encode whole, then cut the text's own tokens so that the special ones stay."""
        encodings = self._encode_batch(
            self._bounded(texts, truncation), add_special_tokens=add_special_tokens
        )
        token_ids = [encoding.ids for encoding in encodings]
        if truncation is None:
            return Encoded(token_ids, 0)
        prefix, suffix = (self._prefix, self._suffix) if add_special_tokens else ([], [])
        room = max(truncation.max_tokens - len(prefix) - len(suffix), 0)
        num_truncated = 0
        for index, ids in enumerate(token_ids):
            if len(ids) > truncation.max_tokens:
                own = ids[len(prefix) : len(ids) - len(suffix)]
                token_ids[index] = prefix + _keep(own, room, truncation.side) + suffix
                num_truncated += 1
        return Encoded(token_ids, num_truncated)

    def _bounded(self, texts: list[str], truncation: Truncation | None) -> list[str]:
        """The texts, cut to more characters than can matter; refused when too long for any cut."""
        limit = truncation.max_tokens if truncation else self.max_model_len
        # One token's worth more than the limit: the cut must not change the last token kept.
        max_chars = (limit + 1) * self._max_token_chars
        if max(map(len, texts)) <= max_chars:
            return texts
        if truncation is None:
            index = next(i for i, text in enumerate(texts) if len(text) > max_chars)
            raise self._too_long(len(texts[index]), "characters", "input_text", index)
        return [_keep_text(text, max_chars, truncation.side) for text in texts]

    def _slice_ids(self, inputs: list[TokenIds], truncation: Truncation | None) -> Encoded:
        if truncation is None:
            return Encoded(inputs, 0)
        cut = [_keep(ids, truncation.max_tokens, truncation.side) for ids in inputs]
        return Encoded(cut, sum(len(ids) > truncation.max_tokens for ids in inputs))

    def _encode_batch(
        self, texts: list[str], *, add_special_tokens: bool
    ) -> list[tokenizers.Encoding]:
        try:
            return self._tokenizer.encode_batch_fast(texts, add_special_tokens=add_special_tokens)
        except TypeError:  # what the Rust side says of a str that is not valid Unicode
            index = next(i for i, text in enumerate(texts) if not _is_unicode(text))
            raise RequestError(
                f"Input {index} holds a lone surrogate, which is no valid Unicode text",
                param="input",
                index=index,
            ) from None

    def _token_lengths(self, path: Path) -> Iterable[int]:
        """Of each entry, in characters; refused where an id is past the embedding table."""
        num_tokens = self._tokenizer.get_vocab_size()
        # One by one: the dictionary of all takes twice as long, 0.14 s of every start.
        tokens = map(self._tokenizer.id_to_token, range(min(num_tokens, self.vocab_size)))
        lengths = [len(token) for token in tokens if token is not None]
        if len(lengths) == num_tokens:  # so there are no others
            return lengths
        vocabulary = self._tokenizer.get_vocab()
        largest_id = max(vocabulary.values())
        if largest_id >= self.vocab_size:
            raise CheckpointError(
                f"{path} knows ids up to {largest_id}, but the model's embedding table has "
                f"{self.vocab_size} rows: tokenizer and weights are not of the same model"
            )
        return map(len, vocabulary)

    def _special_ids(self) -> tuple[TokenIds, TokenIds]:
        """What the post-processor puts before and after a text."""
        (bare,), (whole,) = (
            self._encode_batch(["a"], add_special_tokens=special) for special in (False, True)
        )
        start = next(
            i for i in range(len(whole.ids)) if whole.ids[i : i + len(bare.ids)] == bare.ids
        )
        return whole.ids[:start], whole.ids[start + len(bare.ids) :]

    def _too_long(self, found: int, unit: str, param: str, index: int) -> RequestError:
        return RequestError(
            f"This model's maximum context length is {self.max_model_len} tokens. However, input "
            f"{index} of your prompt contains {found} {unit}. Please reduce the length of the "
            f"input prompt, or set truncate_prompt_tokens. (parameter={param}, value={found})",
            param=param,
            index=index,
        )


def _keep(ids: TokenIds, count: int, side: TruncationSide) -> TokenIds:
    """At most `count` ids: the first where the right is cut off, the last where the left is."""
    return ids[:count] if side == "right" else ids[max(len(ids) - count, 0) :]


def _keep_text(text: str, count: int, side: TruncationSide) -> str:
    """At least `count` characters, whose tokens are those of the whole text.

    Tokens are merged from the left, so the text may end anywhere; but it must begin where a token begins in
    the whole text, too, and a run of one letter has no such place except its start.
    """
    if side == "right":
        return text[:count]
    mirrored = text[::-1]
    start = _WORD_END_MIRRORED.search(mirrored, count)
    return mirrored[: start.start()][::-1] if start else text


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
