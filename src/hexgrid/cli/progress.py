"""A progress bar on stderr, where somebody can see it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(of: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar for `total` of something; what it yields is told how many more are done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (of, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.advance(task, count)
