"""Messages, their content parts in both directions, and their deltas (SPEC 7.3, 9.3)."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from understudy import limits
from understudy.wire.base import Body, Metadata, Wire
from understudy.wire.tools import AttachmentTool

Text = Annotated[str, Meta(min_length=1, max_length=limits.MESSAGE_TEXT_CHARS)]
Detail = Literal["auto", "low", "high"]
IncompleteReason = Literal[
    "content_filter", "max_tokens", "run_cancelled", "run_expired", "run_failed"
]


class TextInput(Body, frozen=True, kw_only=True, tag_field="type", tag="text"):
    """A text part as a client sends it: a plain string."""

    text: Text


class ImageFile(Body, frozen=True, kw_only=True):
    """An image by file id."""

    file_id: str
    detail: Detail = "auto"


class ImageUrl(Body, frozen=True, kw_only=True):
    """An image by URL; it is handed to the provider, never fetched by the server."""

    url: str
    detail: Detail = "auto"


class ImageFileContent(Body, frozen=True, kw_only=True, tag_field="type", tag="image_file"):
    """An image part by file id."""

    image_file: ImageFile


class ImageUrlContent(Body, frozen=True, kw_only=True, tag_field="type", tag="image_url"):
    """An image part by URL."""

    image_url: ImageUrl


ContentInput = TextInput | ImageFileContent | ImageUrlContent


class FileCitation(Wire, frozen=True, kw_only=True):
    """The file that a citation points to."""

    file_id: str


class FileCitationAnnotation(
    Wire, frozen=True, kw_only=True, tag_field="type", tag="file_citation"
):
    """A citation marker in a text; offsets are code points, end exclusive."""

    index: int | UnsetType = UNSET
    text: str
    start_index: int
    end_index: int
    file_citation: FileCitation


class FilePath(Wire, frozen=True, kw_only=True):
    """The file that a sandbox link points to."""

    file_id: str


class FilePathAnnotation(Wire, frozen=True, kw_only=True, tag_field="type", tag="file_path"):
    """A link to a generated file in a text; offsets are code points, end exclusive."""

    index: int | UnsetType = UNSET
    text: str
    start_index: int
    end_index: int
    file_path: FilePath


Annotation = FileCitationAnnotation | FilePathAnnotation


class TextValue(Wire, frozen=True, kw_only=True):
    """A text with its annotations."""

    value: str
    annotations: list[Annotation]


class TextContent(Wire, frozen=True, kw_only=True, tag_field="type", tag="text"):
    """A text part as the API returns it: an object."""

    text: TextValue


class RefusalContent(Wire, frozen=True, kw_only=True, tag_field="type", tag="refusal"):
    """The model declined to answer."""

    refusal: str


Content = TextContent | ImageFileContent | ImageUrlContent | RefusalContent


class Attachment(Body, frozen=True, kw_only=True):
    """A file attached to a message, and the tools it is for."""

    file_id: str
    tools: list[AttachmentTool] | None = None


class MessageIncompleteDetails(Wire, frozen=True, kw_only=True):
    """Why a message was cut short."""

    reason: IncompleteReason


class Message(Wire, frozen=True, kw_only=True):
    """A message."""

    id: str
    object: Literal["thread.message"] = "thread.message"
    created_at: int
    assistant_id: str | None
    thread_id: str
    run_id: str | None
    status: Literal["in_progress", "incomplete", "completed"]
    incomplete_details: MessageIncompleteDetails | None
    incomplete_at: int | None
    completed_at: int | None
    role: Literal["user", "assistant"]
    content: list[Content]
    attachments: list[Attachment]
    metadata: dict[str, str]


class CreateMessage(Body, frozen=True, kw_only=True):
    """The body of POST /threads/{thread_id}/messages, and the items of `messages` lists."""

    role: Literal["user", "assistant"]
    content: (
        Text | Annotated[list[ContentInput], Meta(min_length=1, max_length=limits.CONTENT_PARTS)]
    )
    attachments: (
        Annotated[list[Attachment], Meta(max_length=limits.ATTACHMENTS)] | None | UnsetType
    ) = UNSET
    metadata: Metadata | None | UnsetType = UNSET


class TextDelta(Wire, frozen=True, kw_only=True):
    """A piece of text; `annotations` is there on the first piece and with a marker."""

    value: str | UnsetType = UNSET
    annotations: list[Annotation] | UnsetType = UNSET


class TextContentDelta(Wire, frozen=True, kw_only=True, tag_field="type", tag="text"):
    """A piece of a text part."""

    index: int
    text: TextDelta


class RefusalContentDelta(Wire, frozen=True, kw_only=True, tag_field="type", tag="refusal"):
    """A piece of a refusal."""

    index: int
    refusal: str


class ImageFileContentDelta(Wire, frozen=True, kw_only=True, tag_field="type", tag="image_file"):
    """A whole image part."""

    index: int
    image_file: ImageFile


ContentDelta = TextContentDelta | RefusalContentDelta | ImageFileContentDelta


class MessageDeltaBody(Wire, frozen=True, kw_only=True):
    """What a delta adds to its message."""

    role: Literal["user", "assistant"] | UnsetType = UNSET
    content: list[ContentDelta]


class MessageDelta(Wire, frozen=True, kw_only=True):
    """A message delta; `id` is the message's."""

    id: str
    object: Literal["thread.message.delta"] = "thread.message.delta"
    delta: MessageDeltaBody
