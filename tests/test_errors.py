"""The error tree: what each error is on the wire, and that the module's drawing of it is true."""

import re

import pytest

from hexgrid import errors
from hexgrid.errors import (
    HexgridError,
    OverloadedError,
    RequestError,
    TooManyInputsError,
    UnauthorizedError,
)


def all_errors(base: type[HexgridError] = HexgridError) -> list[type[HexgridError]]:
    children = [child for child in base.__subclasses__() if child.__module__ == errors.__name__]
    return [base, *(error for child in children for error in all_errors(child))]


@pytest.mark.parametrize(
    ("name", "status", "type_"),
    [
        ("HexgridError", 500, "InternalServerError"),
        ("ConfigError", 500, "InternalServerError"),
        ("CheckpointError", 500, "InternalServerError"),
        ("DataError", 500, "InternalServerError"),
        ("RemoteError", 500, "InternalServerError"),
        ("UnreachableError", 500, "InternalServerError"),
        ("RequestError", 400, "BadRequestError"),
        ("SchemaError", 400, "Bad Request"),
        ("TooManyInputsError", 400, "BadRequestError"),
        ("UnauthorizedError", 401, "AuthenticationError"),
        ("ModelNotFoundError", 404, "NotFoundError"),
        ("ResourceNotFoundError", 404, "NotFoundError"),
        ("BatchStoreError", 500, "InternalServerError"),
        ("BodyTooLargeError", 413, "RequestEntityTooLargeError"),
        ("ForbiddenError", 403, "PermissionDeniedError"),
        ("RateLimitedError", 429, "RateLimitError"),
        ("OverloadedError", 429, "RateLimitError"),
        ("KeyStoreError", 503, "ServiceUnavailableError"),
        ("UsageError", 500, "InternalServerError"),
        ("EngineError", 500, "InternalServerError"),
        ("NonFiniteError", 500, "InternalServerError"),
        ("InputMemoryError", 503, "ServiceUnavailableError"),
        ("EngineClosedError", 503, "ServiceUnavailableError"),
        ("SlowRequestError", 408, "RequestTimeoutError"),
        ("UrlTooLongError", 414, "UriTooLongError"),
        ("HeadersTooLargeError", 431, "RequestHeaderFieldsTooLargeError"),
        ("TooManyConnectionsError", 503, "ServiceUnavailableError"),
        ("EngineUnwellError", 503, "ServiceUnavailableError"),
        ("EngineDeadError", 503, "ServiceUnavailableError"),
        ("NotReadyError", 503, "ServiceUnavailableError"),
        ("DeadlineError", 504, "GatewayTimeoutError"),
    ],
)
def test_an_error_knows_its_status_and_type(name: str, status: int, type_: str) -> None:
    error: type[HexgridError] = getattr(errors, name)

    assert (error.status, error.type) == (status, type_)


def test_the_drawing_shows_every_error_under_its_base() -> None:
    assert errors.__doc__
    drawn: dict[str, int] = {  # name -> depth in the tree
        name: len(indent) // 4
        for indent, name in re.findall(r"^([ |+-]*)(\w+Error)\b", errors.__doc__, re.MULTILINE)
    }

    assert drawn == {error.__name__: len(error.__mro__) - 4 for error in all_errors()}


def test_the_drawing_shows_every_status_of_its_own() -> None:
    assert errors.__doc__
    drawn = dict(re.findall(r"(\w+Error) +(\d{3})\b", errors.__doc__))

    assert drawn == {
        error.__name__: str(error.status)
        for error in all_errors()
        if error is HexgridError or error.status != 500 or error.__name__ in drawn
    }


def test_an_error_carries_its_message_field_and_input() -> None:
    error = RequestError("too long", param="input", index=3)

    assert (str(error), error.message, error.param, error.index) == (
        "too long",
        "too long",
        "input",
        3,
    )


def test_most_errors_add_no_header() -> None:
    assert RequestError("no").headers == {}


def test_overload_says_when_to_come_back() -> None:
    assert OverloadedError("full", retry_after=7).headers == {"retry-after": "7"}


def test_too_many_inputs_say_how_many_would_do() -> None:
    assert TooManyInputsError("no", max_inputs=7).headers == {"x-hexgrid-max-inputs": "7"}
    assert TooManyInputsError("no", max_tokens=9).headers == {"x-hexgrid-max-tokens": "9"}


def test_a_missing_key_names_the_scheme() -> None:
    assert UnauthorizedError("who").headers == {"www-authenticate": "Bearer"}
