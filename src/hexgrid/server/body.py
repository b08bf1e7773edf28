"""A request's body -> the struct it should hold, or a SchemaError that names the field and what was found.

The words in brackets at the end of a message (`literal_error`, `int_type`, ...) are pydantic's: clients and
tests written against vLLM look for them.
"""

import json
import re
import typing
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request

from hexgrid.errors import BodyTooLargeError, SchemaError
from hexgrid.headers import header_of
from hexgrid.server.json_depth import depth, is_deeper

Struct = TypeVar("Struct", bound=msgspec.Struct)

_SHOWN_CHARS = 200
# A body that failed is looked at once more, slowly, to say why; not when it is larger than this.
_EXPLAINED_BYTES = 2**20
_PATH = re.compile(r"(?P<problem>.*?)(?: - at `\$(?P<path>.*)`)?", re.DOTALL)
_EXPECTED = re.compile(r"Expected `(?P<expected>[^`]*)`, got `(?P<got>[^`]*)`")
_WORDS = {
    "int": "int_type",
    "str": "string_type",
    "bool": "bool_type",
    "array": "list_type",
    "object": "dict_type",
}


class BodyReader:
    """Reads bodies of at most `max_bytes` bytes and `max_depth` levels."""

    def __init__(self, max_bytes: int, max_depth: int) -> None:
        self._max_bytes = max_bytes
        self._max_depth = max_depth

    async def read(
        self,
        request: Request,
        decoder: "msgspec.json.Decoder[Struct]",
        *,
        any_content_type: bool = False,
    ) -> Struct:
        """The body as what `decoder` decodes; `any_content_type` takes it for JSON whatever its header says.

        Raises:
            SchemaError: not JSON by its content type or its content, nested too deeply, or not of the
                documented form.
            BodyTooLargeError: too many bytes.
            OverloadedError: too many of all requests' bodies together.
        """
        data = await self.read_bytes(request, any_content_type=any_content_type)
        return self.decode(data, decoder)

    async def read_bytes(self, request: Request, *, any_content_type: bool = False) -> bytes:
        """The body as it stands; raises as `read` does for its type and size."""
        if not any_content_type:
            _check_content_type(header_of(request.scope["headers"], b"content-type") or b"")
        return await _read(request, self._max_bytes)

    def decode(self, body: bytes, decoder: "msgspec.json.Decoder[Struct]") -> Struct:
        """What a body holds; raises as `read` does for its content."""
        if is_deeper(body, self._max_depth):
            raise SchemaError(
                f"The body is nested {depth(body)} levels deep; at most {self._max_depth} are taken "
                "(json_invalid)",
                param="body",
            )
        try:
            body.decode()  # msgspec does not look into fields that it skips
            return decoder.decode(body)
        except UnicodeDecodeError as error:
            raise SchemaError(
                f"The body is not valid UTF-8 at byte {error.start} (json_invalid)", param="body"
            ) from None
        except msgspec.ValidationError as error:
            raise _wrong_field(str(error), body, decoder.type) from None
        except msgspec.DecodeError as error:
            raise _not_json(str(error), body) from None


def _check_content_type(content_type: bytes) -> None:
    if content_type.partition(b";")[0].lower() != b"application/json":
        raise SchemaError("Unsupported Media Type: Only 'application/json' is allowed")


async def _read(request: Request, limit: int) -> bytes:
    """The whole body; refused by its header, or as soon as it grows past `limit`."""
    declared = header_of(request.scope["headers"], b"content-length") or b"0"
    chunks: list[bytes] = []
    size = int(declared) if declared.isdigit() else 0
    if size <= limit:
        size = 0
        is_whole = False
        while size <= limit and not is_whole:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
            is_whole = not message.get("more_body", False)
    if size > limit:
        raise BodyTooLargeError(
            f"The body has {size} bytes or more; at most {limit} are taken. Send fewer inputs a request"
        )
    return b"".join(chunks)


def _wrong_field(error: str, body: bytes, struct: type) -> SchemaError:
    match = _PATH.fullmatch(error)
    assert match is not None, "the pattern matches any text"
    problem, path = match["problem"], match["path"] or ""
    keys = [key for key in re.split(r"[.\[\]]+", path) if key]
    param = ".".join(["body", *keys])
    if missing := re.search(r"missing required field `(\w+)`", problem):
        param += f".{missing[1]}"
        return SchemaError(f"{param}: Field required (missing)", param=param)
    if "out of range" in problem:
        return SchemaError(
            f"{param}: the number is larger than any that is taken (number_out_of_range)",
            param=param,
        )
    if expected := _EXPECTED.search(problem):
        wanted = expected["expected"].split(" | ")
        word = _WORDS.get(wanted[0], "type_error")
        if not keys:
            word = "model_attributes_type"
        elif "int" in wanted and expected["got"] == "float":
            word = "int_from_float"
        kinds = " or ".join(wanted)
        found = _found(body, keys) or expected["got"]
        return SchemaError(f"{param}: expected {kinds}, got {found} ({word})", param=param)
    choices = ", ".join(_choices(typing.get_type_hints(struct)[keys[0]]))
    found = _found(body, keys) or "another value"
    return SchemaError(f"{param}: expected {choices}; got {found} (literal_error)", param=param)


def _choices(hint: Any) -> Iterator[str]:
    """The values of every Literal in a type."""
    if typing.get_origin(hint) is typing.Literal:
        yield from map(repr, typing.get_args(hint))
    else:
        for part in typing.get_args(hint):
            yield from _choices(part)


def _not_json(error: str, body: bytes) -> SchemaError:
    if not body:
        return SchemaError("body: Field required (missing)", param="body")
    if place := _lone_surrogate(body):
        return SchemaError(
            f"{place}: a string holds a lone surrogate, which is no valid Unicode text (string_unicode)",
            param=place,
        )
    byte = re.search(r"byte (\d+)", error)
    param = f"body.{byte[1]}" if byte else "body"
    return SchemaError(f"JSON decode error: {error} (json_invalid)", param=param)


def _lone_surrogate(body: bytes) -> str | None:
    """The first string that holds one; Python's own decoder lets it through, and its encoder does not."""
    if len(body) > _EXPLAINED_BYTES:
        return None
    try:
        return next(_not_unicode(json.loads(body.decode()), "body"), None)
    except (ValueError, RecursionError):
        return None


def _not_unicode(value: Any, path: str) -> Iterator[str]:
    """Where in plain data there are strings that are no valid Unicode."""
    match value:
        case str():
            try:
                value.encode()
            except UnicodeEncodeError:
                yield path
        case list():
            for index, item in enumerate(value):
                yield from _not_unicode(item, f"{path}.{index}")
        case dict():
            for key, item in value.items():
                yield from _not_unicode(key, path)
                yield from _not_unicode(item, f"{path}.{key}")


def _found(body: bytes, keys: list[str]) -> str | None:
    """What stands at `keys` in the body, in words; None where that cannot be told cheaply."""
    if len(body) > _EXPLAINED_BYTES:
        return None
    try:
        value = msgspec.json.decode(body)
        for key in keys:
            value = value[int(key)] if isinstance(value, list) else value[key]
    except (msgspec.DecodeError, LookupError, ValueError, TypeError, RecursionError):
        return None
    return _show(value)


def _show(value: Any) -> str:
    """A scalar as it is, a text cut short, a container by its size."""
    match value:
        case list():
            return f"a list of {len(value)} items"
        case dict():
            return f"an object of {len(value)} fields"
        case str() if len(value) > _SHOWN_CHARS:
            return f"the string {value[:_SHOWN_CHARS]!r}..."
        case str():
            return f"the string {value!r}"
        case None:
            return "null"
    return json.dumps(value)
