"""/v1/files and /v1/batches, in the form of OpenAI's API. What is not the key's own is not there."""

import shutil
import time
from typing import IO, Any

import msgspec
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.types import Message

from hexgrid.errors import (
    BodyTooLargeError,
    HexgridError,
    RequestError,
    ResourceNotFoundError,
    SchemaError,
)
from hexgrid.server.auth import client_of
from hexgrid.server.batches.objects import (
    BATCHES_AT_ONCE,
    BATCHES_BY_DEFAULT,
    COMPLETION_WINDOW,
    ENDPOINT,
    EXPIRES_SECONDS,
    FILES_AT_ONCE,
    WINDOW_SECONDS,
    Batch,
    BatchList,
    BatchRequest,
    ExpiresAfter,
    FileDeleted,
    FileList,
    FileObject,
    new_id,
    page,
)
from hexgrid.server.batches.store import BatchStore, Work
from hexgrid.server.batches.worker import BatchWorker
from hexgrid.server.body import BodyReader
from hexgrid.server.tokenization import json_response

_MAX_FORM_BYTES = 65_536  # around the file
_MAX_FORM_FIELDS = 16
_MAX_FILENAME_CHARS = 255
_MAX_METADATA, _MAX_METADATA_KEY, _MAX_METADATA_VALUE = 16, 64, 512


class BatchRoutes:
    """The endpoints; without a store each says that there are none."""

    def __init__(
        self,
        store: BatchStore | None,
        worker: BatchWorker | None,
        bodies: BodyReader,
        *,
        max_file_bytes: int,
    ) -> None:
        self._store_or_none = store
        self._worker_or_none = worker
        self._bodies = bodies
        self._max_file_bytes = max_file_bytes
        self._create = msgspec.json.Decoder(BatchRequest)

    async def upload(self, request: Request) -> Response:
        """POST /v1/files."""
        store, worker = self._parts()
        content_type = request.headers.get("content-type", "")
        if content_type.partition(";")[0].strip().lower() != "multipart/form-data":
            raise SchemaError(
                f"Content-Type must be multipart/form-data, got {content_type[:100]!r}",
                param="body",
            )
        limited = Request(request.scope, _limited(request, self._max_file_bytes + _MAX_FORM_BYTES))
        try:
            async with limited.form(
                max_files=1, max_fields=_MAX_FORM_FIELDS, max_part_size=_MAX_FORM_BYTES
            ) as form:
                upload, fields = form.get("file"), dict(form)
                if not isinstance(upload, UploadFile):
                    raise SchemaError(
                        "body.file: Field required (missing): the form holds no file",
                        param="body.file",
                    )
                return json_response(
                    await worker.call(self._keep, store, _owner(request), upload, fields)
                )
        except HTTPException as error:  # of the form's parser
            raise SchemaError(
                f"The body is no form of multipart/form-data: {error.detail}", param="body"
            ) from None

    async def files(self, request: Request) -> Response:
        """GET /v1/files."""
        store, worker = self._parts()
        limit = _limit(request, FILES_AT_ONCE, default=FILES_AT_ONCE)
        order = request.query_params.get("order", "desc")
        if order not in ("asc", "desc"):
            raise RequestError(f"order must be asc or desc, got {order[:100]!r}", param="order")

        def find() -> tuple[list[FileObject], bool]:
            return store.files(
                _owner(request),
                after=request.query_params.get("after"),
                limit=limit,
                newest_first=order == "desc",
                purpose=request.query_params.get("purpose"),
            )

        return json_response(FileList(**page(*await worker.call(find))))

    async def file(self, request: Request) -> Response:
        """GET /v1/files/{file_id}."""
        return json_response(await self._file(request))

    async def content(self, request: Request) -> Response:
        """GET /v1/files/{file_id}/content."""
        found = await self._file(request)
        store, _ = self._parts()
        return FileResponse(store.content(found.id), media_type="application/octet-stream")

    async def delete(self, request: Request) -> Response:
        """DELETE /v1/files/{file_id}."""
        store, worker = self._parts()
        file_id = request.path_params["file_id"]
        await worker.call(store.delete_file, _owner(request), file_id)
        return json_response(FileDeleted(id=file_id))

    async def create(self, request: Request) -> Response:
        """POST /v1/batches."""
        store, worker = self._parts()
        body = await self._bodies.read(request, self._create)
        _check(body)
        owner = _owner(request)
        batch = await worker.call(_new_batch, store, owner, body)
        worker.wake(owner)
        return json_response(batch)

    async def batches(self, request: Request) -> Response:
        """GET /v1/batches."""
        store, worker = self._parts()
        limit = _limit(request, BATCHES_AT_ONCE, default=BATCHES_BY_DEFAULT)

        def find() -> tuple[list[Batch], bool]:
            after = request.query_params.get("after")
            return store.batches(_owner(request), after=after, limit=limit)

        found, has_more = await worker.call(find)
        return json_response(BatchList(**page([worker.current(each) for each in found], has_more)))

    async def batch(self, request: Request) -> Response:
        """GET /v1/batches/{batch_id}."""
        _, worker = self._parts()
        return json_response(worker.current(await self._batch(request)))

    async def cancel(self, request: Request) -> Response:
        """POST /v1/batches/{batch_id}/cancel."""
        _, worker = self._parts()
        batch = await self._batch(request)
        if worker.current(batch).status not in ("validating", "in_progress", "cancelling"):
            raise RequestError(
                f"Cannot cancel a batch with status '{batch.status}'.", param="batch_id"
            )
        return json_response(await worker.cancel(_owner(request), batch))

    def _parts(self) -> tuple[BatchStore, BatchWorker]:
        if self._store_or_none is None or self._worker_or_none is None:
            raise ResourceNotFoundError(
                "This server keeps no files and batches: it was started without --batch-dir"
            )
        return self._store_or_none, self._worker_or_none

    async def _file(self, request: Request) -> FileObject:
        store, worker = self._parts()
        return await worker.call(store.file, _owner(request), request.path_params["file_id"])

    async def _batch(self, request: Request) -> Batch:
        store, worker = self._parts()
        return await worker.call(store.batch, _owner(request), request.path_params["batch_id"])

    def _keep(
        self, store: BatchStore, owner: str, upload: UploadFile, fields: dict[str, Any]
    ) -> FileObject:
        """The uploaded file, kept; blocking."""
        purpose = fields.get("purpose")
        if purpose != "batch":
            raise RequestError(
                f"purpose must be 'batch', the only one that files are for here; got {str(purpose)[:100]!r}",
                param="purpose",
            )
        expires = _expires_of(fields)
        size = upload.size or 0
        if size > self._max_file_bytes:
            raise _too_large(self._max_file_bytes)
        store.check_room(size)
        file_id = new_id("file-")
        path = store.content(file_id)
        try:
            with path.open("xb") as target:
                source: IO[bytes] = upload.file
                shutil.copyfileobj(source, target)
            return store.add_file(
                owner,
                "batch",
                (upload.filename or "upload")[:_MAX_FILENAME_CHARS],
                seconds=None if expires is None else expires.seconds,
                file_id=file_id,
            )
        except (HexgridError, OSError):
            path.unlink(missing_ok=True)
            raise


def _new_batch(store: BatchStore, owner: str, body: BatchRequest) -> Batch:
    """A batch of a file that is there; blocking."""
    found = store.file(owner, body.input_file_id)
    if found.purpose != "batch":
        raise RequestError(
            f"input_file_id must be of a file with purpose 'batch'; that of {found.id} is "
            f"'{found.purpose}'",
            param="input_file_id",
        )
    now = int(time.time())
    batch = Batch(
        id=new_id("batch_"),
        input_file_id=found.id,
        created_at=now,
        expires_at=now + WINDOW_SECONDS,
        metadata=body.metadata,
    )
    after = body.output_expires_after
    work = Work(
        new_id("file-"), new_id("file-"), store.room.seconds if after is None else after.seconds
    )
    store.add_batch(owner, batch, work)
    return batch


def _check(body: BatchRequest) -> None:
    if body.endpoint != ENDPOINT:
        raise RequestError(
            f"endpoint must be {ENDPOINT}, got {body.endpoint[:100]!r}", param="endpoint"
        )
    if body.completion_window != COMPLETION_WINDOW:
        raise RequestError(
            f"completion_window must be {COMPLETION_WINDOW}, got {body.completion_window[:100]!r}",
            param="completion_window",
        )
    metadata = body.metadata or {}
    if len(metadata) > _MAX_METADATA:
        raise RequestError(
            f"metadata takes at most {_MAX_METADATA} pairs, got {len(metadata)}", param="metadata"
        )
    for key, value in metadata.items():
        if len(key) > _MAX_METADATA_KEY or len(value) > _MAX_METADATA_VALUE:
            raise RequestError(
                f"metadata takes keys of at most {_MAX_METADATA_KEY} characters and values of at most "
                f"{_MAX_METADATA_VALUE}; {key[:_MAX_METADATA_KEY]!r} has {len(key)} and {len(value)}",
                param="metadata",
            )
    if body.output_expires_after is not None:
        _check_expires(body.output_expires_after, "output_expires_after")


def _expires_of(fields: dict[str, Any]) -> ExpiresAfter | None:
    """The form's expires_after[anchor] and expires_after[seconds]."""
    anchor, seconds = (fields.get(f"expires_after[{name}]") for name in ("anchor", "seconds"))
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at" or not str(seconds).isdecimal():
        raise RequestError(
            "expires_after must have the anchor 'created_at' and a number of seconds",
            param="expires_after",
        )
    expires = ExpiresAfter(anchor="created_at", seconds=int(str(seconds)[:20]))
    _check_expires(expires, "expires_after")
    return expires


def _check_expires(expires: ExpiresAfter, param: str) -> None:
    low, high = EXPIRES_SECONDS
    if not low <= expires.seconds <= high:
        raise RequestError(
            f"{param}.seconds must be from {low} to {high}, got {expires.seconds}", param=param
        )


def _limit(request: Request, most: int, *, default: int) -> int:
    said = request.query_params.get("limit", str(default))
    if not (said.isdecimal() and len(said) < 10 and 1 <= int(said) <= most):
        raise RequestError(f"limit must be from 1 to {most}, got {said[:100]!r}", param="limit")
    return int(said)


def _owner(request: Request) -> str:
    """Whose a file is: the name of the key; the operator's own keys and nobody count as one."""
    return client_of(request.scope).name or ""


def _limited(request: Request, most: int) -> Any:
    """`receive` that gives up a body of more than `most` bytes."""
    num_bytes = 0

    async def receive() -> Message:
        nonlocal num_bytes
        message = await request.receive()
        num_bytes += len(message.get("body", b""))
        if num_bytes > most:
            raise _too_large(most - _MAX_FORM_BYTES)
        return message

    return receive


def _too_large(most: int) -> BodyTooLargeError:
    return BodyTooLargeError(f"The file has more than {most} bytes. Send it in several parts")
