"""What vLLM's server has besides OpenAI's paths."""

import msgspec


class TokenizeRequest(msgspec.Struct, kw_only=True):
    """Body of POST /tokenize."""

    prompt: str
    model: str | None = None
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None


class TokenizeResponse(msgspec.Struct, kw_only=True):
    """`token_strs` are the vocabulary's byte-level pieces, where asked for."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class DetokenizeRequest(msgspec.Struct, kw_only=True):
    """Body of POST /detokenize."""

    tokens: list[int]
    model: str | None = None


class DetokenizeResponse(msgspec.Struct, kw_only=True):
    """Special tokens are kept, unknown ids dropped."""

    prompt: str


class Version(msgspec.Struct, kw_only=True):
    """Answer of GET /version."""

    version: str
