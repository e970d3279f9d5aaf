"""The files of deploy/ as tests read them, and the programs that check them."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from understudy.settings import PREFIX, Settings, object_store_options

ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
OWN_IMAGE = "understudy"
SETTINGS = {f"{PREFIX}{name.upper()}" for name in Settings.__struct_fields__}
_PROGRAM_S = 100

# What stands in a YAML file is as free as JSON.
Yaml = dict[str, Any]


def texts() -> dict[str, str]:
    """Path below deploy/ → what is written there, of every file but an operator's own secrets."""
    files = [path for path in sorted(DEPLOY.rglob("*")) if path.is_file()]
    files = [path for path in files if path.name not in (".env", "secret.env")]
    return {path.relative_to(DEPLOY).as_posix(): path.read_text() for path in files}


def documents(text: str) -> list[Yaml]:
    """All documents of a YAML file. The same key twice is an error."""
    return list(YAML(typ="safe", pure=True).load_all(text))


@cache
def document(path: Path) -> Yaml:
    """The only document of a YAML file. Whoever asks gets the same: it is not to be changed."""
    (only,) = documents(path.read_text())
    return only


def variables(text: str) -> dict[str, str]:
    """Name → value of a file of variables, those that are commented out included."""
    return dict(re.findall(r"^#?([A-Z][A-Z0-9_]*)=(.*)$", text, flags=re.MULTILINE))


def is_known(variable: str) -> bool:
    """Whether a server reads it."""
    return variable in SETTINGS or bool(object_store_options({variable: "set"}))


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's: a word, and the rest of its line."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    split = [line.partition(" ") for line in lines if line.strip()]
    return [(word, rest.strip()) for word, _, rest in split]


def all_of(word: str) -> list[str]:
    """What the instructions of one kind say."""
    return [rest for found, rest in instructions() if found == word]


def image_environment() -> dict[str, str]:
    """The variables of the finished image."""
    pairs = re.findall(r"(\w+)=(\S+)", all_of("ENV")[-1])
    return dict(pairs)


def is_pinned(image: str) -> bool:
    """Whether it names a version, of at least two numbers, and no registry but the usual one."""
    name, _, tag = image.partition(":")
    return re.match(r"v?\d+\.\d+", tag) is not None and "." not in name.partition("/")[0]


def seconds(duration: str) -> float:
    """Of a duration such as 20s."""
    (number,) = re.findall(r"^(\d+)s$", duration)
    return float(number)


def program(name: str) -> str:
    """One of those that the tests depend on, as this environment has it."""
    return str(Path(sys.executable).with_name(name))


def run(name: str, *arguments: str | Path, **environment: str) -> str:
    """What a program says; it has to end well."""
    done = subprocess.run(
        [program(name), *map(str, arguments)],
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        timeout=_PROGRAM_S,
        check=False,
    )
    assert done.returncode == 0, f"{name} ended with {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout
