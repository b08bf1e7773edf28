"""POST /v2/embed in Cohere's form, as vLLM's server has it; int8 and uint8 are ours there."""

from typing import Any

from starlette.responses import Response

from hexgrid.encoding import to_base64
from hexgrid.errors import RequestError, SchemaError
from hexgrid.quantized import quantize
from hexgrid.server.answer import Answer, json_response
from hexgrid.server.conversations import text_of
from hexgrid.server.embedding_call import Cut, EmbeddingCall, Part, Prompt, RequestIds
from hexgrid.server.forms.form import Form
from hexgrid.wire import CohereEmbeddingType, CohereEmbedRequest, TruncationSide

# In the order in which vLLM answers them.
_TYPES: tuple[CohereEmbeddingType, ...] = ("float", "int8", "uint8", "binary", "ubinary", "base64")
# What Cohere's clients say, for a checkpoint with prompts of the usual names.
_USUAL_NAMES = {"search_query": "query", "search_document": "document"}


def parse_embed(body: CohereEmbedRequest, ids: RequestIds) -> EmbeddingCall:
    """One kind of input, its prompt, and how long it may be."""
    given = [name for name in ("texts", "images", "inputs") if getattr(body, name)]
    if len(given) != 1:
        raise SchemaError(
            "Exactly one of texts, images, or inputs must be provided, and it must be non-empty; got "
            f"{' and '.join(given) or 'none'}",
            param="body",
        )
    if body.images:
        raise RequestError("images cannot be embedded: the model reads text only", param="images")
    if body.max_tokens is not None and body.max_tokens < 1:
        raise RequestError(
            f"max_tokens must be at least 1, got {body.max_tokens}", param="max_tokens"
        )
    types = body.embedding_types or ()
    return EmbeddingCall(
        id=ids.of("embd"),
        model=body.model,
        parts=(
            Part(
                inputs=body.texts or _texts(body),
                field=given[0],
                prompt=_prompt(body.input_type),
                cut=_cut(body),
                max_tokens=body.max_tokens,
            ),
        ),
        dimensions=body.output_dimension,
        packs_bits="binary" in types or "ubinary" in types,
        priority=body.priority or 0,
        cache_salt=body.cache_salt,
    )


def render_embed(answer: Answer, body: CohereEmbedRequest) -> Response:
    """Each vector in every form that was asked for."""
    types = set(body.embedding_types or ["float"])
    texts = {"texts": body.texts} if body.texts else {}
    return json_response(
        {
            "id": answer.id,
            "embeddings": {kind: _encoded(answer, kind) for kind in _TYPES if kind in types},
            **texts,
            "meta": {
                "api_version": {"version": "2"},
                "billed_units": {"input_tokens": answer.num_tokens, "image_tokens": 0},
            },
            "response_type": "embeddings_by_type",
        }
    )


def _texts(body: CohereEmbedRequest) -> list[str]:
    return [
        each.content if isinstance(each.content, str) else text_of(each.content, "inputs")
        for each in body.inputs or ()
    ]


def _prompt(input_type: str | None) -> Prompt | None:
    if input_type is None:
        return None
    return Prompt("input_type", (input_type, _USUAL_NAMES.get(input_type, input_type)))


def _cut(body: CohereEmbedRequest) -> Cut | None:
    """END is the default, unlike on the other paths: a long text is cut, which a header tells."""
    if body.truncate == "NONE":
        return None
    side: TruncationSide = "left" if body.truncate == "START" else "right"
    return Cut(body.max_tokens, side, "max_tokens", at_most=True)


def _encoded(answer: Answer, kind: CohereEmbeddingType) -> list[Any]:
    match kind:
        case "float":
            return list(answer.vectors)
        case "base64":
            return [to_base64(vector, "float32", "little") for vector in answer.vectors]
        case _:
            return list(quantize(answer.vectors, kind))


EMBED = Form(CohereEmbedRequest, parse_embed, render_embed)
