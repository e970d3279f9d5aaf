"""Every assertion of the specification's checklist that this server claims has a marked test."""

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parent

# A test says `pytest.mark.assertion(29)`; an acceptance test's scenario says `scenario(29)`.
MARKERS = {"pytest.mark.assertion", "scenario"}

# SPEC section 15, the groups of this server's scope: T, A, H, M, R, S, E, F, V, C, P.
CLAIMED = {*range(1, 217)}


def marked(path: Path) -> Iterator[int]:
    """The numbers in the markers of a file, read without importing it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in MARKERS:
            for argument in node.args:
                if isinstance(argument, ast.Starred):
                    continue  # The scenarios' own numbers, which are seen where they stand.
                number = ast.literal_eval(argument)
                assert isinstance(number, int), path
                yield number


def all_marked() -> set[int]:
    """The numbers that some test is marked with."""
    return {number for path in sorted(TESTS.rglob("*.py")) for number in marked(path)}


def test_every_claimed_assertion_has_a_test() -> None:
    """When this fails, a test is missing or has lost its marker."""
    assert sorted(CLAIMED - all_marked()) == []


def test_markers_name_assertions_of_the_checklist() -> None:
    """The checklist ends at 216."""
    assert all_marked() <= set(range(1, 217))
