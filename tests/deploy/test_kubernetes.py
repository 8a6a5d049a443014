"""The manifests: as they are rendered, and as a real API server takes them."""

from __future__ import annotations

import base64
import json
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from endpoint_plugins.profiles import load_profile
from hub_registry.broker.address import Address
from hub_registry.broker.secret import HubSecret
from hub_registry.settings import ENV_PREFIX, Settings
from testbed.kubernetes import KubernetesCluster

from .manifests import DEPLOY, pod_specs, render

pytestmark = pytest.mark.service("kubectl")

FOLDERS = ("hub", "endpoint")
HERE = DEPLOY / "kubernetes"
#: The API server of the tests is of version 1.20, which has these under other names; the objects are alike.
OLDER = {"policy/v1": "policy/v1beta1", "batch/v1": "batch/v1beta1"}

Documents = list[dict[str, Any]]


@pytest.fixture(params=FOLDERS)
def documents(request: pytest.FixtureRequest, tmp_path: Path) -> Documents:
    """What one folder makes."""
    return render(request.param, tmp_path)


@pytest.fixture
def hub(tmp_path: Path) -> Documents:
    """What the hub's folder makes."""
    return render("hub", tmp_path)


def of_kind(documents: Documents, kind: str) -> Documents:
    """Those of one kind."""
    return [document for document in documents if document["kind"] == kind]


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """All containers of a pod."""
    return [*spec.get("initContainers", ()), *spec["containers"]]


def test_pods_may_do_nothing_that_they_need_not(documents: Documents) -> None:
    specs = list(pod_specs(documents))
    assert specs
    for name, spec, _ in specs:
        context = spec["securityContext"]
        assert context["runAsNonRoot"], name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is (name == "endpoint")
        for container in containers(spec):
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["readOnlyRootFilesystem"] is True, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
            assert "memory" in container["resources"]["limits"], name
            assert ":" in container["image"], container["image"]


def test_what_stays_is_watched(documents: Documents) -> None:
    for document in of_kind(documents, "Deployment") + of_kind(documents, "StatefulSet"):
        for container in document["spec"]["template"]["spec"]["containers"]:
            assert "startupProbe" in container
            assert {"readinessProbe", "livenessProbe"} & set(container)


def test_everything_that_is_named_is_there(documents: Documents) -> None:
    here = {(document["kind"], document["metadata"]["name"]) for document in documents}
    for _, spec, labels in pod_specs(documents):
        claims = {
            claim["metadata"]["name"]
            for document in of_kind(documents, "StatefulSet")
            if document["spec"]["template"]["metadata"]["labels"] == labels
            for claim in document["spec"]["volumeClaimTemplates"]
        }
        volumes = {volume["name"] for volume in spec["volumes"]} | claims
        for container in containers(spec):
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
        for volume in spec["volumes"]:
            for source in (volume, *volume.get("projected", {}).get("sources", ())):
                if secret := source.get("secret"):
                    assert ("Secret", secret.get("secretName") or secret["name"]) in here
                if settings := source.get("configMap"):
                    assert ("ConfigMap", settings["name"]) in here
                if claim := source.get("persistentVolumeClaim"):
                    assert ("PersistentVolumeClaim", claim["claimName"]) in here
        if account := spec.get("serviceAccountName"):
            assert ("ServiceAccount", account) in here


def test_selectors_and_ports_find_pods(documents: Documents) -> None:
    pods = list(pod_specs(documents))

    def found(selector: dict[str, str]) -> list[dict[str, Any]]:
        return [spec for _, spec, labels in pods if selector.items() <= labels.items()]

    for service in of_kind(documents, "Service"):
        [spec] = found(service["spec"]["selector"])
        ports = {port["name"] for each in spec["containers"] for port in each.get("ports", ())}
        assert {port["targetPort"] for port in service["spec"].get("ports", ())} <= ports
    for budget in of_kind(documents, "PodDisruptionBudget"):
        assert found(budget["spec"]["selector"]["matchLabels"])
    for policy in of_kind(documents, "NetworkPolicy"):
        assert found(policy["spec"]["podSelector"].get("matchLabels", {}))


def test_the_hub_takes_its_settings_and_secrets(
    hub: Documents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [settings_of_hub] = [each for each in of_kind(hub, "ConfigMap") if "hub.toml" in each["data"]]
    (tmp_path / "hub.toml").write_text(settings_of_hub["data"]["hub.toml"])
    [secret] = [each for each in of_kind(hub, "Secret") if "secret.key" in each["data"]]
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    for name, content in secret["data"].items():
        (mounted / name).write_bytes(base64.b64decode(content))
    monkeypatch.setenv(f"{ENV_PREFIX}CONFIG", str(tmp_path / "hub.toml"))
    monkeypatch.setenv(f"{ENV_PREFIX}SECRETS_DIR", str(mounted))
    settings = Settings.load()
    services = {service["metadata"]["name"] for service in of_kind(hub, "Service")}
    assert Address.parse(settings.broker_url, "broker_url").host in services
    assert "@postgres:5432/" in settings.database_url
    assert settings.uses_tls
    [administrator] = [each for each in of_kind(hub, "Secret") if "25-administrator.conf" in each["data"]]
    password = Address.parse(settings.broker_url, "broker_url").password
    assert (
        f"default_pass = {password}\n"
        in base64.b64decode(administrator["data"]["25-administrator.conf"]).decode()
    )

    # What the init container does with the secret.
    [deployment] = of_kind(hub, "Deployment")
    command = deployment["spec"]["template"]["spec"]["initContainers"][0]["command"]
    script = command[2].replace("/data/", f"{tmp_path}/data/").replace("/run/secrets", str(mounted))
    (mounted / "secret.key").chmod(0o440)
    for _ in range(2):  # a pod whose sandbox is made anew begins from the beginning
        subprocess.run(["sh", "-c", script], check=True)
    assert str(settings.secret_file) == "/data/hub/secret.key"
    key = tmp_path / "data" / "hub" / "secret.key"
    assert stat.S_IMODE(key.stat().st_mode) & 0o077 == 0
    assert HubSecret(key).open().fingerprint


def test_rabbitmq_has_the_settings_that_a_hub_needs() -> None:
    assert (HERE / "hub" / "rabbitmq.conf").read_bytes() == (DEPLOY / "broker" / "rabbitmq.conf").read_bytes()
    assert (HERE / "hub" / "rabbitmq.tls.conf").read_bytes() == (
        DEPLOY / "compose" / "rabbitmq.tls.conf"
    ).read_bytes()


def test_the_endpoints_profile_is_one_of_its_namespace(tmp_path: Path) -> None:
    profile = load_profile(HERE / "endpoint" / "profile.yaml")
    assert profile.scheduler == "kubernetes"
    settings = yaml.safe_load((HERE / "endpoint" / "kustomization.yaml").read_text())
    assert settings["namespace"] == profile.namespace  # type: ignore[attr-defined]
    documents = render("endpoint", tmp_path)
    [service] = of_kind(documents, "Service")
    assert profile.address == f"{service['metadata']['name']}-0.{service['metadata']['name']}"


def test_secrets_stay_out_of_the_repository(tmp_path: Path) -> None:
    for folder, names in (("hub", ("secrets/", "tls/")), ("endpoint", ("endpoint.env",))):
        ignored = (HERE / folder / ".gitignore").read_text().splitlines()
        assert set(names) <= set(ignored)
    made = Path(shutil.copytree(HERE / "hub", tmp_path / "hub"))
    subprocess.run(["sh", made / "secrets.sh"], check=True)
    before = {path.name: path.read_bytes() for path in (made / "secrets").iterdir()}
    subprocess.run(["sh", made / "secrets.sh"], check=True)
    assert before == {path.name: path.read_bytes() for path in (made / "secrets").iterdir()}
    assert all(path.stat().st_mode & 0o077 == 0 for path in (made / "secrets").iterdir())


@pytest.mark.service("kubernetes")
def test_a_real_api_server_takes_every_object(
    kubernetes: KubernetesCluster, documents: Documents, tmp_path: Path
) -> None:
    served = kubernetes.kubectl("api-versions").split()
    for document in documents:
        version = document["apiVersion"]
        if version not in served or (version == "batch/v1" and document["kind"] == "CronJob"):
            document["apiVersion"] = OLDER[version]
    [namespace] = of_kind(documents, "Namespace")
    name = namespace["metadata"]["name"]
    file = tmp_path / "documents.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}))
    kubernetes.kubectl("create", "namespace", name)
    try:
        # Where a field is unknown, or a value wrong, this fails.
        taken = kubernetes.kubectl("apply", "--dry-run=server", "--filename", str(file))
        assert len(taken.splitlines()) == len(documents)
    finally:
        kubernetes.kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.service("kubernetes")
def test_it_would_not_take_any_object(kubernetes: KubernetesCluster, hub: Documents, tmp_path: Path) -> None:
    """What the test above is worth."""
    [settings] = [document for document in of_kind(hub, "ConfigMap") if "hub.toml" in document["data"]]
    settings["metadata"]["namespace"] = "default"
    for change in ({"immutible": True}, {"data": {"hub.toml": 1}}):
        file = tmp_path / "document.json"
        file.write_text(json.dumps({**settings, **change}))
        with pytest.raises(AssertionError, match=r"immutible|cannot be handled|invalid"):
            kubernetes.kubectl("apply", "--dry-run=server", "--filename", str(file))


@pytest.mark.service("kubernetes")
def test_the_endpoint_may_make_pods_in_its_namespace_and_nothing_else(
    kubernetes: KubernetesCluster, tmp_path: Path
) -> None:
    documents = render("endpoint", tmp_path)
    kept = [
        {**document, "metadata": {**document["metadata"], "namespace": "default"}}
        for document in documents
        if document["kind"] in ("Role", "RoleBinding")
    ]
    for binding in of_kind(kept, "RoleBinding"):
        binding["subjects"] = [{**subject, "namespace": "default"} for subject in binding["subjects"]]
    file = tmp_path / "permissions.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": kept}))
    kubernetes.kubectl("apply", "--filename", str(file))

    def may(verb: str, what: str, namespace: str = "default") -> bool:
        who = "--as=system:serviceaccount:default:endpoint"
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"verb": verb, "resource": what, "namespace": namespace}},
        }
        (tmp_path / "review.json").write_text(json.dumps(review))
        command = ["create", "--filename", str(tmp_path / "review.json"), who, "--output=json"]
        allowed: bool = json.loads(kubernetes.kubectl(*command))["status"]["allowed"]
        return allowed

    try:
        assert all(may(verb, "pods") for verb in ("create", "delete", "get", "list", "watch"))
        assert not any(may("get", what) for what in ("secrets", "configmaps", "nodes"))
        assert not may("create", "pods", "kube-system")
        assert not may("create", "deployments")
    finally:
        kubernetes.kubectl("delete", "--filename", str(file))
