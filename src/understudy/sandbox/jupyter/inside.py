"""What runs in a Jupyter kernel beside the user's code: its files, and bounds for what it shows.

Rules as in sandbox/inside: standard library only, Python 3.10 or newer; code.py sends it as
text. The user's code runs in the same process and may change all of it, so the server believes
nothing that it says. It serves those who mean well: what it bounds here need not be sent, counted
and thrown away there, and files and images go by a way that Jupyter servers do not throttle.
"""

import base64
import contextlib
import fcntl
import json
import os
import platform
import shutil
import sys
import tempfile
import time
import types
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

from understudy.sandbox.inside import figures, folder
from understudy.sandbox.inside.bounds import Bounds
from understudy.sandbox.inside.folder import Reading, Refused, Writing

NAME = "understudy_session"
_PREFIX = "understudy-"
_KINDS = ("image/png", "text/plain")
_SENDING_S = 0.2
_SHOWN_MOST = 1_000_000  # Things that are counted; more is no number that anybody needs.

Asked = dict[str, Any]  # What the server asks for; it means well.
Said = dict[str, Any]


class Answer(str):
    """An answer to the server: letters of base64 and a dot, which need no escape anywhere."""

    __slots__ = ()


def begin(asked: Asked) -> Answer:
    """Get a new Python ready; one that is ready already only says so."""
    if NAME in sys.modules:
        return _packed({"is_fresh": False})
    shell = sys.modules["IPython"].get_ipython()
    own = _folder(asked["wanted"], asked["earlier"])
    os.chdir(own)
    session = _Session(shell, Bounds(**{**asked["bounds"], "folder": own}))
    module = types.ModuleType(NAME)
    module.call = session.call  # type: ignore[attr-defined]
    sys.modules[NAME] = module
    return _packed({"is_fresh": True, "folder": own, "python": platform.python_version()})


def _folder(wanted: str, earlier: str | None) -> str:
    """The folder of this session's files: the one it had, the wanted one, or a new one."""
    if earlier is not None and _had(wanted, earlier):
        return earlier
    if _claimed(wanted):
        return wanted
    return os.path.realpath(tempfile.mkdtemp(prefix=_PREFIX))


def _had(wanted: str, earlier: str) -> bool:
    """Whether an earlier Python's folder is still this session's own."""
    with contextlib.suppress(OSError):
        os.makedirs(earlier, mode=0o700, exist_ok=True)  # noqa: PTH103 - as the rest here.
        return earlier != wanted or _locked(wanted) or bool(os.listdir(wanted))  # noqa: PTH208
    return False


def _claimed(wanted: str) -> bool:
    """Whether the wanted folder is empty, and nobody else's. Kernels of one server share disks."""
    with contextlib.suppress(OSError):
        os.makedirs(wanted, exist_ok=True)  # noqa: PTH103 - as the rest here.
        return os.access(wanted, os.W_OK) and not os.listdir(wanted) and _locked(wanted)  # noqa: PTH208
    return False


def _locked(wanted: str) -> bool:
    """Lock a folder for as long as this process lives."""
    lock = os.open(wanted, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return False
    return True


def _packed(said: Said, blob: bytes = b"") -> Answer:
    head = base64.b64encode(json.dumps(said).encode()).decode()
    return Answer(f"{head}.{base64.b64encode(blob).decode()}")


class _Session:
    """At most one file on its way in or out, and what the call under way has shown."""

    def __init__(self, shell: Any, bounds: Bounds) -> None:  # Any: IPython is not ours.
        self._shell = shell
        self._bounds = bounds
        self._reading: Reading | None = None
        self._writing: Writing | None = None
        self._images: list[bytes] = []
        self._room = bounds.logs_bytes
        self._dropped_bytes = 0
        self._dropped_images = 0
        self._format_fully = shell.display_formatter.format
        shell.display_formatter.format = self._format
        os._exit = partial(_exit, os._exit, os.getpid())
        # IPython's own `exit` ends the process.
        shell.user_ns["exit"] = shell.user_ns["quit"] = sys.exit
        self._draw_without_screen()
        for stream in (sys.stdout, sys.stderr):
            stream.write = partial(self._write, stream.write)  # type: ignore[method-assign]

    def call(self, asked: str, blob: str = "") -> Answer:
        """Do what the server asks for."""
        head: Asked = json.loads(base64.b64decode(asked))
        try:
            operation = getattr(self, f"_do_{head['op']}")
            return _packed(*operation(head, base64.b64decode(blob)))
        except Refused as why:
            return _packed({"refused": str(why)})
        except OSError as error:
            return _packed({"refused": f"{os.strerror(error.errno or 0)}."})

    def _do_list(self, asked: Asked, blob: bytes) -> tuple[Said]:
        return ({"files": [found.said() for found in folder.listed(self._bounds)]},)

    def _do_link(self, asked: Asked, blob: bytes) -> tuple[Said]:
        folder.link(self._bounds.folder, asked["path"], asked["target"])
        return ({},)

    def _do_read(self, asked: Asked, blob: bytes) -> tuple[Said, bytes]:
        if "path" in asked:
            self._do_discard(asked, blob)
            self._reading = Reading(self._bounds.folder, asked["path"])
        if self._reading is None:
            raise Refused("The file is no longer open.")
        piece = self._reading.read(self._bounds.frame_bytes)
        if not piece:
            self._do_discard(asked, blob)
        return {}, piece

    def _do_write(self, asked: Asked, blob: bytes) -> tuple[Said]:
        if "path" in asked:
            self._do_discard(asked, blob)
            self._writing = Writing(self._bounds.folder, asked["path"])
        if self._writing is None:
            raise Refused("The file is no longer open.")
        self._writing.write(blob)
        if not asked["is_last"]:
            return ({},)
        kept, self._writing = self._writing.keep(), None
        return ({"file": kept.said()},)

    def _do_discard(self, asked: Asked, blob: bytes) -> tuple[Said]:
        if self._reading is not None:
            self._reading.close()
        if self._writing is not None:
            self._writing.discard()
        self._reading = self._writing = None
        return ({},)

    def _do_ended(self, asked: Asked, blob: bytes) -> tuple[Said, bytes]:
        """What the call that has ended left out, and the first piece of its images. The next call
        begins from nothing."""
        said = {"dropped_bytes": self._dropped_bytes, "dropped_images": self._dropped_images}
        self._room = self._bounds.logs_bytes
        self._dropped_bytes = self._dropped_images = 0
        figures.discard()
        more, piece = self._do_image(asked, blob)
        return {**said, **more}, piece

    def _do_image(self, asked: Asked, blob: bytes) -> tuple[Said, bytes]:
        """The next piece of the images that were shown."""
        if not self._images:
            return {"has_more": False}, b""
        size = self._bounds.frame_bytes
        piece, rest = self._images[0][:size], self._images[0][size:]
        self._images[:1] = [rest] if rest else []
        return {"is_last": not rest, "has_more": bool(self._images)}, piece

    def _do_forget(self, asked: Asked, blob: bytes) -> tuple[Said, bytes]:
        """Nobody wants to know any more what the last call showed."""
        self._images.clear()
        return self._do_ended(asked, blob)

    def _do_clear(self, asked: Asked, blob: bytes) -> tuple[Said]:
        """Remove the session's files: it ends."""
        own = self._bounds.folder
        os.chdir("/")
        for entry in list(os.scandir(own)):
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                os.unlink(entry.path)  # noqa: PTH108 - as the rest here.
        with contextlib.suppress(OSError):
            os.rmdir(own)  # noqa: PTH106 - as the rest here.
        return ({},)

    def _write(self, write: Callable[[Any], int], text: Any) -> int:
        """Print as much as there is room for, and count the rest."""
        __tracebackhide__ = True  # IPython leaves such frames out of tracebacks.
        if not isinstance(text, str):
            return write(text)  # It says what is wrong with it.
        data = text.encode("utf-8", "backslashreplace")
        kept = data[: self._room].decode("utf-8", "ignore")
        size = len(kept.encode())
        self._room -= size
        self._dropped_bytes += len(data) - size
        if len(data) > size:
            self._room = 0  # What fits of later texts would look as if it followed.
        if kept:
            write(kept)
        return len(text)

    def _format(
        self, thing: Any, include: Any = None, exclude: Any = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What a displayed thing looks like: its text. An image is kept, and has none."""
        if isinstance(thing, Answer):
            return {"text/plain": str(thing)}, {}
        if figures.is_open(thing):
            return {}, {}  # It is drawn at the end.
        data, _ = self._format_fully(thing, _KINDS, exclude)
        image = data.get("image/png")
        if image is not None:
            self._keep(base64.b64decode(image) if isinstance(image, str) else bytes(image))
            return {}, {}
        text = data.get("text/plain")
        return ({"text/plain": self._cut(text)} if isinstance(text, str) else {}), {}

    def _cut(self, text: str) -> str:
        """A result's text, no longer than all that a call may print."""
        data = text.encode("utf-8", "backslashreplace")
        kept = data[: self._bounds.logs_bytes].decode("utf-8", "ignore")
        self._dropped_bytes += len(data) - len(kept.encode())
        return kept

    def _keep(self, image: bytes) -> None:
        if len(self._images) < self._bounds.images and len(image) <= self._bounds.image_bytes:
            self._images.append(image)
        else:
            self._dropped_images = min(self._dropped_images + 1, _SHOWN_MOST)

    def _draw_without_screen(self) -> None:
        """Figures are drawn when they are shown, and at the end of a call that went well."""
        # ipykernel has set another backend by now, which draws figures of any size. So would the
        # one that `%matplotlib inline` asks for; as figures appear anyway, that does nothing.
        self._shell.run_line_magic("env", "MPLBACKEND=agg")
        if matplotlib := sys.modules.get("matplotlib"):
            matplotlib.use("agg")
        self._shell.register_magic_function(lambda _: None, "line", "matplotlib")
        figures.on_show(lambda *_, **__: self._show())  # pyplot puts attributes on it.
        self._shell.events.register("post_run_cell", self._ended)

    def _ended(self, result: Any) -> None:
        try:
            if result.success:
                self._show()
        finally:
            figures.discard()

    def _show(self) -> None:
        room = self._bounds.images - len(self._images)
        self._dropped_images += figures.take(room, self._bounds.image_pixels, self._keep)


def _exit(exit_: Callable[[int], NoReturn], own_pid: int, status: int) -> NoReturn:
    """End the process, but not before what it printed has left it: that takes a moment."""
    if os.getpid() == own_pid:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        time.sleep(_SENDING_S)
    exit_(status)
