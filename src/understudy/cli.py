"""The entry point. `serve`, `api` and `worker` start at once; commands.py parses all else.

typer and what it needs in turn take as long to import as all that a server needs, so the options
of these are read here where they are plain. What is not (an error, `--help`) typer explains.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from understudy import serving

ROLES: tuple[serving.Role, ...] = ("serve", "api", "worker")


class Options(TypedDict, total=False):
    """The command and its options, as far as they were given; commands.py declares and describes
    the same ones."""

    role: serving.Role
    host: str
    port: int
    data: str
    workers: int
    config: Path


def main() -> None:
    """Perform what the process was called with."""
    options = plain_options(sys.argv[1:])
    if options is not None:
        serving.serve(**options)
        return
    from understudy.commands import app
    from understudy.transfer.command import HELP, migrate

    app.command(help=HELP)(migrate)  # Neither knows the other: they are neighbours on one floor.
    app()


def plain_options(arguments: Sequence[str]) -> Options | None:
    """The options of `serve --name value ...`; None for whatever else was called for."""
    names, values = arguments[1::2], arguments[2::2]
    role = next((role for role in ROLES if arguments[:1] == [role]), None)
    if role is None or len(names) != len(values):
        return None
    options = Options(role=role)
    for name, value in zip(names, values, strict=True):
        match name, value.isdecimal() and value.isascii():
            case _ if value.startswith("-"):
                return None
            case "--host", _:
                options["host"] = value
            case "--port", True:
                options["port"] = int(value)
            case "--data", _:
                options["data"] = value
            case "--workers", True:
                options["workers"] = int(value)
            case "--config", _:
                options["config"] = Path(value)
            case _:
                return None
    return options
