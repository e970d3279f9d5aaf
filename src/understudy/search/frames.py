"""What the server and a reading child say to each other: frames of msgpack with their length."""

import struct

import msgspec

from understudy.search.unreadable import Code

HEAD = struct.Struct(">I")


class Read(msgspec.Struct, frozen=True):
    """Asks for the parts of a file."""

    path: str
    filename: str
    size_tokens: int
    overlap_tokens: int
    skip_parts: int
    more_types: bool
    cpu_s: int  # Of reading, before the first part.
    address_bytes: int  # What the child may have in memory.


class Begun(msgspec.Struct, frozen=True, tag=True):
    """The child has the request: what happens from here on is about the file."""


class Part(msgspec.Struct, frozen=True):
    """Some neighbouring chunks of a document."""

    number: int  # Of the part in its document, from 0.
    first: int  # The ordinal of its first chunk in the document.
    starts: list[int]
    stops: list[int]
    words: list[int]  # The number of terms of each chunk.
    strides: list[str]  # Of each chunk the text up to the start of the next.
    texts: list[str]  # Of each chunk the whole text.
    terms: list[str]
    postings: list[bytes]  # Of each term its POSTINGs in this part.


class Made(msgspec.Struct, frozen=True, tag=True):
    """One part."""

    part: Part


class Ended(msgspec.Struct, frozen=True, tag=True):
    """The file is read, or why it is not."""

    resident_bytes: int  # Of the child now.
    code: Code | None = None
    message: str = ""
    detail: str = ""  # For our log.
    is_out_of_memory: bool = False


Heard = Begun | Made | Ended

_encoder = msgspec.msgpack.Encoder()


def packed(frame: Read | Heard) -> bytes:
    """The frame as it goes over a pipe."""
    body = _encoder.encode(frame)
    return HEAD.pack(len(body)) + body
