"""hexgrid deploy: a config of a cluster, checked, handed over, and awaited."""

from pathlib import Path

import click

from hexgrid.errors import ConfigError


@click.command()
@click.option(
    "--ray",
    "config",
    type=click.Path(path_type=Path),
    required=True,
    help="Config file of Ray Serve, as deploy/ray/serve.yaml.",
)
@click.option(
    "--address",
    default="http://127.0.0.1:8265",
    show_default=True,
    envvar="RAY_DASHBOARD_ADDRESS",
    help="Dashboard of the cluster.  [RAY_DASHBOARD_ADDRESS]",
)
@click.option(
    "--timeout",
    "seconds",
    type=click.FloatRange(min=0),
    default=1800.0,
    show_default=True,
    help="Seconds until all of it must serve; models are downloaded within them.",
)
@click.option("--check", is_flag=True, help="Only check the file; no cluster is asked.")
def command(config: Path, address: str, seconds: float, *, check: bool) -> None:
    """Serve on a cluster with Ray Serve.

    The file is also one for `serve deploy`. Its settings are checked before anything is sent, and the command
    returns when everything serves. To change a deployment, deploy again: new replicas answer before old ones
    stop.
    """
    try:
        from hexgrid.scale.deploying import deploy, read
    except ImportError as error:
        raise ConfigError(
            f"`hexgrid deploy --ray` needs Ray ({error.name} is missing): pip install 'hexgrid[ray]'"
        ) from error
    document = read(config)
    if not check:
        deploy(document, address, seconds=seconds, report=lambda text: click.echo(text, err=True))
