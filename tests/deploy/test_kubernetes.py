"""deploy/kubernetes: valid, of one piece, and true of the servers that it starts."""

import json
import re
from pathlib import Path

import pytest

from tests.deploy.files import (
    KUBERNETES,
    OWN_IMAGE,
    ROOT,
    Yaml,
    all_of,
    image_environment,
    is_known,
    run,
    variables,
)
from tests.deploy.manifests import (
    AS_IT_STANDS,
    CHOICES,
    built,
    every,
    name_of,
    named,
    servers,
)
from understudy import limits
from understudy.api import openapi

# The oldest that has all that is asked of it, and the newest that the schemas know.
VERSIONS = ["1.29", "1.37"]
EXAMPLE = KUBERNETES / "example"
SECRET = variables((EXAMPLE / "secret.env.example").read_text())
PAGES = {"api": {"/health", "/openapi.json"}, "worker": {"/health"}}


def test_every_component_is_in_a_choice() -> None:
    """One that these tests do not put together would be checked by nobody."""
    there = {path.name for path in (KUBERNETES / "components").iterdir()}
    shown = re.findall(
        r"^  (# )?- \.\./components/(.+)$",
        (EXAMPLE / "kustomization.yaml").read_text(),
        flags=re.MULTILINE,
    )
    assert {name for _, name in shown} == there
    in_use = {name for comment, name in shown if not comment}
    assert in_use.union(*CHOICES.values()) == there


@pytest.mark.parametrize("version", VERSIONS)
def test_the_schemas_of_kubernetes_hold(version: str, tmp_path: Path) -> None:
    """Strictly: an unknown field is an error here; a cluster would drop it in silence."""
    paths = []
    for choice in CHOICES:
        for number, one in enumerate(built(choice)):
            if not one["apiVersion"].startswith("keda.sh/"):  # Kinds that KEDA brings.
                paths.append(tmp_path / f"{choice} {number}.json")
                paths[-1].write_text(json.dumps(one))
    run("kubernetes-validate", "--kubernetes-version", version, "--strict", *paths)


def test_no_namespace_is_named() -> None:
    """It is the one that is applied to."""
    found = [
        name_of(one)
        for choice in CHOICES
        for one in built(choice)
        if "namespace" in one["metadata"]
    ]
    assert found == []


def selectors(one: Yaml) -> list[Yaml]:
    """The labels by which an object takes pods."""
    spec = one.get("spec", {})
    match one["kind"]:
        case "Service":
            return [spec["selector"]]
        case "NetworkPolicy":
            return [spec["podSelector"]["matchLabels"]]
        case "PodDisruptionBudget":
            return [spec["selector"]["matchLabels"]]
        case "Deployment":
            spreads = spec["template"]["spec"]["topologySpreadConstraints"]
            return [each["matchLabels"] for each in (spec["selector"], spreads[0]["labelSelector"])]
        case _:
            return []


def selected(choice: str, selector: Yaml) -> set[str]:
    """The Deployments whose pods these labels take."""
    return {
        name_of(one)
        for one in built(choice)
        if one["kind"] == "Deployment"
        and selector.items() <= one["spec"]["template"]["metadata"]["labels"].items()
    }


@pytest.mark.parametrize("choice", CHOICES)
def test_selectors_take_the_pods_that_they_are_for(choice: str) -> None:
    """And no other application's."""
    others = {
        "Service": {"understudy-api"},
        "NetworkPolicy": {"understudy-api", "understudy-worker"},
    }
    for one in built(choice):
        for selector in selectors(one):
            assert selector["app.kubernetes.io/name"] == OWN_IMAGE
            is_for_all = name_of(one) == OWN_IMAGE
            wanted = others[one["kind"]] if is_for_all else {name_of(one)}
            assert selected(choice, selector) == wanted


def test_servers_get_the_settings_and_the_secret_that_are_made() -> None:
    """Whose names have a digest of their content, so that a change of it rolls the servers."""
    for choice, one in every("Deployment"):
        (container,) = one["spec"]["template"]["spec"]["containers"]
        settings, secret = container["envFrom"]
        data = named(choice, "ConfigMap", settings["configMapRef"]["name"])["data"]
        assert [name for name in data if not is_known(name)] == []
        assert {data["UNDERSTUDY_PORT"], data["UNDERSTUDY_WORKER_PORT"]} == {*all_of("EXPOSE")}
        made = named(choice, "Secret", secret["secretRef"]["name"])
        assert made["data"].keys() == SECRET.keys()
        for ref in (settings["configMapRef"], secret["secretRef"]):
            assert re.fullmatch(r"understudy-[a-z0-9]{10}", ref["name"])


def test_the_example_of_the_secret_has_none() -> None:
    """Names that servers know, and values that are to be filled in."""
    assert [name for name in SECRET if not is_known(name)] == []
    database = SECRET["UNDERSTUDY_DATABASE_URL"]
    assert ":PASSWORD@" in database
    assert {*SECRET.values()} == {"", database}
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"deploy/kubernetes/example/secret.env", "deploy/.env"} <= {*ignored}


def test_servers_are_started_as_the_image_can_be() -> None:
    """With commands that exist, on its port, as its user; a Service's variables stay away."""
    version = next(line.removeprefix("VERSION=") for line in all_of("ARG") if "VERSION=" in line)
    for role, pod, container in servers():
        assert container["args"] == [role]
        assert container["image"] == f"registry.example.com/{OWN_IMAGE}:{version}"
        (port,) = container["ports"]
        assert [str(port["containerPort"])] == all_of("EXPOSE")
        context = pod["securityContext"]
        assert [f"{context['runAsUser']}:{context['runAsGroup']}"] == all_of("USER")
        assert pod["enableServiceLinks"] is False
        assert [mount["mountPath"] for mount in container["volumeMounts"]] == ["/tmp"]


def test_servers_may_do_little() -> None:
    """What Pod Security calls restricted, but for the sandbox, which has to make namespaces."""
    for role, pod, container in servers():
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        is_jailed = "procMount" in context
        assert ("seccompProfile" in context) == is_jailed == (pod.get("hostUsers") is False)
        assert role == "worker" or not is_jailed


def test_probes_ask_for_pages_that_exist() -> None:
    """And wait longer than /health takes at its slowest: for the record, then for the provider."""
    assert openapi.document()
    for role, _, container in servers():
        (port,) = container["ports"]
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container[kind]
            assert probe["timeoutSeconds"] > 2 * limits.HEALTH_WAIT_S
            if "httpGet" in probe:
                assert probe["httpGet"]["path"] in PAGES[role]
                assert probe["httpGet"]["port"] == port["name"]
            else:
                assert f'"127.0.0.1", {port["containerPort"]},' in probe["exec"]["command"][-1]
        assert container["readinessProbe"]["httpGet"]["path"] == "/health"
        assert container["livenessProbe"].get("httpGet", {}).get("path") != "/health"


def test_servers_have_time_to_migrate_and_to_drain() -> None:
    """Neither is cut: a migration begins anew then, and a run makes its turn again elsewhere."""
    for role, pod, container in servers():
        probe = container["startupProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] >= limits.MIGRATION_S
        pause_s = 0
        if role == "api":
            command, pause = container["lifecycle"]["preStop"]["exec"]["command"]
            assert command == "sleep"
            pause_s = int(pause)
        assert pod["terminationGracePeriodSeconds"] > pause_s + limits.SHUTDOWN_S + 1


def test_a_rollout_never_has_fewer_servers() -> None:
    """Old and new ones get along on one record."""
    for _, one in every("Deployment"):
        assert one["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_each_number_of_servers_has_one_master() -> None:
    """An autoscaler's number would be set back by each apply that names another."""
    for choice in CHOICES:
        scaled = [
            one["spec"]["scaleTargetRef"]["name"]
            for one in built(choice)
            if one["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")
        ]
        assert len(scaled) == len({*scaled})
        fixed = {
            name_of(one)
            for one in built(choice)
            if one["kind"] == "Deployment" and "replicas" in one["spec"]
        }
        assert fixed | {*scaled} == {"understudy-api", "understudy-worker"}
        assert fixed & {*scaled} == set()


def test_clients_reach_the_api() -> None:
    """The Ingress leads to the Service, and that to the port which is listened on."""
    (rule,) = named(AS_IT_STANDS, "Ingress", OWN_IMAGE)["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    backend = path["backend"]["service"]
    (port,) = named(AS_IT_STANDS, "Service", backend["name"])["spec"]["ports"]
    assert backend["port"]["name"] == port["name"]
    for role, _, container in servers():
        assert role != "api" or port["targetPort"] == container["ports"][0]["name"]


# What a controller calls its annotations → how it says no, and what it calls the bound of a body.
CONTROLLERS = {
    "nginx.ingress.kubernetes.io": ("off", "proxy-body-size"),
    "nginx.org": ("false", "client-max-body-size"),
}


@pytest.mark.parametrize("prefix", CONTROLLERS)
def test_the_ingress_holds_nothing_back(prefix: str) -> None:
    """Neither events nor large files; and a stream may be silent for as long as it ever is."""
    no, body = CONTROLLERS[prefix]
    said = named(AS_IT_STANDS, "Ingress", OWN_IMAGE)["metadata"]["annotations"]
    assert said[f"{prefix}/proxy-buffering"] == no
    assert int(said[f"{prefix}/{body}"].removesuffix("m")) * 2**20 > limits.FILE_BYTES
    for wait in ("proxy-read-timeout", "proxy-send-timeout"):
        assert int(said[f"{prefix}/{wait}"].removesuffix("s")) > 2 * limits.KEEP_ALIVE_S


def test_the_ports_that_policies_open_are_the_servers() -> None:
    """Clients' way in is the one that the container listens on."""
    policy = named(AS_IT_STANDS, "NetworkPolicy", "understudy-api")
    ((entry,),) = (rule["ports"] for rule in policy["spec"]["ingress"])
    assert str(entry["port"]) == image_environment()["UNDERSTUDY_PORT"]
    assert "ingress" not in named(AS_IT_STANDS, "NetworkPolicy", "understudy-worker")["spec"]
