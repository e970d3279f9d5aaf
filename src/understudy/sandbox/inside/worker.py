"""The worker: a Python that remembers, one call after the other. It runs the model's code.

Rules of this file. From the first call on nothing here is ours any more: the code may change every
function that it can reach, so nobody outside relies on what this file does. It has to serve those
who mean well, and if it breaks, it shall break off: the supervisor then makes another worker.
"""

import ast
import builtins
import contextlib
import gc
import io
import linecache
import os
import signal
import sys
import traceback
import types
from collections.abc import Callable, Generator
from typing import Any, NoReturn

from understudy.sandbox.inside import figures
from understudy.sandbox.inside.bounds import CODE_BYTES, READ_BYTES, WORKER_HEAD_BYTES, Bounds
from understudy.sandbox.inside.frames import Head, Parser, packed
from understudy.sandbox.inside.kernel import trim_heap

_TRACEBACK_CHARS = 16_000  # Its end is kept: a recursion's start says nothing.
_PNG = b"\x89PNG\r\n\x1a\n"


def work(commands: int, results: int, bounds: Bounds) -> NoReturn:
    """Run what comes, until nothing comes any more."""
    spare = os.dup(1)
    worker = _Worker(results, bounds)
    parser = Parser(head_bytes=WORKER_HEAD_BYTES, blob_bytes=CODE_BYTES)
    while True:
        frame = parser.next()
        if frame is None:
            data = os.read(commands, READ_BYTES)
            if not data:
                os._exit(0)
            parser.feed(data)
            continue
        head, code = frame
        _open_streams(spare)
        worker.call(head["number"], code)


def _open_streams(spare: int) -> None:
    """Fresh ones for each call: code may have closed, replaced or redirected them."""
    for descriptor in (1, 2):
        os.dup2(spare, descriptor)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - a descriptor, for the whole call.
    sys.stdout, sys.stderr = (
        open(  # noqa: SIM115 - descriptors, for the whole call.
            number, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
        )
        for number in (1, 2)
    )


class _Worker:
    """The namespace of the code, and what becomes of its calls."""

    def __init__(self, results: int, bounds: Bounds) -> None:
        self._results = results
        self._bounds = bounds
        self._images = 0
        self._number = 0
        main = types.ModuleType("__main__")
        self._names = main.__dict__
        self._names.update(__builtins__=builtins, display=self._display)
        sys.modules["__main__"] = main
        figures.on_show(self._show)

    def call(self, number: int, code: bytes) -> None:
        """Run code and say that it has ended, however it did."""
        self._number = number
        self._images = 0
        self._say({"type": "begun"})
        is_out_of_memory = False
        try:
            is_out_of_memory = self._ran(code)
        except BaseException:  # noqa: BLE001 - whatever the code left behind, the call has ended.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        self._say({"type": "ended", "is_out_of_memory": is_out_of_memory})

    def _ran(self, code: bytes) -> bool:
        """Run code to its end; whether memory ran out."""
        is_out_of_memory = False
        with _interruptible():
            try:
                self._run(code.decode("utf-8", "surrogatepass"))
                self._show()
            except SystemExit as exit_:
                _say_exit(exit_)
            except BaseException as error:  # noqa: BLE001 - the code's own, shown as Python would.
                is_out_of_memory = isinstance(error, MemoryError)
                _show_error(error)
            figures.discard()
        if is_out_of_memory:
            gc.collect()
            trim_heap()
        return is_out_of_memory

    def _run(self, source: str) -> None:
        name = f"<call {self._number}>"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        tree = ast.parse(source, name)
        last = None
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            last = ast.Expression(tree.body.pop().value)  # type: ignore[attr-defined]
        exec(compile(tree, name, "exec"), self._names)  # noqa: S102 - what all of this is for.
        if last is not None:
            value = eval(compile(last, name, "eval"), self._names)  # noqa: S307 - and this.
            if value is not None:
                self._names["_"] = value
                self._display(value)

    def _display(self, *values: Any) -> None:
        """What Jupyter's `display` does for a text and for an image."""
        for value in values:
            image = _image_of(value)
            if image is not None:
                self._send_image(image)
            elif not figures.is_open(value):  # An open figure is drawn at the end.
                sys.stdout.write(f"{value!r}\n")

    def _show(self, *_: Any, **__: Any) -> None:
        room = self._bounds.images - self._images
        dropped = figures.take(room, self._bounds.image_pixels, self._send_image)
        if dropped:
            self._say({"type": "dropped", "images": dropped})

    def _send_image(self, image: bytes) -> None:
        if self._images >= self._bounds.images or len(image) > self._bounds.image_bytes:
            self._say({"type": "dropped", "images": 1})
            return
        self._images += 1
        sys.stdout.flush()
        self._say({"type": "image"}, image)

    def _say(self, head: Head, blob: bytes = b"") -> None:
        rest = memoryview(packed({**head, "number": self._number}, blob))
        while rest:
            rest = rest[os.write(self._results, rest) :]


@contextlib.contextmanager
def _interruptible() -> Generator[None]:
    """Only within is an interrupt an exception; the code may have set its own handler before."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _image_of(value: Any) -> bytes | None:
    """The PNG that a value says it is, as an image of Pillow does."""
    make: Callable[[], Any] | None = getattr(type(value), "_repr_png_", None)
    if make is None:
        return None
    image = value._repr_png_()
    if isinstance(image, tuple):
        image = image[0]
    return image if isinstance(image, bytes) and image.startswith(_PNG) else None


def _say_exit(exit_: SystemExit) -> None:
    """`sys.exit` ends the call, not the worker."""
    if exit_.code not in (None, 0):
        sys.stderr.write(f"SystemExit: {exit_.code}\n")


def _show_error(error: BaseException) -> None:
    """A traceback that starts in the code, not here."""
    trace = error.__traceback__
    while trace and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    said = io.StringIO()
    traceback.print_exception(type(error), error, trace, file=said)
    text = said.getvalue()
    if len(text) > _TRACEBACK_CHARS:
        text = f"...\n{text[-_TRACEBACK_CHARS:]}"
    sys.stderr.write(text)
