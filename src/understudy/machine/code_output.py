"""What a code_interpreter call gave: its record in the step, and what of it the model reads."""

from collections.abc import Sequence

from msgspec.structs import replace

from understudy import limits
from understudy.machine.introduce import code_record, images_of
from understudy.machine.private import Call
from understudy.wire.base import given
from understudy.wire.steps import (
    CodeInterpreterCall,
    CodeOutput,
    ImageOutput,
    LogsOutput,
    OutputImage,
)

NOTHING = "(no output)"


def answered(call: Call, logs: str, images: Sequence[str]) -> CodeInterpreterCall:
    """The call as its step records it; `images` are file ids. Empty logs leave no entry."""
    outputs: list[CodeOutput] = [LogsOutput(logs=logs)] if logs else []
    outputs += [ImageOutput(image=OutputImage(file_id=file_id)) for file_id in images]
    record = code_record(call)
    return replace(record, code_interpreter=replace(record.code_interpreter, outputs=outputs))


def read_by_model(call: CodeInterpreterCall) -> str:
    """The answer to the call as the model reads it: the logs, and whether figures were shown."""
    outputs = given(call.code_interpreter.outputs, [])
    logs = "".join(one.logs for one in outputs if isinstance(one, LogsOutput))
    text = _shortened(logs)
    images = len(images_of(call))
    if images:
        gap = "\n" if text and not text.endswith("\n") else ""
        text += f"{gap}[{images} image{'s' if images > 1 else ''} shown to the user.]"
    return text or NOTHING


def _shortened(logs: str) -> str:
    """Long logs lose their middle: errors, and what we add, are at the end."""
    left_out = len(logs) - limits.CODE_LOGS_READ_CHARS
    if left_out <= 0:
        return logs
    tail = limits.CODE_LOGS_READ_CHARS // 4
    head = limits.CODE_LOGS_READ_CHARS - tail
    note = f"\n[... {left_out} characters left out; print less to see all ...]\n"
    return logs[:head] + note + logs[-tail:]
