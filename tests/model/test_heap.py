"""The heap is trimmed after it was used, and left alone otherwise."""

import queue

from hexgrid.model.heap import HeapTrimmer, trim_heap

DEADLINE = 30.0


def test_it_is_trimmed_once_after_uses_and_again_after_later_ones() -> None:
    trims: queue.SimpleQueue[str] = queue.SimpleQueue()

    def trim() -> None:
        trim_heap()
        trims.put("trimmed")

    trimmer = HeapTrimmer(0.01, trim)
    assert trims.empty()
    for _ in range(2):
        trimmer.used()
        assert trims.get(timeout=DEADLINE) == "trimmed"
    assert trims.empty()
