"""The page of states is the table's."""

from pathlib import Path

from understudy.machine.diagram import mermaid, states_page
from understudy.machine.run import TERMINAL, TRANSITIONS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "run-states.md"


def test_the_page_is_up_to_date() -> None:
    """`understudy docs` writes it."""
    assert PAGE.read_text() == states_page()


def test_every_state_is_in_the_diagram() -> None:
    diagram = mermaid()
    assert all(status in diagram for status in TRANSITIONS)
    assert all(f"    {status} --> [*]\n" in diagram for status in TERMINAL)
