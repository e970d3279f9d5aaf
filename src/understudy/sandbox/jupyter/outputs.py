"""What one call in a Jupyter kernel has printed and shown so far, within the limits."""

import re
from collections.abc import Callable

from understudy import limits
from understudy.sandbox import FOLDER, Reason, Result
from understudy.sandbox.jupyter.messages import PNG, Output, Printed, Raised, Shown, png_of

_COLOURS = re.compile(r"\x1b\[[0-9;:?]*[ -/]*[@-~]")
_COUNTED_MOST = 2**53  # What a kernel says of itself is believed up to here.


class Outputs:
    """The logs, passed on as they come, and the images. `folder` stands for /mnt/data there."""

    def __init__(self, on_logs: Callable[[str], None], folder: str) -> None:
        self._on_logs: Callable[[str], None] | None = on_logs
        self._folder = folder
        self._held = ""
        self._room = limits.CODE_LOGS_BYTES
        self._images: list[bytes] = []
        self._dropped_bytes = 0
        self._dropped_images = 0

    def mute(self) -> None:
        """Nobody listens any more."""
        self._on_logs = None

    def hear(self, said: Output) -> None:
        """One more output."""
        if self._on_logs is None:
            return
        match said:
            case Printed(text):
                self._print(text)
            case Raised(text):
                self._print(_COLOURS.sub("", text))
            case Shown(text, ""):
                self._print(f"{text}\n" if text else "")
            case Shown(_, image):
                self.show(png_of(image, limits.CODE_IMAGE_BYTES))

    def show(self, image: bytes | None) -> None:
        """One more image; None is one that cannot be had."""
        is_image = image is not None and image.startswith(PNG)
        if image and is_image and len(self._images) < limits.CODE_IMAGES:
            self._images.append(image)
        else:
            self._dropped_images += 1

    def count(self, dropped_bytes: object, dropped_images: object) -> None:
        """What was left out before it was sent."""
        self._dropped_bytes += _counted(dropped_bytes)
        self._dropped_images += _counted(dropped_images)

    def result(self, reason: Reason | None, *, is_state_lost: bool) -> Result:
        """The end of the call."""
        self._pass_on(self._held)
        self._held = ""
        return Result(
            images=self._images,
            dropped_bytes=self._dropped_bytes,
            dropped_images=self._dropped_images,
            reason=reason,
            is_state_lost=is_state_lost,
        )

    def _print(self, text: str) -> None:
        """Pass on all but an end that may be the start of the folder's name."""
        if self._folder == FOLDER:
            self._pass_on(text)
            return
        text = (self._held + text).replace(self._folder, FOLDER)
        longest = min(len(self._folder) - 1, len(text))
        ends = (size for size in range(longest, 0, -1) if text.endswith(self._folder[:size]))
        held = next(ends, 0)
        self._held = text[len(text) - held :]
        self._pass_on(text[: len(text) - held])

    def _pass_on(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        kept = data[: self._room].decode("utf-8", "ignore")
        size = len(kept.encode())
        self._dropped_bytes += len(data) - size
        self._room = self._room - size if len(data) == size else 0
        if kept and self._on_logs is not None:
            self._on_logs(kept)


def _counted(said: object) -> int:
    return min(said, _COUNTED_MOST) if isinstance(said, int) and said > 0 else 0
