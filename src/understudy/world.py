"""World: the clock and the id source, the only impure values that the logic receives."""

import secrets
import string
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from understudy import limits

_BASE62 = string.ascii_letters + string.digits

# Kind → (prefix, alphabet, length): ids look like the original's (SPEC section 4).
ID_FORMS: dict[str, tuple[str, str, int]] = {
    "assistant": ("asst_", _BASE62, 24),
    "thread": ("thread_", _BASE62, 24),
    "message": ("msg_", _BASE62, 24),
    "run": ("run_", _BASE62, 24),
    "step": ("step_", _BASE62, 24),
    "call": ("call_", _BASE62, 24),
    "file": ("file-", _BASE62, 22),
    "vector_store": ("vs_", "0123456789abcdef", 32),
    "file_batch": ("vsfb_", "0123456789abcdef", 32),
    "upload": ("upload_", "0123456789abcdef", 32),
    "blob": ("blob_", _BASE62, 32),
    "part": ("part_", "0123456789abcdef", 32),
    "request": ("req_", "0123456789abcdef", 32),
    "project": ("proj_", _BASE62, 24),
    "key": ("key_", _BASE62, 24),
    "boot": ("boot_", _BASE62, 16),
}


# Byte → letter, for each alphabet. 256 is no multiple of 62, so a few letters are a little more
# frequent than others; 24 letters are 142 bits all the same.
_LETTERS = {
    alphabet: (alphabet * 16)[:256].encode() for _prefix, alphabet, _length in ID_FORMS.values()
}


class _Randomness(threading.local):
    """Random bytes, fetched for many ids at once, and for each thread by itself.

    Each fetch is a system call that lets go of the interpreter, and beside a busy thread it can
    take long until it is back.
    """

    def __init__(self) -> None:
        self._bytes = b""
        self._at = 0

    def take(self, length: int) -> bytes:
        """Bytes that nobody else gets."""
        if self._at + length > len(self._bytes):
            self._bytes = secrets.token_bytes(limits.RANDOM_BYTES)
            self._at = 0
        taken = self._bytes[self._at : self._at + length]
        self._at += length
        return taken


_randomness = _Randomness()


def random_id(kind: str) -> str:
    """A new id for an object of this kind."""
    prefix, alphabet, length = ID_FORMS[kind]
    return prefix + _randomness.take(length).translate(_LETTERS[alphabet]).decode()


def random_key() -> str:
    """A new API key: 256 bits, shaped like the original's."""
    return "sk-" + secrets.token_urlsafe(32)


@dataclass(frozen=True)
class World:
    """What the logic cannot know by itself.

    `now` is unix time in seconds with fractions; `monotonic` never goes back.
    """

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    new_id: Callable[[str], str] = random_id
    new_key: Callable[[], str] = random_key
