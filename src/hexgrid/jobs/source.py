"""Where a job's vectors come from: a model of this process or a server, asked in the same words."""

from typing import NamedTuple

import msgspec

from hexgrid.jobs.embedding import Embed
from hexgrid.wire import EmbeddingRequest, InputType, TruncationSide


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """How texts are to be embedded: fields of POST /v1/embeddings, with their meaning."""

    dimensions: int | None = None
    input_type: InputType | None = None
    prompt_name: str | None = None
    instruction: str | None = None
    truncate_prompt_tokens: int | None = None
    truncation_side: TruncationSide | None = None

    def request(self) -> EmbeddingRequest:
        """The same as a request without an input."""
        return EmbeddingRequest(**msgspec.structs.asdict(self))


class Origin(NamedTuple):
    """What a vector depends on beside its text; equal for all processes that give equal vectors."""

    model: str
    fingerprint: str | None  # of weights and rounding; a server does not tell it
    prompt: str | None  # what stands before each text; None where a server puts it there
    dimensions: int


class Source(NamedTuple):
    """A model that is ready."""

    origin: Origin
    embed: Embed
    num_threads: int  # that may ask at a time
