"""deploy/ray, deploy/kuberay, deploy/helm: of their published forms, hardened, of settings that exist."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from hexgrid.cli.serve import command as serve
from hexgrid.config import ServerConfig
from hexgrid.config.sources import load
from tests.cli.hexgrid_process import environment, hexgrid

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
SERVE = ROOT / "deploy/ray/serve.yaml"
KUBERAY = ROOT / "deploy/kuberay/rayservice.yaml"
CHART = ROOT / "deploy/helm/hexgrid"
# As of KubeRay's rayservice_types.go and raycluster_types.go: what there is, and what must be there.
FIELDS = {
    "spec": ("serveConfigV2 rayClusterConfig serveService", ""),
    "cluster": (
        """
        suspend managedBy autoscalerOptions headServiceAnnotations enableInTreeAutoscaling
        gcsFaultToleranceOptions headGroupSpec rayVersion workerGroupSpecs
        """,
        "headGroupSpec",
    ),
    "head": (
        "template headService enableIngress rayStartParams serviceType",
        "template rayStartParams",
    ),
    "worker": (
        """
        suspend groupName replicas minReplicas maxReplicas idleTimeoutSeconds rayStartParams template
        scaleStrategy numOfHosts
        """,
        "groupName minReplicas maxReplicas rayStartParams template",
    ),
}
# Every branch of the templates.
VALUES: list[dict[str, Any]] = [
    {},
    {
        "apiKeys": {"existingSecret": "mine"},
        "autoscaling": {
            "enabled": True,
            "metrics": [
                {
                    "type": "Pods",
                    "pods": {
                        "metric": {"name": "hexgrid_queue_tokens"},
                        "target": {"type": "AverageValue", "averageValue": "2048"},
                    },
                }
            ],
        },
        "networkPolicy": {"enabled": True},
        "rateLimitStore": {"existingSecret": "redis"},
        "cache": {"existingClaim": "models"},
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "serviceAccount": {"name": "hexgrid"},
        "podAnnotations": {"prometheus.io/scrape": "false"},
        "models": ["a=Qwen/Qwen3-Embedding-0.6B", "hexgrid/nano"],
        "settings": {"HEXGRID_DTYPE": "bfloat16", "HEXGRID_NUM_THREADS": 4},
    },
    {
        "apiKeys": {"keys": ["0123456789abcdef", "fedcba9876543210"]},
        "networkPolicy": {"enabled": True, "from": [{"namespaceSelector": {}}], "egress": []},
        "podDisruptionBudget": {"enabled": False},
    },
]


def document(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_the_serve_config_is_one_and_its_settings_exist() -> None:
    done = hexgrid("deploy", "--ray", str(SERVE), "--check")

    assert (done.returncode, done.stderr) == (0, "")


def test_ray_builds_the_application_as_the_config_says(tmp_path: Path) -> None:
    """`serve build` writes what would be deployed; it takes no builder, but what one has built."""
    (asked,) = document(SERVE)["applications"]
    (tmp_path / "built.py").write_text(
        f"import hexgrid.scale\napplication = hexgrid.scale.app({asked['args']!r})\n"
    )
    done = subprocess.run(
        [
            Path(sys.executable).with_name("serve"),
            *("build", "built:application", "--app-dir", tmp_path, "-o", tmp_path / "built.yaml"),
        ],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr

    (application,) = document(tmp_path / "built.yaml")["applications"]
    built = {each["name"]: each for each in application["deployments"]}
    gpu = built["model-Qwen-Qwen3-Embedding-0.6B"]
    assert gpu["ray_actor_options"]["num_gpus"] == 1
    assert gpu["autoscaling_config"]["max_replicas"] == 4
    policy = gpu["autoscaling_config"]["policy"]
    assert policy["policy_kwargs"] == {"target_queued_tokens": 32_768}
    assert built["ingress"]["num_replicas"] == 2
    assert built.keys() == {"ingress", "model-Qwen-Qwen3-Embedding-0.6B", "model-hexgrid-nano"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"import_path": "other:app"}, "no application with import_path: hexgrid.scale:app"),
        ({"args": {"models": [{"modle": "x"}]}}, "unknown field `modle`"),
        ({"args": {"server": {"port": 1}}}, "its place is Ray Serve's http_options"),
        ({"args": {"engine": {"dtyp": "x"}}}, "did you mean dtype?"),
        ({"name": 3}, "is no config of Ray Serve"),
    ],
)
def test_a_wrong_config_is_told_before_a_cluster_is_asked(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    config = document(SERVE)
    config["applications"][0] |= change
    path = tmp_path / "serve.yaml"
    path.write_text(yaml.safe_dump(config))

    done = hexgrid("deploy", "--ray", str(path), "--address", "http://127.0.0.1:1")

    assert done.returncode == 2
    assert message in done.stderr


def test_where_no_cluster_answers_the_command_says_so() -> None:
    done = hexgrid("deploy", "--ray", str(SERVE), "--address", "http://127.0.0.1:1")

    assert done.returncode == 1
    assert done.stderr.startswith("hexgrid: No dashboard of Ray answers at http://127.0.0.1:1: ")


def pods() -> list[dict[str, Any]]:
    """The pods of the RayService, each as one would be."""
    cluster = document(KUBERAY)["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, **group["template"]}
        for group in copy.deepcopy(groups)
    ]


def test_the_ray_service_has_the_fields_that_kuberay_knows() -> None:
    whole = document(KUBERAY)
    assert (whole["apiVersion"], whole["kind"]) == ("ray.io/v1", "RayService")
    spec = whole["spec"]
    cluster = spec["rayClusterConfig"]
    parts = [("spec", spec), ("cluster", cluster), ("head", cluster["headGroupSpec"])]
    parts += [("worker", worker) for worker in cluster["workerGroupSpecs"]]
    for kind, part in parts:
        known, needed = (set(names.split()) for names in FIELDS[kind])
        assert needed <= part.keys() <= known
        for value in part.get("rayStartParams", {}).values():
            assert isinstance(value, str)


def test_the_application_of_the_ray_service_is_one_and_its_settings_exist(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text(document(KUBERAY)["spec"]["serveConfigV2"])

    done = hexgrid("deploy", "--ray", str(path), "--check")

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("pod", pods())
def test_pods_of_the_ray_service_are_of_kubernetes_form_and_hardened(pod: dict[str, Any]) -> None:
    validate(pod)
    assert_hardened(pod["spec"])
    for variable in pod["spec"]["containers"][0]["env"]:
        if "KEY" in variable["name"] or variable["name"].endswith("TOKEN"):
            assert variable.keys() == {"name", "valueFrom"}


def validate(resource: dict[str, Any]) -> None:
    """Against Kubernetes' own schemas, where nothing may be that is not known."""
    import kubernetes_validate

    kubernetes_validate.validate(resource, "1.34", strict=True)


def assert_hardened(spec: dict[str, Any], *, read_only: bool = False) -> None:
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"].get("readOnlyRootFilesystem", False) is read_only
        assert container["resources"]["limits"]["memory"]


def rendered(values: dict[str, Any], name: str = "demo") -> list[dict[str, Any]]:
    """What the chart makes, as `helm template` would (the same code, of Helm 4)."""
    from helm_python import Chart

    with Chart.load(CHART) as chart:
        files = chart.render(values=values, name=name, namespace="default")
    texts = [text for path, text in sorted(files.items()) if path.endswith(".yaml")]
    return [each for text in texts for each in yaml.safe_load_all(text) if each]


def of_kind(resources: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = (each for each in resources if each["kind"] == kind)
    return found


def test_helm_finds_nothing_wrong_with_the_chart() -> None:
    from helm_python import lint

    found = lint(CHART)

    assert found["errors"] == []
    assert [each["error"] for each in found["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("values", VALUES)
def test_all_that_the_chart_makes_is_of_kubernetes_form(values: dict[str, Any]) -> None:
    resources = rendered(values)

    assert len({each["kind"] for each in resources}) == len(resources) >= 3
    for resource in resources:
        validate(resource)


@pytest.mark.parametrize("values", VALUES)
def test_the_chart_starts_the_server_with_settings_that_exist(values: dict[str, Any]) -> None:
    deployment = of_kind(rendered(values), "Deployment")
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    verb, *arguments = container["args"]
    environ = {each["name"]: each.get("value", "redis://x") for each in container["env"]}

    config = load(ServerConfig, serve.make_context(verb, arguments).params, environ)

    assert verb == "serve"
    assert config.model == tuple(values.get("models", ["hexgrid/nano"]))
    assert config.api_key_file == Path("/etc/hexgrid/api-keys")
    assert spec["terminationGracePeriodSeconds"] > config.drain_delay + config.drain_timeout
    assert_hardened(spec, read_only=True)


@pytest.mark.parametrize("values", VALUES)
def test_probes_ask_what_they_are_for(values: dict[str, Any]) -> None:
    (container,) = of_kind(rendered(values), "Deployment")["spec"]["template"]["spec"]["containers"]

    paths = {
        name: probe["httpGet"]["path"]
        for name, probe in container.items()
        if name.endswith("Probe")
    }

    assert paths == {"startupProbe": "/live", "livenessProbe": "/live", "readinessProbe": "/ready"}
    assert container["startupProbe"]["failureThreshold"] == 900


def test_a_key_of_the_charts_own_is_random_and_one_of_the_users_is_kept() -> None:
    made = {of_kind(rendered({}), "Secret")["data"]["api-keys"] for _ in range(2)}
    given = of_kind(rendered(VALUES[2]), "Secret")["data"]["api-keys"]

    assert len(made) == 2
    assert given == "MDEyMzQ1Njc4OWFiY2RlZgpmZWRjYmE5ODc2NTQzMjEw"
    assert "Secret" not in {each["kind"] for each in rendered(VALUES[1])}


def test_the_autoscaler_has_the_number_of_pods_for_itself() -> None:
    with_autoscaler, without = rendered(VALUES[1]), rendered({"replicas": 3})

    assert "replicas" not in of_kind(with_autoscaler, "Deployment")["spec"]
    assert of_kind(without, "Deployment")["spec"]["replicas"] == 3
    scaler = of_kind(with_autoscaler, "HorizontalPodAutoscaler")
    target = scaler["spec"]["scaleTargetRef"]["name"]
    assert target == of_kind(with_autoscaler, "Deployment")["metadata"]["name"]
    assert len(scaler["spec"]["metrics"]) == 2


@pytest.mark.parametrize(
    "values",
    [
        {"modles": ["x"]},
        {"models": []},
        {"settings": {"HEXGRID_API_KEY": "would be shown"}},
        {"settings": {"PATH": "/"}},
        {"apiKeys": {"keys": ["short"]}},
        {"replicas": "two"},
    ],
)
def test_wrong_values_are_refused(values: dict[str, Any]) -> None:
    from helm_python import HelmError

    with pytest.raises(HelmError):
        rendered(values)


def test_every_value_of_the_chart_is_in_its_schema() -> None:
    schema = document(CHART / "values.schema.json")

    assert document(CHART / "values.yaml").keys() <= schema["properties"].keys()
