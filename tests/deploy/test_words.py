"""What the files of deploy/ name: settings, commands and pages that exist, and nobody's secrets."""

import re
import shlex
import subprocess
import sys

import pytest

from tests.deploy.files import ROOT, SETTINGS, documents, texts
from understudy.settings import PREFIX

TEXTS = texts()
YAML = [name for name in TEXTS if name.endswith(".yaml")]


@pytest.mark.parametrize("name", YAML)
def test_yaml_is_well_formed(name: str) -> None:
    """No key twice, no tab, no space at an end, and a comment first that says what the file is."""
    text = TEXTS[name]
    assert documents(text)
    assert [line for line in text.splitlines() if "\t" in line or line != line.rstrip()] == []
    assert text.endswith("\n")
    kustomized = name.startswith("kubernetes/components/") and "kustomization" not in name
    assert text.startswith("# ") or kustomized


@pytest.mark.parametrize("name", TEXTS)
def test_variables_are_settings(name: str) -> None:
    """UNDERSTUDY_... is in settings.py or it is a typo."""
    named = set(re.findall(rf"\b{PREFIX}[A-Z_]+", TEXTS[name]))
    assert sorted(named - SETTINGS) == []


@pytest.mark.parametrize("name", TEXTS)
def test_pages_and_files_are_there(name: str) -> None:
    """Those that a comment sends its reader to."""
    named = re.findall(r"\b(?:docs|deploy)/[\w./-]+\w", TEXTS[name])
    made = {"deploy/.env"}
    assert [path for path in named if path not in made and not (ROOT / path).exists()] == []


def commands() -> list[str]:
    """What a comment tells its reader to run of ours."""
    named = [one for text in TEXTS.values() for one in re.findall(r"`understudy ([a-z ]+)", text)]
    return sorted({*named})


@pytest.mark.parametrize("command", commands())
def test_commands_exist(command: str) -> None:
    """Asked of the real entry point."""
    start = "from understudy.cli import main; main()"
    asked = [sys.executable, "-c", start, *shlex.split(command), "--help"]
    assert subprocess.run(asked, capture_output=True, timeout=60, check=False).returncode == 0


def test_nothing_looks_like_a_secret() -> None:
    """Keys of providers and clouds, private keys, passwords in URLs."""
    secret = re.compile(
        r"\bsk-\w{8}|\bAKIA\w{12}|-----BEGIN|://[^/\s:@]+:(?!PASSWORD@|\$\{)[^/\s@]+@"
    )
    assert [name for name, text in TEXTS.items() if secret.search(text)] == []
