"""POST /tokenize and /detokenize, so that clients can count and look."""

from concurrent.futures import Executor

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hexgrid.errors import RequestError, SchemaError
from hexgrid.server.auth import client_of
from hexgrid.server.body import BodyReader
from hexgrid.server.conversations import Chat, Chats, conversations_of
from hexgrid.server.registry import Models
from hexgrid.server.request_record import record_of
from hexgrid.server.waiting import in_thread
from hexgrid.text_reader import Check
from hexgrid.tokenizer import Tokenizer
from hexgrid.wire import (
    DetokenizeRequest,
    DetokenizeResponse,
    TokenIds,
    TokenizeRequest,
    TokenizeResponse,
)

# What the tokenizer's Rust side can hold; larger numbers are nobody's token.
_LARGEST_ID = 2**32 - 1


class TokenizationRoutes:
    """Both endpoints and what they share between requests."""

    def __init__(self, models: Models, bodies: BodyReader, threads: Executor, chats: Chats) -> None:
        self._models = models
        self._chats = chats
        self._bodies = bodies
        self._threads = threads
        self._tokenize = msgspec.json.Decoder(TokenizeRequest)
        self._detokenize = msgspec.json.Decoder(DetokenizeRequest)

    async def tokenize(self, request: Request) -> Response:
        """The ids of one text of any length, or of the text of one conversation."""
        body = await self._bodies.read(request, self._tokenize)
        chat = _chat(body)
        model = self._models.find(body.model, client_of(request.scope))
        record_of(request.scope).model = model.name
        if chat is not None:
            (text,) = await self._chats.texts(chat, model)
            body = msgspec.structs.replace(
                body, prompt=text, add_special_tokens=bool(body.add_special_tokens)
            )
        ids, pieces = await in_thread(self._threads, _tokenize, body, model.tokenizer)
        return json_response(
            TokenizeResponse(
                count=len(ids),
                max_model_len=model.max_model_len,
                tokens=ids,
                token_strs=pieces,
            )
        )

    async def detokenize(self, request: Request) -> Response:
        """The text of some ids."""
        body = await self._bodies.read(request, self._detokenize)
        model = self._models.find(body.model, client_of(request.scope))
        record_of(request.scope).model = model.name
        for index, token_id in enumerate(body.tokens):
            if not 0 <= token_id <= _LARGEST_ID:
                raise RequestError(
                    f"tokens[{index}] must be from 0 to {_LARGEST_ID}, got {token_id}",
                    param="tokens",
                )
        text = await in_thread(self._threads, lambda _: model.tokenizer.detokenize(body.tokens))
        return json_response(DetokenizeResponse(prompt=text))


def _chat(body: TokenizeRequest) -> Chat | None:
    """The conversation, if it is one, with the beginning of an answer unless that is refused."""
    if body.messages is None:
        if body.prompt is None:
            raise SchemaError("body.prompt: Field required (missing)", param="body.prompt")
        return None
    return Chat(
        conversations=conversations_of(body.messages, "messages"),
        add_generation_prompt=body.add_generation_prompt is not False,
        continue_final_message=bool(body.continue_final_message),
        template=body.chat_template,
        template_kwargs=body.chat_template_kwargs,
    )


def _tokenize(
    check: Check, body: TokenizeRequest, tokenizer: Tokenizer
) -> tuple[TokenIds, list[str] | None]:
    """Ids, and their pieces where they are asked for; blocking."""
    assert body.prompt is not None
    ids = tokenizer.tokenize(
        body.prompt, add_special_tokens=body.add_special_tokens is not False, check=check
    )
    return ids, tokenizer.pieces(ids) if body.return_token_strs else None


def json_response(struct: msgspec.Struct) -> Response:
    """A wire struct as a response."""
    return Response(msgspec.json.encode(struct), media_type="application/json")
