"""The models of one server, by every name that clients may use."""

from collections.abc import Iterable, Iterator, Sequence

from hexgrid.engine.served_model import ServedModel
from hexgrid.errors import (
    ConfigError,
    EngineClosedError,
    EngineDeadError,
    ForbiddenError,
    HexgridError,
    ModelNotFoundError,
    NotReadyError,
)
from hexgrid.server.auth import ANYONE, Client


def refuse_shared_names(names: Iterable[Sequence[str]]) -> None:
    """Check the names of each model against those of the others, before anything is loaded.

    Raises:
        ConfigError: two models would be served under one name.
    """
    seen: set[str] = set()
    for name in (name for group in names for name in group):
        if name in seen:
            raise ConfigError(f"Two models are served under the name {name!r}", param="model")
        seen.add(name)


class Models:
    """At least one ServedModel; the first answers requests that name none."""

    def __init__(self, models: Sequence[ServedModel]) -> None:
        refuse_shared_names(model.names for model in models)
        self._models = tuple(models)
        self._is_draining = False
        self._by_name = {name: model for model in models for name in model.names}

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models)

    def find(self, name: str | None, client: Client = ANYONE) -> ServedModel:
        """The model of that name; the first one for None and "".

        Raises:
            ModelNotFoundError: no such name here.
            ForbiddenError: `client` may not use it.
        """
        if name and name not in self._by_name:
            names = [each for model in self.allowed(client) for each in model.names]
            raise ModelNotFoundError(
                f"The model `{name[:200]}` does not exist. Served here: {', '.join(names)}."
            )
        model = self._by_name[name] if name else self._models[0]
        if not _may_use(client, model):
            raise ForbiddenError(
                f"This API key may not use the model `{model.name}`", param="model"
            )
        return model

    def allowed(self, client: Client) -> Iterator[ServedModel]:
        """Those that `client` may use."""
        return (model for model in self._models if _may_use(client, model))

    def check_health(self) -> None:
        """Return when every engine can answer.

        Raises:
            NotReadyError: these models cannot, for these reasons.
            EngineClosedError: the server is about to stop, though it still answers.
        """
        if self._is_draining:
            raise EngineClosedError("The server is stopping")
        _refuse(self._unready())

    def check_alive(self) -> None:
        """Return unless an engine will never answer again in this process.

        Raises:
            NotReadyError: these models', for these reasons.
        """
        _refuse(each for each in self._unready() if isinstance(each[1], EngineDeadError))

    def _unready(self) -> Iterator[tuple[str, HexgridError]]:
        for model in self._models:
            try:
                model.engine.check_health()
            except HexgridError as error:
                yield model.name, error

    def drain(self) -> None:
        """Be ill for probes from here on; requests are answered as before."""
        self._is_draining = True

    def retry_after(self) -> int:
        """Seconds in which every engine will have computed what waits for it now."""
        return max(model.engine.retry_after() for model in self._models)

    def close(self) -> None:
        """Stop every engine; whoever waits is answered."""
        for model in self._models:
            model.engine.close()


def _refuse(unready: Iterable[tuple[str, HexgridError]]) -> None:
    reasons = [f"Model `{name}` is not ready: {error.message}" for name, error in unready]
    if reasons:
        raise NotReadyError(". ".join(reasons))


def _may_use(client: Client, model: ServedModel) -> bool:
    return client.limits.models is None or not client.limits.models.isdisjoint(model.names)
