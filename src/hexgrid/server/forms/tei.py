"""POST /embed and /similarity in the form of Text Embeddings Inference."""

from starlette.responses import Response

from hexgrid.errors import RequestError
from hexgrid.server.answer import Answer, json_response
from hexgrid.server.embedding_call import Cut, EmbeddingCall, Part, Prompt, RequestIds, as_inputs
from hexgrid.server.forms.form import Form
from hexgrid.server.forms.scores import cosines
from hexgrid.tokenizer import Inputs
from hexgrid.wire import (
    TeiDirection,
    TeiEmbedRequest,
    TeiSimilarityParameters,
    TeiSimilarityRequest,
)


def parse_embed(body: TeiEmbedRequest, ids: RequestIds) -> EmbeddingCall:
    """A text, texts, ids or lists of ids."""
    return EmbeddingCall(
        id=ids.of("embd"),
        model=body.model,
        parts=(
            _part(
                "inputs",
                as_inputs(body.inputs, "inputs"),
                prompt_name=body.prompt_name,
                truncate=body.truncate,
                direction=body.truncation_direction,
            ),
        ),
        dimensions=body.dimensions,
        normalize=body.normalize is not False,
        priority=body.priority or 0,
        cache_salt=body.cache_salt,
    )


def render_embed(answer: Answer, _: TeiEmbedRequest) -> Response:
    """Nothing but the vectors."""
    return json_response(answer.vectors)


def parse_similarity(body: TeiSimilarityRequest, ids: RequestIds) -> EmbeddingCall:
    """One sentence, and those that it is compared with."""
    if not body.inputs.sentences:
        raise RequestError("inputs.sentences cannot be empty", param="inputs.sentences")
    options = body.parameters or TeiSimilarityParameters()
    source, others = (
        _part(
            f"inputs.{field}",
            texts,
            prompt_name=options.prompt_name,
            truncate=options.truncate,
            direction=options.truncation_direction,
        )
        for field, texts in (
            ("source_sentence", [body.inputs.source_sentence]),
            ("sentences", body.inputs.sentences),
        )
    )
    return EmbeddingCall(
        id=ids.of("score"),
        model=body.model,
        parts=(source, others),
        priority=body.priority or 0,
        cache_salt=body.cache_salt,
    )


def render_similarity(answer: Answer, _: TeiSimilarityRequest) -> Response:
    """The cosines in the order of the sentences."""
    return json_response(cosines(answer))


def _part(
    field: str,
    inputs: Inputs,
    *,
    prompt_name: str | None,
    truncate: bool | None,
    direction: TeiDirection | None,
) -> Part:
    is_left = (direction or "right").lower() == "left"
    return Part(
        inputs=inputs,
        field=field,
        prompt=None if prompt_name is None else Prompt("prompt_name", (prompt_name,)),
        cut=Cut(side="left" if is_left else "right") if truncate else None,
    )


EMBED = Form(TeiEmbedRequest, parse_embed, render_embed)
SIMILARITY = Form(TeiSimilarityRequest, parse_similarity, render_similarity)
