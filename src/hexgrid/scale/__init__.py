"""hexgrid on a cluster, with Ray Serve: `serve run hexgrid.scale:app` and `hexgrid deploy`.

HTTP is answered by the application of server/ in replicas of one deployment, and vectors are computed by the
engine of engine/ in those of another, one for each model. ray is imported by what runs on the cluster alone.
"""

from typing import Any


def app(args: dict[str, Any]) -> Any:
    """Build the application of Ray Serve; `args` is of the form of `config.ScaleConfig`, or empty.

    Raises:
        ConfigError: it is not of that form.
    """
    from hexgrid.scale.build import build  # noqa: PLC0415 (ray takes a second)
    from hexgrid.scale.config import parse  # noqa: PLC0415

    return build(parse(args))
