"""deploy/compose*.yaml: as their schema has them, and true of the servers that they start."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.files import (
    DEPLOY,
    OWN_IMAGE,
    SETTINGS,
    Yaml,
    all_of,
    document,
    image_environment,
    is_known,
    is_pinned,
    run,
    seconds,
    variables,
)
from understudy import limits
from understudy.cli import ROLES

ONE, SCALED = DEPLOY / "compose.yaml", DEPLOY / "compose.scaled.yaml"
WHOLE = [ONE, SCALED]
# What goes on top of a whole one.
OVERRIDES = {
    DEPLOY / "compose.sandbox.yaml": ONE,
    DEPLOY / "compose.scaled.sandbox.yaml": SCALED,
}
EXAMPLE = variables((DEPLOY / "env.example").read_text())


def services(path: Path) -> dict[str, Yaml]:
    """Name → service."""
    found: dict[str, Yaml] = document(path)["services"]
    return found


def own(path: Path) -> dict[str, Yaml]:
    """Those that run our image."""
    return {
        name: service
        for name, service in services(path).items()
        if service["image"].partition(":")[0] == OWN_IMAGE
    }


ALL = [(path, name) for path in WHOLE for name in services(path)]
OWN = [(path, name) for path in WHOLE for name in own(path)]


def test_there_is_no_other_compose_file() -> None:
    """One that these tests do not know would be checked by nobody."""
    assert {*DEPLOY.glob("*compose*")} == {*WHOLE, *OVERRIDES}


def test_the_schema_of_compose_files_holds() -> None:
    """The specification's own, which comes with the checker."""
    run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", *WHOLE, *OVERRIDES)


@pytest.mark.parametrize(("path", "name"), ALL)
def test_images_are_pinned(path: Path, name: str) -> None:
    """Ours is built here and has no version but the checkout's."""
    image = services(path)[name]["image"]
    assert image == f"{OWN_IMAGE}:local" or is_pinned(image)


@pytest.mark.parametrize(("path", "name"), ALL)
def test_no_service_takes_the_whole_machine_or_stays_away(path: Path, name: str) -> None:
    """Each has bounds, and is started again; what ends for good is started again until it could."""
    service = services(path)[name]
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert service["restart"] == ("on-failure" if name == "bucket" else "unless-stopped")


@pytest.mark.parametrize(("path", "name"), ALL)
def test_who_waits_for_another_can_see_it(path: Path, name: str) -> None:
    """A condition needs a check: the image's own, or one that stands there."""
    for other, wait in services(path)[name].get("depends_on", {}).items():
        waited_for = services(path)[other]
        is_checked = other in own(path) or "healthcheck" in waited_for
        assert wait["condition"] == "service_completed_successfully" or is_checked
        assert (wait["condition"] == "service_completed_successfully") == (other == "bucket")
    assert all_of("HEALTHCHECK")


@pytest.mark.parametrize(("path", "name"), ALL)
def test_volumes_are_declared_and_files_are_there(path: Path, name: str) -> None:
    """A misspelt name would be a new and empty volume, a misspelt file an empty folder."""
    for volume in services(path)[name].get("volumes", ()):
        source, target, *_ = volume.split(":")
        is_file = source.startswith("./")
        assert (DEPLOY / source).is_file() if is_file else source in document(path)["volumes"]
        assert name not in own(path) or target in ("/tmp", image_environment()["UNDERSTUDY_DATA"])


@pytest.mark.parametrize(("path", "name"), OWN)
def test_servers_are_given_commands_and_settings_that_exist(path: Path, name: str) -> None:
    """One server needs no command: it is the image's."""
    service = own(path)[name]
    assert service.get("command", ["serve"])[0] in ROLES
    assert [given for given in service.get("environment", {}) if not is_known(given)] == []
    assert service["env_file"] == [{"path": ".env", "required": False}]


@pytest.mark.parametrize(("path", "name"), OWN)
def test_servers_have_time_to_drain(path: Path, name: str) -> None:
    """The engine kills whoever is not done when its patience ends."""
    drain_s = limits.SHUTDOWN_S + 1
    assert seconds(own(path)[name]["stop_grace_period"]) > drain_s
    assert name != "api" or seconds(services(path)["balancer"]["stop_grace_period"]) > drain_s


@pytest.mark.parametrize(("path", "name"), OWN)
def test_servers_can_do_little_else(path: Path, name: str) -> None:
    """What the image needs no right for, it is not given."""
    service = own(path)[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "/tmp" in str([*service.get("tmpfs", []), *service.get("volumes", [])])


def test_the_ports_are_those_that_are_listened_on() -> None:
    """The image's own, and Caddy's."""
    port = image_environment()["UNDERSTUDY_PORT"]
    assert own(ONE)["understudy"]["ports"] == [f"${{LISTEN:-127.0.0.1:8000}}:{port}"]
    balancer = services(SCALED)["balancer"]
    assert balancer["environment"]["API_HOST"] in own(SCALED)
    assert balancer["environment"]["API_PORT"] == port
    assert [published.rpartition(":")[2] for published in balancer["ports"]] == ["80", "443"]


def test_two_of_each_share_one_record_and_one_place_for_files() -> None:
    """Which are the services beside them, under the names and passwords that these were given."""
    api, worker = own(SCALED)["api"], own(SCALED)["worker"]
    assert api["environment"] == worker["environment"]
    assert api["deploy"]["replicas"] == worker["deploy"]["replicas"] == 2
    given, postgres = api["environment"], services(SCALED)["postgres"]["environment"]
    user, password = postgres["POSTGRES_USER"], postgres["POSTGRES_PASSWORD"]
    url = f"postgresql://{user}:{password}@postgres:5432/{postgres['POSTGRES_DB']}"
    assert given["UNDERSTUDY_DATABASE_URL"] == url
    bucket = given["UNDERSTUDY_BLOBS_URL"].removeprefix("s3://").partition("/")[0]
    (script,) = services(SCALED)["bucket"]["command"]
    assert f"{given['AWS_ENDPOINT_URL']}/{bucket}\n" in script
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    for other in ("s3", "bucket"):
        theirs = services(SCALED)[other]["environment"]
        assert {name: theirs[name] for name in keys} == {name: given[name] for name in keys}


@pytest.mark.parametrize(("over", "whole"), OVERRIDES.items(), ids=lambda path: path.name)
def test_what_the_sandbox_needs_is_the_same_everywhere(over: Path, whole: Path) -> None:
    """And is given to servers that run code, and to nobody else."""
    ((name, service),) = services(over).items()
    assert name in own(whole)
    assert own(whole)[name].get("command") != ["api"]
    options = service["security_opt"]
    assert options == ["seccomp=./seccomp.json", "apparmor=unconfined", "systempaths=unconfined"]
    assert (DEPLOY / "seccomp.json").is_file()


def substituted(value: Any) -> list[str]:  # Any: whatever stands in a YAML file.
    """The variables that a compose file asks its caller for, at whatever depth."""
    match value:
        case dict():
            return [name for item in value.values() for name in substituted(item)]
        case list():
            return [name for item in value for name in substituted(item)]
        case str():
            return re.findall(r"(?<!\$)\$\{(\w+)", value)
        case _:
            return []


def test_the_example_of_settings_has_what_is_asked_for() -> None:
    """And nothing else, but what servers know themselves."""
    asked = {name for path in WHOLE for name in substituted(document(path))}
    assert asked - EXAMPLE.keys() == set()
    assert EXAMPLE.keys() - asked - SETTINGS == set()


def test_no_secret_has_a_value_in_a_file() -> None:
    """Each comes from the caller's environment, and without it nothing starts."""
    for path in WHOLE:
        for service in services(path).values():
            for name, value in service.get("environment", {}).items():
                if re.search(r"KEY|PASSWORD|SECRET|DATABASE_URL", name):
                    assert re.search(r"\$\{\w+:\?", value), f"{path.name}: {name}"
    secret = re.compile("KEY|PASSWORD|SECRET")
    assert [name for name, value in EXAMPLE.items() if secret.search(name) and value] == []
