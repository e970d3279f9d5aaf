"""The documentation against the code: what it names exists, and what exists is named."""

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from understudy import limits
from understudy.sandbox.interpreter import JAIL_ID
from understudy.settings import PREFIX, Settings, descriptions, settings_page

ROOT = Path(__file__).resolve().parent.parent
VERBS = ["demo", "serve", "test", "check", "fix", "bench", "soak"]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "changes/*.md", "docs/**/*.md")
    for path in ROOT.glob(pattern)
)


def read(page: str) -> str:
    """A page's text."""
    return (ROOT / page).read_text()


def blocks(text: str, *languages: str) -> list[str]:
    """The fenced blocks of a page in one of these languages."""
    found = re.findall(r"^```(\w+)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [body for language, body in found if language in languages]


def commands(page: str) -> list[list[str]]:
    """The shell commands that a page tells its reader to run, in words."""
    text = read(page)
    lines = [line for block in blocks(text, "console", "sh") for line in block.splitlines()]
    lines += re.findall(r"`((?:make|\.venv/bin/understudy|understudy) [^`]+)`", text)
    return [shlex.split(line.removeprefix("$ ")) for line in lines if line.strip()]


def targets() -> list[str]:
    """The Makefile's verbs."""
    return re.findall(r"^([a-z][a-z-]*):", read("Makefile"), flags=re.MULTILINE)


def test_the_makefile_has_exactly_its_seven_verbs() -> None:
    """An eighth verb would need an eighth thing to remember."""
    assert targets() == VERBS
    phony = re.search(r"^\.PHONY: (.*)$", read("Makefile"), flags=re.MULTILINE)
    assert phony is not None
    assert phony.group(1).split() == VERBS


def test_the_readme_names_the_two_commands_of_a_newcomer() -> None:
    """They are what README promises first, and CI runs the second."""
    said = commands("README.md")
    assert ["make", "demo"] in said
    assert ["make", "test"] in said
    assert "make test" in read(".ci/run")
    assert "make check" in read(".ci/run")


@pytest.mark.parametrize("page", PAGES)
def test_make_commands_in_the_docs_exist(page: str) -> None:
    """A verb that was renamed must be renamed in the docs."""
    named = {words[1] for words in commands(page) if words[0] == "make" and len(words) > 1}
    assert named <= set(VERBS)


def named_commands() -> list[str]:
    """The subcommands that the docs, and the Makefile for them, tell the reader to use."""
    said = [words for page in PAGES for words in commands(page)]
    said += [
        line.strip("@\t ").split()
        for line in read("Makefile").splitlines()
        if "bin/understudy" in line
    ]
    return sorted(
        {
            words[1]
            for words in said
            if words[0].endswith("understudy") and len(words) > 1 and words[1][0].isalpha()
        }
    )


@pytest.mark.parametrize("command", named_commands())
def test_commands_in_the_docs_exist(command: str) -> None:
    """Asked of the real entry point, so that a renamed command fails here."""
    start = "from understudy.cli import main; main()"
    asked = subprocess.run(
        [sys.executable, "-c", start, command, "--help"], capture_output=True, timeout=60
    )
    assert asked.returncode == 0, asked.stderr.decode()


@pytest.mark.parametrize("page", PAGES)
def test_links_in_the_docs_lead_somewhere(page: str) -> None:
    """Relative links only: what is elsewhere on the net is not ours to keep."""
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", read(page))
    local = [link for link in links if "://" not in link]
    folder = (ROOT / page).parent
    assert [link for link in local if not (folder / link).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_python_in_the_docs_is_python(page: str) -> None:
    """Nobody should copy a syntax error."""
    for block in blocks(read(page), "python"):
        ast.parse(block)


@pytest.mark.parametrize("page", PAGES)
def test_variables_in_the_docs_are_settings(page: str) -> None:
    """UNDERSTUDY_... is in settings.py or it is a typo."""
    known = {f"{PREFIX}{name.upper()}" for name in Settings.__struct_fields__}
    named = {name.rstrip("_") for name in re.findall(rf"{PREFIX}[A-Z_]+", read(page))}
    assert sorted(named - known - {PREFIX.rstrip("_")}) == []


def test_every_setting_is_described_on_the_settings_page() -> None:
    """docs/settings.md is generated; a new setting is one field and this page made again."""
    assert [name for name, text in descriptions().items() if not text.endswith(".")] == []
    assert read("docs/settings.md") == settings_page()


def test_the_limits_of_the_sandbox_are_those_of_the_code() -> None:
    """docs/sandbox.md has them for people; limits.py has the truth."""
    mib, page = 2**20, read("docs/sandbox.md")
    files, folders = limits.CODE_FILES, limits.CODE_FOLDER_DEPTH
    images, image_mib = limits.CODE_IMAGES, limits.CODE_IMAGE_BYTES // mib
    idle_h, age_h = limits.CODE_IDLE_S / 3600, limits.CODE_AGE_S / 3600
    rows = [
        f"| time of one call | {limits.CODE_S:.0f} s |",
        f"killed {limits.CODE_GRACE_S:.0f} s later",
        f"| memory of one process | {limits.CODE_PROCESS_BYTES // mib} MiB above",
        f"| memory of a session | {limits.CODE_SESSION_BYTES // 2**30} GiB |",
        f"| processes and threads | {limits.CODE_PROCESSES} |",
        f"| open files | {limits.CODE_OPEN_FILES} |",
        f"| {limits.CODE_FOLDER_BYTES // mib} MiB and {limits.CODE_FOLDER_FILES:,} files,",
        f"| `/tmp`, `/dev/shm` | {limits.CODE_TMP_BYTES // mib} MiB each",
        f"| output of one call | {limits.CODE_LOGS_BYTES // 1024} KiB |",
        f"| images of one call | {images}, of {image_mib} MiB each |",
        f"| files saved of one call | {files}, nearest first, down to {folders} folders |",
        f"| sessions | {limits.CODE_SESSIONS} |",
        f"| {idle_h:.0f} h without use, {age_h:.0f} h in all |",
        f"the jail's user is number {JAIL_ID}",
    ]
    assert [row for row in rows if row not in page] == []


def test_each_change_is_one_sentence_of_a_known_kind() -> None:
    """changes/README.md says how; the release puts them together unread."""
    for path in (ROOT / "changes").iterdir():
        if path.name == "README.md":
            continue
        assert re.fullmatch(r"[a-z0-9-]+\.(added|changed|fixed|removed)\.md", path.name), path.name
        assert re.fullmatch(r"[A-Z`][^\n]*\.\n", path.read_text()), path.name


def test_the_changelog_knows_the_version() -> None:
    """Either the version has its section, or it is not released yet."""
    version = tomllib.loads(read("pyproject.toml"))["project"]["version"]
    headings = re.findall(r"^## (\S+)", read("CHANGELOG.md"), flags=re.MULTILINE)
    assert version in headings or "Unreleased" in headings
