"""What is made to stay is looked through once, and what comes later as ever."""

import gc
import weakref

import pytest

from hexgrid.garbage import made_to_stay


class Cycle:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.itself = self


def test_nothing_is_collected_within_and_all_that_is_garbage_at_the_end() -> None:
    try:
        with made_to_stay():
            assert not gc.isenabled()
            gone = weakref.ref(Cycle())
            kept = Cycle()
            assert gone() is not None

        assert gone() is None
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
        assert not any(each is kept for each in gc.get_objects())  # not looked at again
    finally:
        gc.unfreeze()


def test_what_fails_leaves_the_collector_at_work_and_nothing_frozen() -> None:
    frozen = gc.get_freeze_count()

    with pytest.raises(ZeroDivisionError), made_to_stay():
        _ = 1 // 0

    assert gc.isenabled()
    assert gc.get_freeze_count() == frozen
