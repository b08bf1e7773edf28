"""The command `hexgrid`: one file a verb, imported only when that verb is used."""

import importlib
import sys
from typing import Any

import click

from hexgrid import __version__
from hexgrid.errors import ConfigError, HexgridError

_VERBS = {
    "serve": "Serve embeddings over HTTP.",
    "deploy": "Serve on a cluster.",
    "embed": "Embed texts here and print JSON.",
    "bulk": "Embed files of texts, however many.",
    "run-batch": "Answer the requests of a batch file of OpenAI's form.",
    "rank": "Find the document that answers a query best.",
    "compare": "Tell what a lower precision costs on texts of your own.",
    "eval": "Score a model or a server on data of your own.",
    "bench": "Measure a model or a server under load.",
    "top": "Watch a running server.",
    "keys": "Make, list, replace and revoke API keys.",
    "usage": "Show what was used, by key, model and time.",
    "checkpoint": "Make, inspect or export checkpoints.",
    "verify": "Compare a real checkpoint with published vectors.",
}
_USAGE_ERROR, _FAILURE = 2, 1


class _Verbs(click.Group):
    """Names and summaries are known; the code behind a verb is not loaded for `--help`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        module = importlib.import_module(f"hexgrid.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_VERBS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Errors that a user can mend are one line on stderr, not a traceback."""
        try:
            return super().invoke(ctx)
        except HexgridError as error:
            click.echo(f"hexgrid: {error.message}", err=True)
            sys.exit(exit_code(error))


def exit_code(error: HexgridError) -> int:
    """What a command that ends in `error` exits with."""
    return _USAGE_ERROR if isinstance(error, ConfigError) else _FAILURE


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hexgrid")
def main() -> None:
    """A self-hosted embeddings server for Qwen3-Embedding."""
