"""Pins every dependency with its hashes, and checks that the pins fit pyproject.toml.

    .venv/bin/python scripts/lock.py              write requirements/*.txt, keeping pins that fit
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
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LISTS = ("run", "dev")

_PIN = re.compile(r"^[a-z0-9-]+==[^\s;\\]+(?: ; [^\\]+?)?(?: \\)?$")
_HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}(?: \\)?$")


def main(arguments: list[str]) -> str | None:
    """Do what the arguments ask; the answer is a complaint, or None."""
    declared = declarations(ROOT / "pyproject.toml")
    if arguments == ["--check"]:
        complaints = [line for name in LISTS for line in problems(name, declared[name])]
        return "\n".join(complaints) or None
    if arguments not in ([], ["--upgrade"]):
        return __doc__
    for name in LISTS:
        write(name, declared[name], upgrade=bool(arguments))
    return None


def declarations(pyproject: Path) -> dict[str, list[str]]:
    """List name → what it must hold: `run` is the package's own, `dev` has the tools as well."""
    declared = tomllib.loads(pyproject.read_text())
    run = sorted(declared["project"]["dependencies"])
    python = [f"python{declared['project']['requires-python']}"]
    return {
        "run": python + run,
        "dev": python + run + sorted(declared["dependency-groups"]["dev"]),
    }


def problems(name: str, declared: list[str]) -> list[str]:
    """What is wrong with one list, in words."""
    path = _path(name)
    shown = path.relative_to(ROOT)
    if not path.exists():
        return [f"{shown} is missing: run scripts/lock.py"]
    lines = path.read_text().splitlines()
    found = []
    if not lines or lines[0] != _first_line(declared):
        found.append(f"{shown} is out of step with pyproject.toml: run scripts/lock.py")
    for number, line in enumerate(lines, 1):
        if line.lstrip().startswith("#"):
            if "://" in line or " /" in line:
                found.append(f"{shown}:{number}: an address or a path: {line}")
        elif not (_PIN.match(line) or _HASH.match(line)):
            found.append(f"{shown}:{number}: neither a pin nor a hash: {line}")
    return found


def write(name: str, declared: list[str], *, upgrade: bool) -> None:
    """Resolve one list for every supported Python and write it."""
    minimum = declared[0].removeprefix("python>=")
    path = _path(name)
    path.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / f"{name}.in"
        wanted.write_text("\n".join(declared[1:]) + "\n")
        pinned = Path(folder) / f"{name}.txt"
        if path.exists():
            pinned.write_text(path.read_text())
        command = [
            str(Path(sys.executable).parent / "uv"), "pip", "compile", str(wanted),
            "--output-file", str(pinned), "--quiet",
            "--universal", "--python-version", minimum,
            "--generate-hashes", "--no-header", "--no-annotate",
            "--no-emit-index-url", "--no-emit-find-links",
        ]  # fmt: skip
        subprocess.run([*command, *(["--upgrade"] if upgrade else [])], check=True)
        path.write_text(f"{_first_line(declared)}\n{pinned.read_text()}")


def _path(name: str) -> Path:
    return ROOT / "requirements" / f"{name}.txt"


def _first_line(declared: list[str]) -> str:
    digest = hashlib.sha256("\n".join(declared).encode()).hexdigest()
    return f"# Made by scripts/lock.py; do not edit. Declarations: sha256:{digest}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
