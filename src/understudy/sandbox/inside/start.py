"""Where the zip file starts: as the supervisor of one session, or as the zygote of many."""

import contextlib
import importlib
import os
import site
import socket
import sys

from understudy.sandbox.inside import kernel, supervisor, zygote

# Imported and used once before the first session, so that sessions need not.
_LIBRARIES = ("numpy", "pandas", "matplotlib.pyplot")
# Each has Chinese, Japanese and Korean, which matplotlib's own font has not.
_MORE_FONTS = ("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK KR", "Noto Sans CJK TC")


def main() -> None:
    """`zygote FD SITE`, `session FD SITE`, or `plain FD`, where FD leads to the server."""
    kind, descriptor, *folders = sys.argv[1:]
    server = socket.socket(fileno=int(descriptor))
    server.set_inheritable(False)
    for folder in folders:
        _use_site(folder)
    match kind:
        case "zygote":
            _warm_up()
            zygote.serve(server)
        case "session":
            _warm_up()
            kernel.drop_capabilities()
            kernel.forbid_new_privileges()
            kernel.set_dumpable(False)
            supervisor.serve(server)
        case _:
            supervisor.serve(server)


def _use_site(folder: str) -> None:
    """Packages of the sandbox's own environment, and what `site` gives an interactive Python."""
    site.setquit()
    site.sethelper()
    site.addsitedir(folder)


def _warm_up() -> None:
    """What is imported here is shared by all sessions; what is missing, code will miss, too."""
    for name in _LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    if pandas := sys.modules.get("pandas"):
        pandas.DataFrame({"a": [1]}).groupby("a").sum().to_string()
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        _add_fonts()
        figure = pyplot.figure()
        pyplot.plot([1, 2])
        pyplot.title("x")
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - as cheap as it gets.
            figure.savefig(nowhere, format="png")
        pyplot.close("all")


def _add_fonts() -> None:
    """A glyph that matplotlib's own font lacks comes from a font of the system, if there is one."""
    manager = importlib.import_module("matplotlib.font_manager").fontManager
    known = {font.name for font in manager.ttflist}
    more = [name for name in _MORE_FONTS if name in known][:1]
    if more:
        parameters = importlib.import_module("matplotlib").rcParams
        parameters["font.family"] = [*parameters["font.family"], *more]
