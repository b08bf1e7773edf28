"""Text or token ids -> the ids that the model reads: EOS, truncation, limits and exact counts.

Text gets what the tokenizer's own post-processor appends (one <|endoftext|> for Qwen3-Embedding); ids get
nothing. Nothing is cut unless the request asks for it. All calls block and may run in any thread.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from hexgrid.errors import RequestError
from hexgrid.surrogates import error_of_surrogates
from hexgrid.text_pieces import PIECE_CHARS, NoWordEndError, WordEnds
from hexgrid.text_reader import Check, TextReader
from hexgrid.tokenizer_file import open_tokenizer_file
from hexgrid.wire import TokenIds, TruncationSide

Inputs = list[str] | list[TokenIds]
# A run that cannot be parted is read as a whole: the longest for which that is done, whatever the model.
_LEAST_RUN_CHARS = 2**20


class Truncation(NamedTuple):
    """Keep at most `max_tokens`, EOS included; `side` is the side that is cut off last.

    As in vLLM, "right" keeps the first tokens and "left" the last.
    """

    max_tokens: int
    side: TruncationSide


@dataclass(slots=True)
class Encoded:
    """The ids of each input, in order, how many inputs were cut, and the tokens of all."""

    token_ids: list[TokenIds]
    num_truncated: int
    num_tokens: int = field(init=False)

    def __post_init__(self) -> None:
        self.num_tokens = sum(map(len, self.token_ids))


class Tokenizer:
    """A checkpoint's tokenizer, held to the served length and to the embedding table.

    Raises:
        CheckpointError: the file is unreadable, or knows ids past the embedding table.
    """

    def __init__(self, path: Path, *, vocab_size: int, max_model_len: int) -> None:
        file = open_tokenizer_file(path, vocab_size)
        self._tokenizer = file.tokenizer
        self._prefix, self._suffix = file.prefix, file.suffix
        self.vocab_size = vocab_size
        self.max_model_len = max_model_len
        # The longest entry bounds how many characters a token can stand for: one a byte, and normalising
        # makes at most three characters two bytes, but of no entry that comes near the longest.
        self._max_token_chars = file.max_token_chars
        self._reader = TextReader(
            file.tokenizer,
            WordEnds(file.added_tokens),
            max_token_chars=file.max_token_chars,
            most_run=max(_LEAST_RUN_CHARS, max_model_len * file.max_token_chars),
        )

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
        check: Check = lambda: None,
    ) -> Encoded:
        """The ids of each text, or each id list as given; cut where `truncation` says so.

        Raises:
            RequestError: an input is longer than `max_model_len`, holds a lone surrogate, or cannot be cut.
        """
        if isinstance(inputs[0], str):
            encoded = self._encode_texts(
                inputs, truncation, check, add_special_tokens=add_special_tokens
            )
        else:
            encoded = self._slice_ids(inputs, truncation)
        for index, ids in enumerate(encoded.token_ids):
            if len(ids) > self.max_model_len:
                raise self._too_long(f"{len(ids)} input tokens", "input_tokens", len(ids), index)
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

    def tokenize(
        self, text: str, *, add_special_tokens: bool = True, check: Check = lambda: None
    ) -> TokenIds:
        """All ids of a text, of any length.

        Raises:
            RequestError: it holds a run of millions of characters that cannot be parted, or a lone surrogate.
        """
        prefix, suffix = self._special(add_special_tokens=add_special_tokens)
        try:
            own = self._reader.all(text, check)
        except NoWordEndError as error:
            raise RequestError(
                f"The text has more than {error.most} characters without a word's end, so that it cannot be "
                "read in parts; send less of it at a time",
                param="prompt",
            ) from None
        except TypeError as error:
            raise error_of_surrogates([text]) or error from None
        return [*prefix, *own, *suffix]

    def pieces(self, token_ids: TokenIds) -> list[str]:
        """The vocabulary's byte-level pieces."""
        # Not encoding.tokens: the fast encoding leaves the vocabulary's pieces empty there.
        return [str(self._tokenizer.id_to_token(i)) for i in token_ids]

    def detokenize(self, token_ids: TokenIds) -> str:
        """The text of `token_ids`, special tokens kept, unknown ids dropped."""
        return self._tokenizer.decode(token_ids, skip_special_tokens=False)

    def _encode_texts(
        self,
        texts: list[str],
        truncation: Truncation | None,
        check: Check,
        *,
        add_special_tokens: bool,
    ) -> Encoded:
        """The texts' own tokens, cut, with the special ones around them."""
        prefix, suffix = self._special(add_special_tokens=add_special_tokens)
        most, side = truncation or Truncation(self.max_model_len, "right")
        room = max(most - len(prefix) - len(suffix), 0)
        if truncation is None:
            self._refuse_too_many_characters(texts)
        token_ids: list[TokenIds] = []
        num_truncated = 0
        try:
            for own in self._reader.first_or_last(texts, room, side, check):
                is_cut = len(own) > room
                if is_cut and truncation is None:
                    num_tokens = len(prefix) + len(own) + len(suffix)
                    raise self._more_than_fit(texts, len(token_ids), num_tokens)
                token_ids.append([*prefix, *(_keep(own, room, side) if is_cut else own), *suffix])
                num_truncated += is_cut
        except NoWordEndError as error:
            raise _no_place_to_cut(error.most, len(token_ids)) from None
        except TypeError as error:  # what the Rust side says of a str that is not valid Unicode
            raise error_of_surrogates(texts) or error from None
        return Encoded(token_ids, num_truncated)

    def _refuse_too_many_characters(self, texts: list[str]) -> None:
        """Refuse what is too long whatever its tokens are, before it is read."""
        most = self.max_model_len * self._max_token_chars
        for index, text in enumerate(texts):
            if len(text) > most:
                least = -(-len(text) // self._max_token_chars)
                found = f"{len(text)} characters, which are at least {least} tokens"
                raise self._too_long(found, "input_text", len(text), index)

    def _more_than_fit(self, texts: list[str], index: int, num_tokens: int) -> RequestError:
        """A long text was not read to its end."""
        least = "at least " if len(texts[index]) > PIECE_CHARS else ""
        return self._too_long(
            f"{least}{num_tokens} input tokens", "input_tokens", num_tokens, index
        )

    def _slice_ids(self, inputs: list[TokenIds], truncation: Truncation | None) -> Encoded:
        if truncation is None:
            return Encoded(inputs, 0)
        cut = [_keep(ids, truncation.max_tokens, truncation.side) for ids in inputs]
        return Encoded(cut, sum(len(ids) > truncation.max_tokens for ids in inputs))

    def _special(self, *, add_special_tokens: bool) -> tuple[TokenIds, TokenIds]:
        """What stands before and after a text."""
        return (self._prefix, self._suffix) if add_special_tokens else ([], [])

    def _too_long(self, found: str, param: str, value: int, index: int) -> RequestError:
        return RequestError(
            f"This model's maximum context length is {self.max_model_len} tokens. However, input "
            f"{index} of your prompt contains {found}. Please reduce the length of the "
            f"input prompt, or set truncate_prompt_tokens. (parameter={param}, value={value})",
            param=param,
            index=index,
        )


def _keep(ids: TokenIds, count: int, side: TruncationSide) -> TokenIds:
    """At most `count` ids: the first where the right is cut off, the last where the left is."""
    return ids[:count] if side == "right" else ids[max(len(ids) - count, 0) :]


def _no_place_to_cut(most: int, index: int) -> RequestError:
    """Which tokens end a text depends on where its last run begins."""
    return RequestError(
        f"Input {index} cannot be cut on the left: it has more than {most} characters without a word's end, "
        "and its last tokens depend on where they begin. Send less of it, or use truncation_side 'right'",
        param="input",
        index=index,
    )
