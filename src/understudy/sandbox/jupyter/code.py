"""What a kernel is asked to evaluate, and what its answers say.

Helper code is asked for by an expression that Jupyter evaluates beside (empty) code and answers on
the shell channel: nothing of it appears in what the user's code prints, and servers do not
throttle it. Questions and answers are base64, so that nothing needs an escape.
"""

import base64
import binascii
import json
from functools import cache
from importlib import resources
from typing import Any

from understudy import limits
from understudy.sandbox.jupyter.inside import NAME

_INSIDE = "understudy.sandbox.inside"
_MAIN = "understudy.sandbox.jupyter.inside"
_ANSWER_CHARS = limits.CODE_FRAME_BYTES * 2  # A piece in base64, or a listing.

# Makes modules of the texts, in order; afterwards they are nobody's but the session's.
_BOOT = """
def boot(texts, asked):
    import sys, types
    before = {name: sys.modules.get(name) for name in texts}
    try:
        for name, text in texts.items():
            module = sys.modules[name] = types.ModuleType(name)
            exec(compile(text, "<session>", "exec"), module.__dict__)
        return module.begin(asked)
    finally:
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module
"""

Head = dict[str, Any]  # Any: what a kernel says is free JSON, and is looked at where it is used.


def beginning(asked: Head) -> str:
    """The expression that makes a new Python a session."""
    said = _base64(json.dumps({"texts": _texts(), "asked": asked}).encode())
    said = f"__import__('json').loads(__import__('base64').b64decode('{said}'))"
    booted = "(lambda own, said: (exec(own['code'], own), own['boot'](**said))[1])"
    return f"{booted}({{'code': {_BOOT!r}}}, {said})"


def asking(asked: Head, blob: bytes = b"") -> str:
    """The expression that asks a session for something."""
    head = _base64(json.dumps(asked).encode())
    return f"__import__('sys').modules['{NAME}'].call('{head}', '{_base64(blob)}')"


def answer_of(text: str) -> tuple[Head, bytes] | None:
    """What a session answered, or None when it is no answer of ours."""
    if len(text) > _ANSWER_CHARS:
        return None
    head, dot, blob = text.partition(".")
    if not dot:
        return None
    try:
        said = json.loads(base64.b64decode(head, validate=True))
        piece = base64.b64decode(blob, validate=True)
    except (binascii.Error, ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or len(piece) > limits.CODE_FRAME_BYTES:
        return None
    return said, piece


@cache
def _texts() -> dict[str, str]:
    """The modules of a session, each after those that it imports."""
    inside = resources.files(_INSIDE)
    packages = ("understudy", "understudy.sandbox", "understudy.sandbox.jupyter", _INSIDE)
    texts = dict.fromkeys(packages, "")
    for name in ("bounds", "figures", "folder"):
        texts[f"{_INSIDE}.{name}"] = (inside / f"{name}.py").read_text("utf-8")
    main = resources.files("understudy.sandbox.jupyter") / "inside.py"
    texts[_MAIN] = main.read_text("utf-8")
    return texts


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
