"""Frames: what server, supervisor and worker say to each other. Either side may be hostile.

Two lengths, a head in JSON, a blob. Who reads says how long each may be at most.
"""

import json
import struct
from typing import Any

LENGTHS = struct.Struct("!II")

# Its fields are checked where they are used: each is what a hostile other side made of it.
Head = dict[str, Any]


class BadFrame(Exception):
    """The other side does not keep to the protocol."""


def packed(head: Head, blob: bytes | memoryview = b"") -> bytes:
    """A frame as it goes over the wire."""
    said = json.dumps(head).encode()
    return b"".join((LENGTHS.pack(len(said), len(blob)), said, blob))


class Parser:
    """Bytes in, frames out."""

    def __init__(self, *, head_bytes: int, blob_bytes: int) -> None:
        self._head_bytes = head_bytes
        self._blob_bytes = blob_bytes
        self._heard = bytearray()

    def feed(self, data: bytes) -> None:
        """Take what was read."""
        self._heard += data

    def next(self) -> tuple[Head, bytes] | None:
        """The next whole frame; None when more has to be read first. Raises BadFrame."""
        if len(self._heard) < LENGTHS.size:
            return None
        head_length, blob_length = LENGTHS.unpack_from(self._heard)
        if head_length > self._head_bytes or blob_length > self._blob_bytes:
            raise BadFrame("a frame is too long")
        start = LENGTHS.size + head_length
        if len(self._heard) < start + blob_length:
            return None
        head = _head(bytes(self._heard[LENGTHS.size : start]))
        blob = bytes(memoryview(self._heard)[start : start + blob_length])
        del self._heard[: start + blob_length]
        return head, blob


def _head(said: bytes) -> Head:
    try:
        head = json.loads(said)
    except (ValueError, RecursionError):
        raise BadFrame("a frame's head is no JSON") from None
    if not isinstance(head, dict):
        raise BadFrame("a frame's head is no object")
    return head
