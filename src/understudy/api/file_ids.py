"""The files that other objects name: which are fit, and which are gone and so not shown."""

from typing import TypeVar

from msgspec.structs import replace

from understudy.api.operation import Call
from understudy.engine import files
from understudy.errors import ApiError
from understudy.errors.files import not_for_images
from understudy.wire.assistants import Assistant
from understudy.wire.images import IMAGE_PURPOSES, IMAGE_TYPES
from understudy.wire.searchable import extension_of
from understudy.wire.threads import Thread
from understudy.wire.tools import CodeInterpreterResources, ToolResources

T = TypeVar("T", Assistant, Thread)


def check_image(filename: str, purpose: str) -> None:
    """A message may show images only."""
    extension = extension_of(filename)
    if extension not in IMAGE_TYPES:
        raise ApiError.not_an_image(extension or filename)
    if purpose not in IMAGE_PURPOSES:
        raise not_for_images(purpose)


async def without_gone(call: Call, objects: list[T]) -> list[T]:
    """Assistants or threads without the files that were deleted since: a file does not know who
    names it, so each reader looks."""
    holders = [one for one in objects if one.tool_resources.code_interpreter]
    named = list(dict.fromkeys(id for one in holders for id in _file_ids(one.tool_resources)))
    if not named:
        return objects
    records = await files.present(call.app, call.project, named)
    there = {record.id for record in records}
    return [_without(one, there) for one in objects]


def _file_ids(resources: ToolResources) -> list[str]:
    code = resources.code_interpreter
    return code.file_ids if isinstance(code, CodeInterpreterResources) else []


def _without(object: T, there: set[str]) -> T:
    """The object, showing only what is there."""
    ids = _file_ids(object.tool_resources)
    left = [id for id in ids if id in there]
    if left == ids:
        return object
    code = CodeInterpreterResources(file_ids=left)
    return replace(object, tool_resources=replace(object.tool_resources, code_interpreter=code))
