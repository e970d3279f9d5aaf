"""deploy/Dockerfile: what it builds on, what it copies, and what the image is then."""

import json
import re
import tomllib
from importlib.metadata import requires

from packaging.requirements import Requirement

from tests.deploy.files import (
    DEPLOY,
    OWN_IMAGE,
    ROOT,
    SETTINGS,
    all_of,
    image_environment,
    instructions,
    is_pinned,
    run,
)
from understudy.cli import ROLES
from understudy.settings import PREFIX


def test_the_linter_finds_nothing() -> None:
    """hadolint, with shellcheck in it for what is run."""
    assert run("hadolint", DEPLOY / "Dockerfile") == ""


def test_it_builds_on_one_image_of_a_known_version() -> None:
    """It may be named otherwise by whoever builds; stages build on it or on each other."""
    assert instructions()[0][0] == "ARG"
    name, _, image = instructions()[0][1].partition("=")
    assert is_pinned(image)
    stages = [line.split(" AS ") for line in all_of("FROM")]
    named = {stage[1] for stage in stages if len(stage) > 1}
    assert {stage[0] for stage in stages} <= named | {f"${{{name}}}"}


def copied() -> set[str]:
    """What is copied into it from the repository."""
    lines = [line.split() for line in all_of("COPY") if not line.startswith("--from")]
    return {source for *sources, _ in lines for source in sources}


def test_what_it_copies_is_there() -> None:
    """As a build would find out, that no test performs."""
    assert [path for path in copied() if not (ROOT / path).exists()] == []


def test_the_context_of_a_build_is_what_it_copies() -> None:
    """No data, no key, no history of a checkout can get into an image."""
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [rule for rule in rules if rule and not rule.startswith("#")]
    assert rules[0] == "*"
    assert {rule.removeprefix("!") for rule in rules if rule.startswith("!")} == copied()


def test_everything_that_pip_fetches_has_its_hash() -> None:
    """What is installed without one is the wheel that was made a stage before."""
    steps = [step for line in all_of("RUN") for step in re.split(r"&&|;", line)]
    installs = [step for step in steps if re.search(r"\bpip\b.* install\b", step)]
    fetched = [step for step in installs if "--no-index" not in step]
    assert len(fetched) == 2
    assert [step for step in fetched if "--require-hashes" not in step] == []


def wanted() -> list[set[str]]:
    """The names that a RUN takes out of the list of tools."""
    found = [re.search(r"wanted = /\^\(?([a-z|-]+)\)?==/", line) for line in all_of("RUN")]
    return [set(names[1].split("|")) for names in found if names]


def needed(name: str) -> set[str]:
    """A distribution and all that it depends on here."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        found.add(one := waiting.pop())
        declared = [Requirement(line) for line in requires(one) or ()]
        apply = [need for need in declared if need.marker is None or need.marker.evaluate()]
        waiting += [need.name.lower() for need in apply if need.name.lower() not in found]
    return found


def test_what_it_takes_of_the_tools_is_whole() -> None:
    """It installs them without their dependencies, so all of these have to be named."""
    assert wanted() == [needed("hatchling"), needed("nats-py")]
    pins = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements/dev.txt").read_text(), re.MULTILINE)
    assert set().union(*wanted()) <= set(pins)


def test_its_version_is_the_packages() -> None:
    """A label that lies is worse than none."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"VERSION={version}" in all_of("ARG")


def test_it_starts_a_command_that_exists() -> None:
    """Without a shell between, so that SIGTERM reaches the server."""
    assert json.loads(all_of("ENTRYPOINT")[0]) == [OWN_IMAGE]
    assert json.loads(all_of("CMD")[0])[0] in ROLES
    assert all_of("STOPSIGNAL") == ["SIGTERM"]


def test_its_variables_are_settings() -> None:
    """And every server of it, a worker too, listens on the port that it exposes."""
    environment = image_environment()
    assert {name for name in environment if name.startswith(PREFIX)} <= SETTINGS
    ports = {environment[f"{PREFIX}PORT"], environment[f"{PREFIX}WORKER_PORT"], *all_of("EXPOSE")}
    assert len(ports) == 1
    assert (
        json.loads(all_of("VOLUME")[0]) == [environment[f"{PREFIX}DATA"]] == all_of("WORKDIR")[-1:]
    )


def test_it_does_not_run_as_root() -> None:
    """By a number, which is all that Kubernetes can check."""
    (user,) = all_of("USER")
    uid, _, gid = user.partition(":")
    assert uid == gid
    assert int(uid) >= 10_000
    assert f"--uid {uid} --gid {gid}" in " ".join(all_of("RUN"))
