"""Which sandbox it is: what the setting asks for, or none, with the reason and what helps.

Nothing is started here, and nothing waits: what can be known at once is known, the rest is found by
the sandbox's own self-test (`started`). There is no way from a sandbox that does not work to code
that runs without one.
"""

from pathlib import Path

from understudy.sandbox import Sandbox, SandboxUnavailable
from understudy.sandbox.off import Off

_JUPYTER = "jupyter+"


def open_sandbox(setting: str, folder: Path) -> Sandbox:
    """The sandbox of a setting; `folder` has the Python environment of those on this machine."""
    # Each is loaded when it is the one: a server without a sandbox starts without them.
    if setting.startswith(_JUPYTER):
        from understudy.sandbox.jupyter import Jupyter

        return Jupyter(setting.removeprefix(_JUPYTER))
    match setting:
        case "off":
            return Off("It is switched off here.", "UNDERSTUDY_SANDBOX=auto switches it on.")
        case "unsafe-local":
            from understudy.sandbox.local import Local

            return Local()
        case _:
            return _jail(folder)


def _jail(folder: Path) -> Sandbox:
    """bubblewrap on this machine, unless something that it needs is missing."""
    from understudy.sandbox.bubblewrap import Bubblewrap
    from understudy.sandbox.check import found_bwrap
    from understudy.sandbox.environment import installed

    environment = installed(folder)
    try:
        found_bwrap(environment)
    except SandboxUnavailable as off:
        return Off(off.cause, off.remedy)
    return Bubblewrap(environment)
