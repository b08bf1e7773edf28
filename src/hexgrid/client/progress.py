"""How far a call has come: told to a function of the caller's, or shown as a bar on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Told how many inputs are done, and of how many.
OnProgress = Callable[[int, int], None]
# True: a bar, where somebody can see it.
Progress = OnProgress | bool


@contextmanager
def told(progress: Progress) -> Iterator[OnProgress]:
    """What a call tells of its progress while the block runs."""
    if callable(progress):
        yield progress
    elif progress:
        with _bar() as bar:
            yield bar
    else:
        yield lambda _, __: None


@contextmanager
def _bar() -> Iterator[OnProgress]:
    from rich.console import Console  # noqa: PLC0415, for those who look only
    from rich.progress import Progress, TextColumn  # noqa: PLC0415

    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), TextColumn("{task.completed}/{task.total}"))
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("Embedding", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
