"""Multipart forms, read while they arrive: the file goes to the blobs, the fields become JSON.

Clients send the fields in any order, with or without a length, so the file is stored before it
is known whether anybody wants it; `received` gives it back to nobody when nobody kept it.

Names. A file's name is taken from `filename*` (RFC 5987) or `filename`, read as UTF-8, else as
Latin-1. `%22`, `%0D` and `%0A` are what browsers and SDKs write for a quote and line ends. Of a
path only the last part is kept; control characters, and marks that turn the direction of text,
are taken out. What is left nameless is called `upload`.
"""

import asyncio
import logging
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal, TypeAlias, get_args, get_type_hints
from urllib.parse import unquote, unquote_to_bytes

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from understudy import limits
from understudy.api.transport import Receive, body_pieces, closing
from understudy.blobs import BlobsFull, BlobsUnavailable
from understudy.engine import files
from understudy.engine.app import App
from understudy.errors import ApiError
from understudy.errors import files as errors
from understudy.machine.private import BlobRef
from understudy.wire.base import FormBody

# What is wrong is said to the client; a log line for it would be the client's to write.
logging.getLogger("python_multipart.multipart").setLevel(logging.CRITICAL)

NAMELESS = "upload"
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_PARAMETER = re.compile(r""";\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;"]*))""", re.DOTALL)
# Line ends and other control characters, and what turns the direction of the text after it.
_NOT_IN_NAMES = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True)
class Form:
    """A form that arrived: its fields as JSON, its file among the blobs, and a digest of all."""

    fields: bytes
    file: BlobRef | None
    digest: bytes


@asynccontextmanager
async def received(
    app: App,
    project: str,
    receive: Receive,
    headers: Mapping[str, str],
    declared: type[FormBody],
    *,
    is_hashed: bool,
) -> AsyncIterator[Form]:
    """The form of a request. Its file is deleted at the end, unless a commit within kept it.

    `is_hashed` says that a digest of the file is wanted.
    Whatever goes wrong before the form is read to its end closes the connection.
    """
    limit = declared.MAX_BYTES
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > limit + limits.FORM_FRAME_BYTES:
        raise closing(ApiError.too_large(limit, int(length)))
    boundary = _boundary(headers.get("content-type", ""))
    async with AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(limits.FORM_TOTAL_S), aclosing(body_pieces(receive)) as body:
                parts = _Parts(body, boundary)
                store = _Store(app, project, stack, limit, sha256() if is_hashed else None)
                form = await _read(parts, declared, store)
        except ApiError as error:
            raise closing(error) from None
        except TimeoutError:
            raise closing(errors.form_too_slow(limits.FORM_TOTAL_S)) from None
        except BlobsFull:
            raise closing(errors.storage_full()) from None
        except BlobsUnavailable as away:
            raise closing(ApiError.unavailable(away.retry_after_s)) from None
        yield form


@dataclass(frozen=True, slots=True)
class _Store:
    """Where the file of a form goes; the promise to delete it goes onto the stack."""

    app: App
    project: str
    stack: AsyncExitStack
    limit: int
    digest: Any  # hashlib's type has no public name.

    async def put(self, pieces: AsyncIterator[bytes]) -> BlobRef:
        """Store the file."""
        key = await self.stack.enter_async_context(files.promised(self.app, self.project))
        size = await self.app.blobs.put(key, self._measured(pieces))
        return BlobRef(key=key, size_bytes=size)

    async def _measured(self, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        size = 0
        async for piece in pieces:
            size += len(piece)
            if size > self.limit:
                raise ApiError.too_large(self.limit, size)
            if self.digest is not None:
                self.digest.update(piece)
            yield piece


async def _read(parts: "_Parts", declared: type[FormBody], store: _Store) -> Form:
    """Read all parts."""
    fields = _Fields(declared)
    file: BlobRef | None = None
    async for head in parts.heads():
        name, filename = _names(head)
        if name != declared.FILE:
            fields.add(name, await parts.text())
        elif file is None:
            file = await store.put(parts.data())
            fields.add_file(filename)
        else:
            raise errors.second_file(name)
    return Form(fields.encoded(), file, b"" if store.digest is None else store.digest.digest())


# The fields.


class _Fields:
    """The fields of a form as the JSON object that they stand for.

    `a[b]` and `a.b` are members of an object `a`, which may also come as JSON text.
    """

    def __init__(self, declared: type[FormBody]) -> None:
        self._file = declared.FILE
        self._objects = {
            name for name, hint in get_type_hints(declared).items() if _is_object(hint)
        }
        self._found: dict[str, Any] = {}

    def add_file(self, filename: str) -> None:
        """The file, whose value is its name."""
        self._found[self._file] = filename

    def add(self, name: str, text: str) -> None:
        """A field. Of a repeated one the last counts."""
        path = re.findall(r"[^\[\].]+", name)
        if len(path) == 2 and path[0] in self._objects:
            members = self._found.setdefault(path[0], {})
            if isinstance(members, dict):
                members[path[1]] = int(text) if _INTEGER.fullmatch(text) else text
                return
        self._found[name] = _from_json(text) if name in self._objects else text

    def encoded(self) -> bytes:
        """The object as JSON."""
        return msgspec.json.encode(self._found, order="sorted")


def _is_object(hint: Any) -> bool:
    return any(
        isinstance(member, type) and issubclass(member, msgspec.Struct)
        for member in get_args(hint) or (hint,)
    )


def _from_json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        return text


# The parts.

_Head: TypeAlias = dict[str, bytes]  # The headers of a part, their names in lower case.
_Event: TypeAlias = _Head | bytes | Literal["part ends", "form ends"]


class _Parts:
    """The parts of a form: for each of `heads`, its `data` or `text`."""

    def __init__(self, body: AsyncGenerator[bytes], boundary: bytes) -> None:
        self._body = body
        self._events: deque[_Event] = deque()
        self._head: _Head = {}
        self._name = self._value = b""
        self._text_left = limits.FORM_TEXT_BYTES
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._add_to_name,
                "on_header_value": self._add_to_value,
                "on_header_end": self._end_header,
                "on_headers_finished": lambda: self._events.append(self._head),
                "on_part_data": lambda data, start, end: self._events.append(data[start:end]),
                "on_part_end": lambda: self._events.append("part ends"),
                "on_end": lambda: self._events.append("form ends"),
            },
            max_header_count=limits.FORM_HEADERS,
            max_header_size=limits.FORM_HEADER_BYTES,
        )

    async def heads(self) -> AsyncIterator[_Head]:
        """The headers of each part, then the end of the body."""
        count = 0
        while (event := await self._next()) != "form ends":
            if isinstance(event, dict):
                count += 1
                if count > limits.FORM_PARTS:
                    raise errors.form_too_large("parts", limits.FORM_PARTS)
                yield event
        rest = 0
        async for piece in self._body:  # What follows the last boundary means nothing.
            rest += len(piece)
            if rest > limits.FORM_TEXT_BYTES:
                raise errors.bad_form()

    async def data(self) -> AsyncIterator[bytes]:
        """The bytes of the part whose head came last."""
        while isinstance(event := await self._next(), bytes):
            yield event

    async def text(self) -> str:
        """The same as a text; all texts of a form together are bounded."""
        pieces = []
        async for piece in self.data():
            self._text_left -= len(piece)
            if self._text_left < 0:
                raise errors.form_too_large("bytes of text", limits.FORM_TEXT_BYTES)
            pieces.append(piece)
        return _decoded(b"".join(pieces))

    async def _next(self) -> _Event:
        while not self._events:
            piece = await anext(self._body, None)
            if piece is None:
                raise errors.cut_form()
            try:
                self._parser.write(piece)
            except FormParserError:
                raise errors.bad_form() from None
        return self._events.popleft()

    def _begin(self) -> None:
        self._head = {}

    def _add_to_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._head[self._name.decode("latin-1").lower()] = self._value
        self._name = self._value = b""


def _boundary(content_type: str) -> bytes:
    kind, parameters = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        raise closing(errors.no_form(content_type))
    boundary = parameters.get(b"boundary", b"")
    if not boundary or len(boundary) > limits.FORM_BOUNDARY_BYTES:
        raise closing(errors.bad_form())
    return boundary


# Names.


def _names(head: _Head) -> tuple[str, str]:
    """The name of a part's field, and of its file."""
    value = _decoded(head.get("content-disposition", b""))
    found = {name.lower(): _unquoted(quoted, plain) for name, quoted, plain in _parameters(value)}
    if not found.get("name"):
        raise errors.bad_form()
    filename = _extended(found.get("filename*", "")) or found.get("filename", "")
    return found["name"], file_name(filename)


def _parameters(value: str) -> Iterable[tuple[str, str, str]]:
    return _PARAMETER.findall(value)


def _unquoted(quoted: str, plain: str) -> str:
    """A parameter's value. A backslash escapes only a quote or itself: it may be a path's."""
    return re.sub(r'\\(["\\])', r"\1", quoted) if quoted else plain.strip()


def _extended(value: str) -> str:
    """The value of a `filename*`, such as UTF-8''na%C3%AFve.txt; empty when it is none."""
    charset, _, rest = value.partition("'")
    _language, mark, encoded = rest.partition("'")
    if not mark or charset.lower() not in ("utf-8", "iso-8859-1"):
        return ""
    try:
        return unquote_to_bytes(encoded).decode(charset)
    except UnicodeDecodeError:
        return ""


def file_name(sent: str) -> str:
    """A file's name as it is kept: see the essay above."""
    name = re.sub("%(22|0[DdAa])", lambda found: unquote(found[0]), sent)
    name = _NOT_IN_NAMES.sub("", re.split(r"[/\\]", name)[-1]).strip()
    return NAMELESS if name in ("", ".", "..") else name


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
