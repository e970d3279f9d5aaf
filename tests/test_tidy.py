"""The house style (CONTRIBUTING.md) as a test over syntax trees.

A rule is a function from one source file to what offends in it. KNOWN lists offenders that were
there before a rule was; it may only shrink: an entry that is no longer needed fails, too.
"""

import ast
import io
import sys
import tokenize
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "src/understudy/"
FUNCTION_LINES = 60
FILE_LINES = 500

# Rule → offences as the rule words them.
KNOWN: dict[str, set[str]] = {}

# From top to ground. What shares a line is on one floor; the seams do not know each other.
FLOORS = [
    {"cli"},
    {"commands", "transfer"},
    {"serving", "demo"},
    {"processes"},
    {"assembly"},
    {"server"},
    {"connection"},
    {"api"},
    {"engine"},
    {"store", "blobs", "bell", "model", "sandbox", "search"},
    {"machine"},
    {"wire"},
    {"errors", "settings", "limits", "heaps", "world", "logs"},
]
MAY_KNOW_EACH_OTHER = FLOORS[-1]

# What is banned → the only file (or files) that may say it.
HOMES = {
    "os.environ": "settings.py",
    "os.environb": "settings.py",
    "os.getenv": "settings.py",
    "time.time": "world.py",
    "time.time_ns": "world.py",
    "datetime.datetime.now": "world.py",
    "datetime.datetime.utcnow": "world.py",
    "datetime.date.today": "world.py",
    "uuid.uuid1": "world.py",
    "uuid.uuid4": "world.py",
    "secrets": "world.py",
    "random": "world.py",
    "print": "commands.py or serving.py",
}

BANNED_FOLDERS = {"utils", "helpers", "common", "manager", "service", "base"}
LEFTOVERS = ("FIXME", "TODO", "XXX", "HACK")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One Python file: its path below the root, its text and its tree."""

    path: str
    text: str
    tree: ast.Module

    @property
    def inside(self) -> PurePosixPath | None:
        """The path inside the package, or None for tests and scripts."""
        if not self.path.startswith(PACKAGE):
            return None
        return PurePosixPath(self.path.removeprefix(PACKAGE))


def source(path: str, text: str) -> Source:
    """A source from its text."""
    return Source(path, text, ast.parse(text))


@cache
def sources() -> tuple[Source, ...]:
    """Every Python file of the project."""
    paths = [
        path
        for folder in ("src", "tests", "benchmarks", "scripts")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not any(part.startswith(".") or part == "node_modules" for part in path.parts[1:])
    ]
    return tuple(source(path.relative_to(ROOT).as_posix(), path.read_text()) for path in paths)


def long_functions(file: Source) -> Iterator[str]:
    """Functions that do too much."""
    for node in ast.walk(file.tree):
        if isinstance(node, Function):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                yield f"{file.path}: {node.name} has {lines} lines"


def long_files(file: Source) -> Iterator[str]:
    """Files that hold too much."""
    lines = len(file.text.splitlines())
    if lines > FILE_LINES:
        yield f"{file.path}: {lines} lines"


def files_without_a_first_sentence(file: Source) -> Iterator[str]:
    """Files whose first line does not say what they hold."""
    said = ast.get_docstring(file.tree)
    lines = [line for line in file.text.splitlines() if not line.startswith("#!")]
    if not said or not lines[0].startswith(('"""', 'r"""')) or not said.splitlines()[0].strip():
        yield f"{file.path}: no docstring on its first line"


def undescribed(file: Source) -> Iterator[str]:
    """Public functions, classes and methods of the package without a docstring."""
    if file.inside is None:
        return
    stack: list[tuple[str, ast.Module | ast.ClassDef]] = [("", file.tree)]
    while stack:
        prefix, scope = stack.pop()
        for node in scope.body:
            if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
                continue
            if not ast.get_docstring(node) and not _is_variant(node):
                yield f"{file.path}: {prefix}{node.name}"
            if isinstance(node, ast.ClassDef):
                stack.append((f"{prefix}{node.name}.", node))


def _is_variant(node: Function | ast.ClassDef) -> bool:
    """A second face of something described: an overload, a setter, an override."""
    said = {ast.unparse(decorator).split(".")[-1] for decorator in node.decorator_list}
    return bool(said & {"overload", "setter", "override"})


def upward_imports(file: Source) -> Iterator[str]:
    """Imports of a higher floor, or of a neighbour that should be unknown."""
    if file.inside is None or file.path == f"{PACKAGE}__init__.py":
        return
    here = file.inside.parts[0].removesuffix(".py")
    level = _level(here)
    if level is None:
        yield f"{file.path}: {here} is on no floor"
        return
    for module in _imported(file):
        parts = module.split(".")
        if parts[0] != "understudy" or len(parts) == 1 or parts[1] == here:
            continue
        there = _level(parts[1])
        neighbour = there == level and not {here, parts[1]} <= MAY_KNOW_EACH_OTHER
        if there is not None and (there < level or neighbour):
            yield f"{file.path}: imports understudy.{parts[1]}"


def _level(name: str) -> int | None:
    return next((level for level, floor in enumerate(FLOORS) if name in floor), None)


def _imported(file: Source) -> Iterator[str]:
    """Every module, and every name from one, that a file imports at any depth."""
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def leftovers(file: Source) -> Iterator[str]:
    """Comments that put work off."""
    for token in tokenize.generate_tokens(io.StringIO(file.text).readline):
        if token.type == tokenize.COMMENT and any(word in token.string for word in LEFTOVERS):
            yield f"{file.path}: {token.string}"


def banned_calls(file: Source) -> Iterator[str]:
    """Impure calls outside their one home."""
    if file.inside is None:
        return
    names = _aliases(file)
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Name | ast.Attribute):
            said = _dotted(node, names)
            for banned, home in HOMES.items():
                is_said = said == banned or said.startswith(f"{banned}.")
                if is_said and str(file.inside) not in home.split(" or "):
                    yield f"{file.path}: {banned} belongs in {home}"


def _aliases(file: Source) -> dict[str, str]:
    """Name in the file → the module, or the thing in one, that it was imported as."""
    names = {"print": "print"}
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                names[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def _dotted(node: ast.expr, names: dict[str, str]) -> str:
    """What an expression says in full; nothing when it does not start at an import."""
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, names)}.{node.attr}"
    return names.get(node.id, "") if isinstance(node, ast.Name) else ""


def undeclared_dependencies(file: Source) -> Iterator[str]:
    """Third-party imports of the package that pyproject.toml does not list."""
    if file.inside is None:
        return
    known = _dependencies() | sys.stdlib_module_names | {"understudy"}
    for module in _imported(file):
        if (top := module.split(".")[0]) not in known:
            yield f"{file.path}: {top} is not in [project] dependencies"


# Distributions whose module has another name.
MODULES = {
    "nats_py": "nats",
    "pystemmer": "Stemmer",
}


@cache
def _dependencies() -> frozenset[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project.get("optional-dependencies", {}).values()
    declared = [*project["dependencies"], *(line for extra in extras for line in extra)]
    names = (
        line.split(">")[0].split("=")[0].split("[")[0].strip().replace("-", "_")
        for line in declared
    )
    return frozenset(MODULES.get(name, name) for name in names)


def vague_folders(file: Source) -> Iterator[str]:
    """Folders named for nothing."""
    for part in PurePosixPath(file.path).parts[:-1]:
        if part in BANNED_FOLDERS:
            yield f"{file.path}: in a folder named {part}"


def mocks(file: Source) -> Iterator[str]:
    """Tests use real parts and shipped fakes."""
    for module in _imported(file):
        if module.startswith(("unittest.mock", "mock.")) or module in {"mock", "pytest_mock"}:
            yield f"{file.path}: imports {module}"


RULES: dict[str, Callable[[Source], Iterator[str]]] = {
    rule.__name__: rule
    for rule in (
        long_functions,
        long_files,
        files_without_a_first_sentence,
        undescribed,
        upward_imports,
        leftovers,
        banned_calls,
        undeclared_dependencies,
        vague_folders,
        mocks,
    )
}


@pytest.mark.parametrize("rule", RULES)
def test_the_house_style_is_kept(rule: str) -> None:
    """Nothing new offends, and nothing on the list has been mended without being taken off."""
    found = {offence for file in sources() for offence in RULES[rule](file)}
    known = KNOWN.get(rule, set())
    assert sorted(found - known) == []
    assert sorted(known - found) == [], "mended: take it off KNOWN"


def test_the_list_of_known_offenders_names_rules() -> None:
    """A misspelt rule would hide its entries."""
    assert KNOWN.keys() <= RULES.keys()


def test_every_folder_of_the_package_is_a_package() -> None:
    """import-linter does not see what has no __init__.py."""
    folders = {(ROOT / file.path).parent for file in sources() if file.inside is not None}
    assert sorted(str(folder) for folder in folders if not (folder / "__init__.py").exists()) == []


FIRST = '"""A file."""\n'
BAD: list[tuple[str, str, str]] = [
    ("long_functions", "tests/x.py", "def f():\n" + "    f()\n" * FUNCTION_LINES),
    ("long_files", "tests/x.py", "f()\n" * (FILE_LINES + 1)),
    ("files_without_a_first_sentence", "tests/x.py", "import os\n"),
    ("files_without_a_first_sentence", "tests/x.py", "\n" + FIRST),
    ("undescribed", f"{PACKAGE}api/x.py", "def f(): ..."),
    ("undescribed", f"{PACKAGE}api/x.py", 'class A:\n    """A."""\n    def f(self): ...'),
    ("upward_imports", f"{PACKAGE}engine/x.py", "from understudy.api import app"),
    ("upward_imports", f"{PACKAGE}engine/x.py", "def f():\n    import understudy.cli"),
    ("upward_imports", f"{PACKAGE}store/x.py", "from understudy import model"),
    ("upward_imports", f"{PACKAGE}novel/x.py", ""),
    ("leftovers", "tests/x.py", f"f()  # {LEFTOVERS[0]}: later"),
    ("banned_calls", f"{PACKAGE}cli.py", "import os\nos.environ['A']"),
    ("banned_calls", f"{PACKAGE}api/settings.py", "from os import environ as e\ne.get('A')"),
    ("banned_calls", f"{PACKAGE}cli.py", "import time as t\nt.time()"),
    ("banned_calls", f"{PACKAGE}cli.py", "from datetime import datetime\ndatetime.now()"),
    ("banned_calls", f"{PACKAGE}cli.py", "import random\nrandom.choice([1])"),
    ("banned_calls", f"{PACKAGE}world.py", "print(1)"),
    ("undeclared_dependencies", f"{PACKAGE}cli.py", "import pandas.io"),
    ("vague_folders", "src/understudy/utils/x.py", FIRST),
    ("mocks", "tests/x.py", "from unittest.mock import patch"),
]


@pytest.mark.parametrize(("rule", "path", "text"), BAD)
def test_each_rule_finds_what_it_is_for(rule: str, path: str, text: str) -> None:
    """A rule that could not fail would be no rule."""
    assert list(RULES[rule](source(path, text)))


GOOD: list[tuple[str, str, str]] = [
    ("undescribed", f"{PACKAGE}api/x.py", "def _f(): ...\ndef g():\n    '''G.'''"),
    ("upward_imports", f"{PACKAGE}settings.py", "from understudy import limits"),
    ("upward_imports", f"{PACKAGE}cli.py", "from understudy.assembly import open_app"),
    ("upward_imports", f"{PACKAGE}store/x.py", "from understudy.store import Statement"),
    ("banned_calls", f"{PACKAGE}settings.py", "import os\nos.environ['A']"),
    ("banned_calls", f"{PACKAGE}serving.py", "print(1)"),
    ("banned_calls", f"{PACKAGE}api/x.py", "def f(self, secrets):\n    self.print(secrets)"),
    ("banned_calls", f"{PACKAGE}api/x.py", "import time\ntime.monotonic()"),
    ("undeclared_dependencies", f"{PACKAGE}cli.py", "import os.path, jsonschema_rs, rs_bpe"),
    ("leftovers", "tests/x.py", f"f('{LEFTOVERS[1]}')"),
]


@pytest.mark.parametrize(("rule", "path", "text"), GOOD)
def test_no_rule_finds_more_than_it_is_for(rule: str, path: str, text: str) -> None:
    """A rule that cries wolf would be switched off."""
    assert list(RULES[rule](source(path, text))) == []
