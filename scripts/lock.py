"""Pins every dependency with its hashes, and checks that the pins fit pyproject.toml.

    .venv/bin/python scripts/lock.py              write the lists anew, keeping pins that fit
    .venv/bin/python scripts/lock.py --upgrade    the same, with the newest versions
    .venv/bin/python scripts/lock.py --check      fail when a list is out of step (no network)

A list starts with a digest of the declarations it was made from. So the check needs no resolver:
the digest must be today's, and every line must be a pin or a hash, never an address or a path.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SANDBOX = ROOT / "src" / "understudy" / "sandbox"

_PIN = re.compile(r"^[a-z0-9-]+==[^\s;\\]+(?: ; [^\\]+?)?(?: \\)?$")
_HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}(?: \\)?$")
_EDITABLE = ("editables", "hatchling")  # For the editable install.
_SANDBOX_PYTHON = "python>=3.10"  # The sandbox may run on an older Python than the server.


@dataclass(frozen=True)
class Pins:
    """A list: where it is, and what it must hold. The first line of `declared` is the oldest
    Python. It has the same pins as `like`, another list; what is in `beside` is not said again."""

    path: Path
    declared: list[str]
    like: Path | None = None
    beside: Path | None = None
    is_for_wheels: bool = False


def main(arguments: list[str]) -> str | None:
    """Do what the arguments ask; the answer is a complaint, or None."""
    wanted = lists(ROOT / "pyproject.toml")
    if arguments == ["--check"]:
        complaints = [line for pins in wanted for line in problems(pins)]
        return "\n".join(complaints) or None
    if arguments not in ([], ["--upgrade"]):
        return __doc__
    for pins in wanted:
        write(pins, upgrade=bool(arguments))
    return None


def lists(pyproject: Path) -> list[Pins]:
    """The package's own dependencies, the same with the tools, what the demo needs of both, and
    what code_interpreter has."""
    declared = tomllib.loads(pyproject.read_text())
    run = sorted(declared["project"]["dependencies"])
    demo = sorted([*declared["project"]["optional-dependencies"]["demo"], *_EDITABLE])
    groups = declared["dependency-groups"]
    python = [f"python{declared['project']['requires-python']}"]
    dev = ROOT / "requirements" / "dev.txt"
    small, full = (sorted(groups[name]) for name in ("sandbox", "sandbox-full"))
    return [
        Pins(ROOT / "requirements" / "run.txt", python + run),
        Pins(dev, python + run + sorted(groups["dev"])),
        Pins(ROOT / "requirements" / "demo.txt", python + run + demo, like=dev),
        Pins(SANDBOX / "requirements.txt", [_SANDBOX_PYTHON, *small], is_for_wheels=True),
        Pins(
            SANDBOX / "requirements-full.txt",
            [_SANDBOX_PYTHON, *small, *full],
            beside=SANDBOX / "requirements.txt",
            is_for_wheels=True,
        ),
    ]


def problems(pins: Pins) -> list[str]:
    """What is wrong with one list, in words."""
    shown = pins.path.relative_to(ROOT)
    if not pins.path.exists():
        return [f"{shown} is missing: run scripts/lock.py"]
    lines = pins.path.read_text().splitlines()
    found = []
    if not lines or lines[0] != _first_line(pins):
        found.append(f"{shown} is out of step with pyproject.toml: run scripts/lock.py")
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("#"):
            if "://" in line or " /" in line:
                found.append(f"{shown}:{number}: an address or a path: {line}")
        elif not (_PIN.match(line) or _HASH.match(line)):
            found.append(f"{shown}:{number}: neither a pin nor a hash: {line}")
    return found


def write(pins: Pins, *, upgrade: bool) -> None:
    """Resolve one list for every supported Python and write it."""
    minimum, *wanted = pins.declared
    pins.path.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        declared = Path(folder) / "declared.in"
        declared.write_text("\n".join(wanted) + "\n")
        pinned = Path(folder) / "pinned.txt"
        others = [path for path in (pins.like, pins.beside) if path is not None]
        before = [path for path in (*others, pins.path) if path.exists()]
        pinned.write_text("\n".join(path.read_text() for path in before))
        command = [
            str(Path(sys.executable).parent / "uv"), "pip", "compile", str(declared),
            "--output-file", str(pinned), "--quiet",
            "--universal", "--python-version", minimum.removeprefix("python>="),
            "--generate-hashes", "--no-header", "--no-annotate",
            "--no-emit-index-url", "--no-emit-find-links",
        ]  # fmt: skip
        for path in others:
            command += ["--constraint", str(path)]
        if pins.is_for_wheels:
            command += ["--only-binary", ":all:"]
        subprocess.run([*command, *(["--upgrade"] if upgrade else [])], check=True)
        said = _pins(pins.beside.read_text()) if pins.beside is not None else []
        text = "".join(pin for pin in _pins(pinned.read_text()) if pin not in said)
        pins.path.write_text(f"{_first_line(pins)}\n{text}")


def _pins(text: str) -> list[str]:
    """Each pin of a list with its hashes, as it stands there."""
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith("#")]
    return re.findall(r"^\S.*\n(?:[ ].*\n)*", "".join(lines), flags=re.MULTILINE)


def _first_line(pins: Pins) -> str:
    digest = hashlib.sha256("\n".join(pins.declared).encode()).hexdigest()
    return f"# Made by scripts/lock.py; do not edit. Declarations: sha256:{digest}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
