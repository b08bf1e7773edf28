"""POST /score and /rerank: cosines of embeddings, in the form of vLLM's server."""

import numpy as np
from numpy.typing import NDArray
from starlette.responses import Response

from hexgrid.errors import RequestError, SchemaError
from hexgrid.server.answer import Answer, json_response, listing
from hexgrid.server.embedding_call import Cut, EmbeddingCall, Part, Prompt, RequestIds
from hexgrid.server.forms.form import Form
from hexgrid.wire import RerankRequest, ScoreRequest, Scoring, Texts

# By which names the two sides may come.
PAIRS = (
    ("queries", "documents"),
    ("queries", "items"),
    ("data_1", "data_2"),
    ("text_1", "text_2"),
)


def cosines(answer: Answer) -> NDArray[np.float32]:
    """Of the first part's vectors, or its only one, with those of the second: [N]. They have length 1."""
    queries, documents = np.split(answer.vectors, [answer.part_sizes[0]])
    scores: NDArray[np.float32] = (queries * documents).sum(axis=1)
    return scores


def parse_score(body: ScoreRequest, ids: RequestIds) -> EmbeddingCall:
    """Both sides, by whichever pair of names they came."""
    (query_field, queries), (document_field, documents) = _sides(body)
    if not queries or not documents:
        raise RequestError(
            "At least one text_pair element must be given",
            param=document_field if queries else query_field,
        )
    if len(queries) not in (1, len(documents)):
        raise RequestError(
            f"Input lengths must be either 1:1, 1:N or N:N, got {len(queries)}:{len(documents)}",
            param=document_field,
        )
    return _call(
        body,
        ids,
        _part(body, query_field, queries, is_query=True),
        _part(body, document_field, documents),
    )


def render_score(answer: Answer, _: ScoreRequest) -> Response:
    """The cosines in the order of the pairs."""
    data = [
        {"index": index, "object": "score", "score": score}
        for index, score in enumerate(cosines(answer))
    ]
    return json_response(listing(answer, data))


def parse_rerank(body: RerankRequest, ids: RequestIds) -> EmbeddingCall:
    """One query, and at least one document."""
    documents = _as_list(body.documents)
    if not documents:
        raise RequestError("At least one document must be given", param="documents")
    if body.top_n is not None and body.top_n < 0:
        raise SchemaError(
            f"body.top_n: expected 0 (all) or more, got {body.top_n} (greater_than_equal)",
            param="body.top_n",
        )
    return _call(
        body,
        ids,
        _part(body, "query", [body.query], is_query=True),
        _part(body, "documents", documents),
    )


def render_rerank(answer: Answer, body: RerankRequest) -> Response:
    """The documents, best first; equal ones in their own order."""
    scores, documents = cosines(answer), _as_list(body.documents)
    order = np.argsort(-scores, kind="stable")[: body.top_n or len(scores)].tolist()
    tokens = answer.num_tokens
    return json_response(
        {
            "id": answer.id,
            "model": answer.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            "results": [
                {
                    "index": index,
                    "document": {"text": documents[index], "multi_modal": None},
                    "relevance_score": scores[index],
                }
                for index in order
            ],
        }
    )


def _sides(body: ScoreRequest) -> tuple[tuple[str, list[str]], tuple[str, list[str]]]:
    for left, right in PAIRS:
        sides = getattr(body, left), getattr(body, right)
        if None not in sides:
            return (left, _as_list(sides[0])), (right, _as_list(sides[1]))
    names = ", ".join(f"{left} and {right}" for left, right in PAIRS)
    raise SchemaError(f"body: Field required (missing): one pair of {names}", param="body")


def _as_list(texts: Texts) -> list[str]:
    return [texts] if isinstance(texts, str) else texts


def _part(body: Scoring, field: str, texts: list[str], *, is_query: bool = False) -> Part:
    asked = is_query and body.instruction is not None
    return Part(
        inputs=texts,
        field=field,
        prompt=Prompt("instruction", instruction=body.instruction) if asked else None,
        cut=_cut(body, is_query=is_query),
    )


def _cut(body: Scoring, *, is_query: bool) -> Cut | None:
    """By the limit of its side, else by that of both; 0 is none."""
    side = body.truncation_side or "right"
    param = "max_tokens_per_query" if is_query else "max_tokens_per_doc"
    most: int | None = getattr(body, param)
    if most:
        return Cut(most, side, param)
    if body.truncate_prompt_tokens is None:
        return None
    return Cut(body.truncate_prompt_tokens, side)


def _call(body: Scoring, ids: RequestIds, *parts: Part) -> EmbeddingCall:
    return EmbeddingCall(
        id=ids.of("score", body.request_id),
        model=body.model,
        parts=parts,
        priority=body.priority or 0,
        cache_salt=body.cache_salt,
    )


SCORE = Form(ScoreRequest, parse_score, render_score)
RERANK = Form(RerankRequest, parse_rerank, render_rerank)
