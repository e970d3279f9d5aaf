"""Jupyter's messages, taken apart. Any of them may be forged by the code that runs.

Code can read its kernel's keys and send whatever it likes in the kernel's name, to the call under
way or to any other. So a message is only what its types say, the rest is not looked at, and what
is no such message at all is nothing.
"""

import base64
import binascii
import json
from dataclasses import dataclass

import msgspec

PNG = b"\x89PNG\r\n\x1a\n"
_PROTOCOL_VERSION = "5.3"
_ANSWER = "answer"  # The name of the one expression that we ask for.
_ENDS = frozenset({"restarting", "dead", "terminating"})


@dataclass(frozen=True)
class Printed:
    """Output of the code."""

    text: str


@dataclass(frozen=True)
class Shown:
    """A result or a displayed thing: an image's base64, or else a text."""

    text: str
    image: str


@dataclass(frozen=True)
class Raised:
    """An exception that the code did not catch."""

    text: str


@dataclass(frozen=True)
class Busy:
    """The kernel has begun with the request."""


@dataclass(frozen=True)
class Idle:
    """All output of the request has come."""


@dataclass(frozen=True)
class Dying:
    """The kernel's process has ended; the server may be starting another one."""


@dataclass(frozen=True)
class Reply:
    """The request has been worked off. `answer` is what its expression gave; None without any."""

    answer: str | None


Output = Printed | Shown | Raised
Message = Output | Busy | Idle | Dying | Reply


class _Header(msgspec.Struct):
    msg_type: str = ""
    msg_id: str = ""


class _Message(msgspec.Struct):
    header: _Header
    channel: str = ""
    parent_header: _Header = msgspec.field(default_factory=_Header)
    content: msgspec.Raw = msgspec.field(default_factory=msgspec.Raw)


class _Stream(msgspec.Struct):
    text: str


class _Data(msgspec.Struct):
    text: str = msgspec.field(name="text/plain", default="")
    image: str = msgspec.field(name="image/png", default="")


class _Display(msgspec.Struct):
    data: _Data


class _Error(msgspec.Struct):
    ename: str = ""
    evalue: str = ""
    traceback: list[str] = []


class _Status(msgspec.Struct):
    execution_state: str


class _Expression(msgspec.Struct):
    data: _Data = msgspec.field(default_factory=_Data)


class _ExecuteReply(msgspec.Struct):
    user_expressions: dict[str, _Expression] = {}


_message = msgspec.json.Decoder(_Message)


def request(msg_id: str, session_id: str, code: str, expression: str | None) -> str:
    """The request to run code as the user's; or to evaluate an expression, without any traces."""
    content = {
        "code": code,
        "silent": expression is not None,
        "store_history": False,
        "user_expressions": {} if expression is None else {_ANSWER: expression},
        "allow_stdin": False,
        "stop_on_error": False,
    }
    header = {
        "msg_id": msg_id,
        "msg_type": "execute_request",
        "username": "understudy",
        "session": session_id,
        "version": _PROTOCOL_VERSION,
    }
    said = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
    return json.dumps({**said, "channel": "shell", "buffers": []})


def understood(frame: str, msg_id: str) -> Message | None:
    """What a frame says of a request, or of the kernel as a whole; None when it says nothing."""
    # Most of what does not concern the request is not worth taking apart.
    if msg_id not in frame and not any(f'"{state}"' in frame for state in _ENDS):
        return None
    try:
        message = _message.decode(frame)
        return _understood(message, is_ours=message.parent_header.msg_id == msg_id)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return None


def _understood(message: _Message, *, is_ours: bool) -> Message | None:
    kind = message.header.msg_type
    if message.channel == "iopub" and kind == "status":
        state = msgspec.json.decode(message.content, type=_Status).execution_state
        if state in _ENDS:
            return Dying()
        if not is_ours:
            return None
        return Idle() if state == "idle" else Busy() if state == "busy" else None
    if not is_ours:
        return None
    match message.channel, kind:
        case "shell", "execute_reply":
            reply = msgspec.json.decode(message.content, type=_ExecuteReply)
            answer = reply.user_expressions.get(_ANSWER)
            return Reply(answer.data.text or None if answer else None)
        case "iopub", "stream":
            return Printed(msgspec.json.decode(message.content, type=_Stream).text)
        case "iopub", "display_data" | "execute_result":
            data = msgspec.json.decode(message.content, type=_Display).data
            return Shown(data.text, data.image)
        case "iopub", "error":
            error = msgspec.json.decode(message.content, type=_Error)
            said = "\n".join(error.traceback) or f"{error.ename}: {error.evalue}"
            return Raised(f"{said}\n")
        case _:
            return None


def png_of(text: str, most_bytes: int) -> bytes | None:
    """The PNG of a base64 text, or None when it is none or too large."""
    if len(text) > most_bytes * 3 // 2:
        return None
    try:
        image = base64.b64decode(text)
    except (binascii.Error, ValueError):
        return None
    return image if image.startswith(PNG) and len(image) <= most_bytes else None
