"""deploy/kubernetes as an operator puts it together: what is applied, by choice of components."""

import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.deploy.files import KUBERNETES, Yaml, documents, run

# Which of the components, but those that the example names when it is copied.
AS_IT_STANDS = "as it stands"
CHOICES: dict[str, tuple[str, ...]] = {
    AS_IT_STANDS: (),
    "nothing more": (),
    "all others": ("ingress", "network-policy", "scale-by-cpu", "sandbox"),
}
_COMPONENTS = re.compile(r"^components:\n(?:  .*\n)+", flags=re.MULTILINE)
_ROLES = {"understudy-api": "api", "understudy-worker": "worker"}


@cache
def built(choice: str) -> tuple[Yaml, ...]:
    """All objects of a choice. The Secret has the example's content."""
    with TemporaryDirectory() as folder:
        copy = Path(folder, "kubernetes")
        shutil.copytree(KUBERNETES, copy)
        example = copy / "example"
        shutil.copy(example / "secret.env.example", example / "secret.env")
        if choice != AS_IT_STANDS:
            _choose(example / "kustomization.yaml", CHOICES[choice])
        return tuple(documents(run("kubectl", "kustomize", example)))


def _choose(path: Path, names: tuple[str, ...]) -> None:
    """Take these components instead of those that stand there."""
    text, count = _COMPONENTS.subn("", path.read_text())
    assert count == 1
    chosen = "".join(f"  - ../components/{name}\n" for name in names)
    path.write_text(text + (f"components:\n{chosen}" if chosen else ""))


def every(kind: str) -> list[tuple[str, Yaml]]:
    """All objects of a kind, each with the choice that it is of."""
    return [(choice, one) for choice in CHOICES for one in built(choice) if one["kind"] == kind]


def named(choice: str, kind: str, name: str) -> Yaml:
    """The one object of this kind and name."""
    (found,) = [one for one in built(choice) if one["kind"] == kind and name_of(one) == name]
    return found


def name_of(one: Yaml) -> str:
    """An object's name."""
    name: str = one["metadata"]["name"]
    return name


def servers() -> Iterator[tuple[str, Yaml, Yaml]]:
    """The command, the pod and the container of each Deployment, in every choice."""
    for _, one in every("Deployment"):
        pod = one["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        yield _ROLES[name_of(one)], pod, container
