"""Which sandbox it is: what the setting asks for, or none, with the reason and what helps.

Nothing is started here, and nothing waits: what can be known at once is known, the rest is found by
the sandbox's own self-test (`started`). There is no way from a sandbox that does not work to code
that runs without one.
"""

import sys
from pathlib import Path

from understudy.sandbox import Sandbox
from understudy.sandbox.bubblewrap import Bubblewrap
from understudy.sandbox.environment import installed
from understudy.sandbox.local import Local
from understudy.sandbox.off import Off
from understudy.sandbox.system import BUBBLEWRAP, command_for, has_bubblewrap

JUPYTER = "jupyter+"
PAGE = "docs/sandbox.md"


def open_sandbox(setting: str, folder: Path) -> Sandbox:
    """The sandbox of a setting; `folder` has the Python environment of those on this machine."""
    if setting == "off":
        return Off("It is switched off here.", "UNDERSTUDY_SANDBOX=auto switches it on.")
    if setting == "unsafe-local":
        return Local()
    if setting.startswith(JUPYTER):
        return Off(f"This version has no sandbox `{setting.split(':')[0]}`.", "Use another one.")
    return _jail(folder)


def _jail(folder: Path) -> Sandbox:
    """bubblewrap on this machine, unless something that it needs is missing."""
    if sys.platform != "linux":
        return Off(
            "The sandbox needs Linux.",
            f"Run the server in a Linux container, or set UNDERSTUDY_SANDBOX=jupyter+... ({PAGE}).",
        )
    if not has_bubblewrap():
        return Off(
            "bubblewrap (bwrap) is not installed.",
            f"Install it with `{command_for(BUBBLEWRAP)}` and restart the server.",
        )
    environment = installed(folder)
    if environment is None:
        return Off(
            f"The sandbox's Python packages are not installed in {folder}.",
            "Install them with `understudy sandbox install` and restart the server.",
        )
    return Bubblewrap(environment)
