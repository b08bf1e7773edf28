"""One call for the vectors of many inputs: which requests it takes, where their vectors go. No I/O.

Several workers, tasks or threads, hold a conversation each until no inputs are left.
"""

from collections.abc import Mapping
from typing import Any

from hexgrid.client.answers import Embedded, read_embeddings
from hexgrid.client.batching import Batch, Batches
from hexgrid.client.collecting import Collected
from hexgrid.client.exchange import Conversation, exchange
from hexgrid.client.failures import in_call
from hexgrid.client.peer import Peer
from hexgrid.client.progress import OnProgress
from hexgrid.errors import BodyTooLargeError, HexgridError, TooManyInputsError
from hexgrid.wire import TokenIds


class EmbedJob:
    """See `worker`; `result` is for when all workers have come to their end."""

    def __init__(
        self,
        inputs: list[str] | list[TokenIds],
        fields: Mapping[str, Any],
        peer: Peer,
        on_progress: OnProgress,
    ) -> None:
        self._inputs = inputs
        self._fields = fields
        self._peer = peer
        self._batches = Batches(inputs, peer.limits)
        self._collected = Collected(len(inputs), on_progress)

    @property
    def num_requests(self) -> int:
        """About how many there will be."""
        return self._batches.count()

    def worker(self) -> Conversation[None]:
        """Embeds batches until none is left.

        Raises:
            HexgridError: the first failure that lasts; `index` is that of the call's inputs.
        """
        while (batch := self._batches.take()) is not None:
            try:
                yield from self._embed(batch)
            except HexgridError as error:
                raise in_call(
                    error, batch.start, batch.stop, len(self._inputs)
                ) from error.__cause__

    def result(self) -> Embedded:
        """What all workers have brought."""
        return self._collected.result(self._fields.get("dimensions", 0))

    def _embed(self, batch: Batch) -> Conversation[None]:
        inputs = self._inputs[batch.start : batch.stop]
        request = self._peer.request(inputs, self._fields)
        try:
            reply = yield from exchange(
                request, url=self._peer.url, max_retries=self._peer.max_retries
            )
        except (BodyTooLargeError, TooManyInputsError) as error:
            if len(inputs) == 1:
                raise
            self._peer.refused(len(inputs), error)
            self._batches.put_back(batch)
            return
        found = read_embeddings(reply.content, reply.headers, len(inputs), self._peer.url)
        self._peer.answered(reply.headers)
        self._batches.counted(batch, found.num_tokens)
        self._collected.add(batch, found)
