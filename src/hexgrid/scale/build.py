"""A config -> deployments of Ray Serve: one that answers HTTP, and one that computes for each model."""

import re

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, BackpressureConfig

from hexgrid.config import ServerConfig
from hexgrid.scale.autoscaling import QueuedTokensPolicy
from hexgrid.scale.config import Model, ScaleConfig
from hexgrid.scale.ingress import Ingress
from hexgrid.scale.replica import ModelReplica

INGRESS = "ingress"
# So that one new replica answers before an old one stops, however few there are.
_SURGE_PERCENT = 50
_HEALTH_SECONDS = 5.0


def build(config: ScaleConfig) -> Application:
    """The application; nothing is loaded here."""
    handles = {model.served_names[0]: _model(config, model) for model in config.models}
    most = config.server.get("max_concurrent_requests", ServerConfig().max_concurrent_requests)
    deployment = serve.deployment(serve.ingress()(Ingress)).options(
        name=INGRESS,
        num_replicas=config.ingress.num_replicas,
        ray_actor_options=_resources(config.ingress.num_cpus, 0, config.ingress.resources),
        # The application itself refuses what is too much, in its own words; so it must be asked.
        max_ongoing_requests=2 * most,
        max_queued_requests=2 * most,
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=1),
        graceful_shutdown_timeout_s=config.ingress.graceful_shutdown_timeout_s,
        health_check_period_s=_HEALTH_SECONDS,
        max_surge_percent=_SURGE_PERCENT,
    )
    return deployment.bind(config, handles)


def deployment_name(model: Model) -> str:
    """Of the replicas that compute it; as Ray's paths, metrics and files take it."""
    return "model-" + re.sub(r"[^A-Za-z0-9_.-]", "-", model.served_names[0])


def _model(config: ScaleConfig, model: Model) -> Application:
    # Only what concerns this model: another one may come or go without a new start of this one.
    own = ScaleConfig(server=_log_settings(config), engine=config.engine, models=(model,))
    return (
        serve.deployment(ModelReplica)
        .options(
            name=deployment_name(model),
            ray_actor_options=_resources(model.num_cpus, model.num_gpus, model.resources),
            max_ongoing_requests=model.max_ongoing_requests,
            max_queued_requests=model.max_queued_requests,
            autoscaling_config=AutoscalingConfig(
                min_replicas=model.min_replicas,
                max_replicas=model.max_replicas,
                upscale_delay_s=model.upscale_delay_s,
                downscale_delay_s=model.downscale_delay_s,
                look_back_period_s=model.look_back_period_s,
                policy=AutoscalingPolicy(
                    policy_function=QueuedTokensPolicy,
                    policy_kwargs={"target_queued_tokens": model.target_queued_tokens},
                ),
            ),
            graceful_shutdown_timeout_s=model.graceful_shutdown_timeout_s,
            health_check_period_s=_HEALTH_SECONDS,
            max_surge_percent=_SURGE_PERCENT,
        )
        .bind(own, model)
    )


def _log_settings(config: ScaleConfig) -> dict[str, str]:
    return {name: value for name, value in config.server.items() if name.startswith("log_")}


def _resources(num_cpus: float, num_gpus: float, others: dict[str, float]) -> dict[str, object]:
    return {"num_cpus": num_cpus, "num_gpus": num_gpus, "resources": dict(others)}
