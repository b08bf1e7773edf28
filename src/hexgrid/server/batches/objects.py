"""The objects of /v1/files and /v1/batches, as OpenAI's API has them."""

import secrets
import time
from typing import Any, Literal

import msgspec

ENDPOINT = "/v1/embeddings"
COMPLETION_WINDOW, WINDOW_SECONDS = "24h", 86_400
EXPIRES_SECONDS = (3_600, 2_592_000)  # that a client may have a file kept: least and most
# Of one answer.
FILES_AT_ONCE, BATCHES_AT_ONCE, BATCHES_BY_DEFAULT = 10_000, 100, 20

Purpose = Literal["batch", "batch_output"]
Status = Literal[
    "validating",
    "failed",
    "in_progress",
    "finalizing",
    "completed",
    "expired",
    "cancelling",
    "cancelled",
]
UNFINISHED: tuple[Status, ...] = ("validating", "in_progress", "finalizing", "cancelling")


class FileObject(msgspec.Struct, kw_only=True):
    """A file that was uploaded, or that holds the results of a batch."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: Purpose
    status: Literal["processed"] = "processed"
    status_details: None = None


class FileList(msgspec.Struct, kw_only=True):
    """Answer of GET /v1/files."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(msgspec.Struct, kw_only=True):
    """Answer of DELETE /v1/files/{file_id}."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class ExpiresAfter(msgspec.Struct, kw_only=True):
    """When a file goes away, in seconds after it was made."""

    anchor: Literal["created_at"]
    seconds: int


class BatchRequest(msgspec.Struct, kw_only=True):
    """Body of POST /v1/batches."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None = None
    output_expires_after: ExpiresAfter | None = None


class BatchError(msgspec.Struct, kw_only=True):
    """Why a batch failed; `line` counts from 1."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class BatchErrors(msgspec.Struct, kw_only=True):
    """At most a few of them."""

    object: Literal["list"] = "list"
    data: list[BatchError]


class RequestCounts(msgspec.Struct, kw_only=True):
    """Requests of a batch."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class Batch(msgspec.Struct, kw_only=True):
    """A batch; times are Unix seconds."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str = ENDPOINT
    errors: BatchErrors | None = None
    input_file_id: str
    completion_window: str = COMPLETION_WINDOW
    status: Status = "validating"
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int
    in_progress_at: int | None = None
    expires_at: int
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: RequestCounts = msgspec.field(default_factory=RequestCounts)
    metadata: dict[str, str] | None = None

    def turn(self, status: Status) -> None:
        """Change the status, and note when."""
        self.status = status
        if status != "validating":
            setattr(self, f"{status}_at", int(time.time()))


class BatchList(msgspec.Struct, kw_only=True):
    """Answer of GET /v1/batches."""

    object: Literal["list"] = "list"
    data: list[Batch]
    first_id: str | None
    last_id: str | None
    has_more: bool


def page(objects: list[Any], has_more: bool) -> dict[str, Any]:  # noqa: FBT001
    """What a list says of itself, beside its items."""
    ids = [each.id for each in objects]
    return {
        "data": objects,
        "first_id": ids[0] if ids else None,
        "last_id": ids[-1] if ids else None,
        "has_more": has_more,
    }


def new_id(prefix: str) -> str:
    """Nobody can guess it, though that alone protects nothing."""
    return prefix + secrets.token_hex(12)
