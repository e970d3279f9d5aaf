"""What hostile code tries. Each attack prints ESCAPED where it got through; none may.

The numbers are kinds, from the network to files changed in place. `says` is what the call's logs
must hold; `within_s` how long the call may take. {port} is the server's port, {other} a name that
another session may have used to leave something behind.
"""

from dataclasses import dataclass
from textwrap import dedent


@dataclass(frozen=True)
class Attack:
    """One call of hostile code."""

    kind: int
    name: str
    code: str
    says: str = ""
    within_s: float = 10.0


def attack(kind: int, name: str, code: str, says: str = "", within_s: float = 10.0) -> Attack:
    """Code as it is indented here."""
    return Attack(kind, name, dedent(code).strip() + "\n", says, within_s)
