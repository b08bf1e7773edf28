"""POST /api/embed and the older /api/embeddings in Ollama's form.

As there, an input that is left out or empty only asks whether the model is there, and a body is JSON whatever
its content type says: the documented examples send none.
"""

from starlette.responses import Response

from hexgrid.errors import RequestError
from hexgrid.server.answer import Answer, json_response
from hexgrid.server.embedding_call import Cut, EmbeddingCall, Part, RequestIds
from hexgrid.server.forms.form import Form
from hexgrid.wire import OllamaEmbeddingsRequest, OllamaEmbedRequest, OllamaOptions

_LATEST = ":latest"


def parse_embed(body: OllamaEmbedRequest, ids: RequestIds) -> EmbeddingCall:
    """Texts, cut unless that is forbidden."""
    inputs = [body.input] if isinstance(body.input, str) and body.input else body.input or []
    assert isinstance(inputs, list)
    most = _context(body.options)
    is_cut = body.truncate is not False
    return EmbeddingCall(
        id=ids.of("embd"),
        model=_name(body.model),
        parts=(
            Part(
                inputs=inputs,
                cut=Cut(most, param="options.num_ctx", at_most=True) if is_cut else None,
                max_tokens=most,
            ),
        ),
        dimensions=body.dimensions or None,  # 0 is the default of clients in Go
        priority=body.priority or 0,
        cache_salt=body.cache_salt,
        may_be_empty=True,
    )


def render_embed(answer: Answer, body: OllamaEmbedRequest) -> Response:
    """The vectors, and what they took; nothing is loaded for them."""
    return json_response(
        {
            "model": body.model or answer.model,
            "embeddings": answer.vectors,
            "total_duration": int(answer.seconds * 1e9),
            "load_duration": 0,
            "prompt_eval_count": answer.num_tokens,
        }
    )


def parse_embeddings(body: OllamaEmbeddingsRequest, ids: RequestIds) -> EmbeddingCall:
    """One text, not cut; its hidden state is not normalised."""
    return EmbeddingCall(
        id=ids.of("embd"),
        model=_name(body.model),
        parts=(
            Part(
                inputs=[body.prompt] if body.prompt else [],
                field="prompt",
                max_tokens=_context(body.options),
            ),
        ),
        normalize=False,
        priority=body.priority or 0,
        cache_salt=body.cache_salt,
        may_be_empty=True,
    )


def render_embeddings(answer: Answer, _: OllamaEmbeddingsRequest) -> Response:
    """One vector, or none."""
    return json_response({"embedding": answer.vectors[0] if len(answer.vectors) else []})


def _context(options: OllamaOptions | None) -> int | None:
    most = None if options is None else options.num_ctx
    if most is not None and most < 1:
        raise RequestError(
            f"options.num_ctx must be at least 1, got {most}", param="options.num_ctx"
        )
    return most


def _name(model: str | None) -> str | None:
    """Ollama's clients may add the tag that a name without one has."""
    return model.removesuffix(_LATEST) if model else model


EMBED = Form(OllamaEmbedRequest, parse_embed, render_embed, any_content_type=True)
EMBEDDINGS = Form(
    OllamaEmbeddingsRequest, parse_embeddings, render_embeddings, any_content_type=True
)
