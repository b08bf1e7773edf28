"""OpenAI's embeddings and models, in the form of vLLM's server; fields marked "ours" are hexgrid's own."""

from typing import Any, Literal

import msgspec

from hexgrid.wire.shared import Message, QuantizedDtype

EncodingFormat = Literal["float", "base64", "bytes", "bytes_only"]
EmbedDtype = Literal["float32", "float16", "bfloat16", "fp8_e4m3", "fp8_e5m2"]
Endianness = Literal["native", "big", "little"]
TruncationSide = Literal["left", "right"]
InputType = Literal["query", "document"]
# A text, texts, ids, lists of ids; a conversation or several of them.
Input = str | list[str | int | Message | list[int | Message]]

Count = msgspec.Meta(ge=0)


class EmbeddingRequest(msgspec.Struct, kw_only=True):
    """Body of POST /v1/embeddings."""

    input: Input | None = None
    model: str | None = None
    encoding_format: EncodingFormat | None = None
    dimensions: int | None = None
    truncate_prompt_tokens: int | None = None
    truncation_side: TruncationSide | None = None
    add_special_tokens: bool | None = None
    use_activation: bool | None = None
    # Ours are the integers, which act with every encoding_format.
    embed_dtype: EmbedDtype | QuantizedDtype | None = None
    endianness: Endianness | None = None
    request_id: str | None = None
    priority: int | None = None
    user: str | None = None
    padding: Literal["max_length", "do_not_pad"] | None = None
    cache_salt: str | None = None
    input_type: InputType | None = None  # ours: the checkpoint's prompt for queries or documents
    prompt_name: str | None = None  # ours: the checkpoint's prompt of that name
    instruction: str | None = None  # ours: put in front as "Instruct: ...\nQuery:"
    messages: list[Message | list[Message]] | None = (
        None  # a conversation or several, in place of `input`
    )
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    # Known elsewhere and refused here, so that nobody believes they acted.
    media_io_kwargs: dict[str, msgspec.Raw] | None = None
    mm_processor_kwargs: dict[str, msgspec.Raw] | None = None
    normalize: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    task: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class Embedding(msgspec.Struct, kw_only=True):
    """One vector: numbers (integers where `embed_dtype` asks for them), or base64 of the raw vector."""

    index: int
    object: Literal["embedding"] = "embedding"
    embedding: list[float] | str


class Usage(msgspec.Struct, kw_only=True):
    """Tokens run through the model, the EOS included, after truncation."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: None = None
    completion_tokens_details: None = None


class EmbeddingResponse(msgspec.Struct, kw_only=True):
    """Answer of POST /v1/embeddings for the encodings float and base64."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[Embedding]
    usage: Usage


class ModelPermission(msgspec.Struct, kw_only=True):
    """Kept for clients that expect it; it grants and denies nothing."""

    id: str
    created: int
    object: Literal["model_permission"] = "model_permission"
    allow_create_engine: bool = False
    allow_sampling: bool = True
    allow_logprobs: bool = True
    allow_search_indices: bool = False
    allow_view: bool = True
    allow_fine_tuning: bool = False
    organization: str = "*"
    group: None = None
    is_blocking: bool = False


class ModelCard(msgspec.Struct, kw_only=True):
    """One served name; `embedding_dimension` is ours."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "hexgrid"
    root: str
    parent: None = None
    max_model_len: int
    embedding_dimension: int
    permission: list[ModelPermission]


class ModelList(msgspec.Struct, kw_only=True):
    """Answer of GET /v1/models."""

    object: Literal["list"] = "list"
    data: list[ModelCard]
