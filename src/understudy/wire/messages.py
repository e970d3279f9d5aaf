"""Messages, their content parts in both directions, and their deltas (SPEC 7.3, 9.3)."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from understudy import limits
from understudy.wire.base import Body, CreatedAt, GivenMetadata, Id, Index, ObjectMetadata, Wire
from understudy.wire.tools import AttachmentTool

Text = Annotated[str, Meta(min_length=1, max_length=limits.MESSAGE_TEXT_CHARS)]
Detail = Literal["auto", "low", "high"]
IncompleteReason = Literal[
    "content_filter", "max_tokens", "run_cancelled", "run_expired", "run_failed"
]
ImageDetail = Annotated[
    Detail, Meta(description="How closely the model looks; `low` costs fewer tokens.")
]
MarkerText = Annotated[str, Meta(description="The marker, exactly as it stands in the text.")]
MarkerStart = Annotated[int, Meta(description="Where the marker starts, in code points.")]
MarkerEnd = Annotated[int, Meta(description="Where the marker ends, in code points, exclusive.")]


class TextInput(Body, frozen=True, kw_only=True, tag_field="type", tag="text"):
    """A text part as a client sends it: a plain string."""

    text: Annotated[Text, Meta(description="The text, 1 to 256,000 characters.")]


class ImageFile(Body, frozen=True, kw_only=True):
    """An image by file id."""

    file_id: Annotated[str, Meta(description="The id of an image file.")]
    detail: ImageDetail = "auto"


class ImageUrl(Body, frozen=True, kw_only=True):
    """An image by URL; it is handed to the provider, never fetched by the server."""

    url: Annotated[str, Meta(description="An http, https or data URL.")]
    detail: ImageDetail = "auto"


class ImageFileContent(Body, frozen=True, kw_only=True, tag_field="type", tag="image_file"):
    """An image part by file id."""

    image_file: Annotated[ImageFile, Meta(description="The image.")]


class ImageUrlContent(Body, frozen=True, kw_only=True, tag_field="type", tag="image_url"):
    """An image part by URL."""

    image_url: Annotated[ImageUrl, Meta(description="The image.")]


ContentInput = TextInput | ImageFileContent | ImageUrlContent


class FileCitation(Wire, frozen=True, kw_only=True):
    """The file that a citation points to."""

    file_id: Annotated[str, Meta(description="The id of the cited file.")]


class FileCitationAnnotation(
    Wire, frozen=True, kw_only=True, tag_field="type", tag="file_citation"
):
    """A citation marker in a text."""

    index: Index = UNSET
    text: MarkerText
    start_index: MarkerStart
    end_index: MarkerEnd
    file_citation: Annotated[FileCitation, Meta(description="What is cited.")]


class FilePath(Wire, frozen=True, kw_only=True):
    """The file that a sandbox link points to."""

    file_id: Annotated[str, Meta(description="The id of the generated file.")]


class FilePathAnnotation(Wire, frozen=True, kw_only=True, tag_field="type", tag="file_path"):
    """A link to a generated file in a text."""

    index: Index = UNSET
    text: MarkerText
    start_index: MarkerStart
    end_index: MarkerEnd
    file_path: Annotated[FilePath, Meta(description="What the link leads to.")]


Annotation = FileCitationAnnotation | FilePathAnnotation


class TextValue(Wire, frozen=True, kw_only=True):
    """A text with its annotations."""

    value: Annotated[str, Meta(description="The text.")]
    annotations: Annotated[
        list[Annotation], Meta(description="Citations and file links, by place in the text.")
    ]


class TextContent(Wire, frozen=True, kw_only=True, tag_field="type", tag="text"):
    """A text part as the API returns it: an object."""

    text: Annotated[TextValue, Meta(description="The text and its annotations.")]


class RefusalContent(Wire, frozen=True, kw_only=True, tag_field="type", tag="refusal"):
    """The model declined to answer."""

    refusal: Annotated[str, Meta(description="What the model said instead.")]


Content = TextContent | ImageFileContent | ImageUrlContent | RefusalContent


class Attachment(Body, frozen=True, kw_only=True):
    """A file attached to a message, and the tools it is for."""

    file_id: Annotated[str, Meta(description="The id of the file.")]
    tools: Annotated[
        list[AttachmentTool] | None, Meta(description="The tools that may read the file.")
    ] = None


class MessageIncompleteDetails(Wire, frozen=True, kw_only=True):
    """Why a message was cut short."""

    reason: Annotated[IncompleteReason, Meta(description="The reason.")]


class Message(Wire, frozen=True, kw_only=True):
    """A message of a thread."""

    id: Id
    object: Annotated[Literal["thread.message"], Meta(description="Always `thread.message`.")] = (
        "thread.message"
    )
    created_at: CreatedAt
    assistant_id: Annotated[
        str | None, Meta(description="The assistant that wrote it; null when a client did.")
    ]
    thread_id: Annotated[str, Meta(description="The thread that it belongs to.")]
    run_id: Annotated[str | None, Meta(description="The run that wrote it; null when none did.")]
    status: Annotated[
        Literal["in_progress", "incomplete", "completed"],
        Meta(description="Whether it is being written, was cut short, or is whole."),
    ]
    incomplete_details: Annotated[
        MessageIncompleteDetails | None, Meta(description="Why it was cut short.")
    ]
    incomplete_at: Annotated[
        int | None, Meta(description="When it was cut short, in unix seconds.")
    ]
    completed_at: Annotated[int | None, Meta(description="When it was whole, in unix seconds.")]
    role: Annotated[Literal["user", "assistant"], Meta(description="Who speaks.")]
    content: Annotated[list[Content], Meta(description="Texts, images and refusals, in order.")]
    attachments: Annotated[
        list[Attachment], Meta(description="The files that came with it, and their tools.")
    ]
    metadata: ObjectMetadata


class CreateMessage(Body, frozen=True, kw_only=True):
    """The body of POST /threads/{thread_id}/messages, and the items of `messages` lists."""

    role: Annotated[
        Literal["user", "assistant"],
        Meta(description="Who speaks; `assistant` inserts what an assistant said elsewhere."),
    ]
    content: Annotated[
        Text | Annotated[list[ContentInput], Meta(min_length=1, max_length=limits.CONTENT_PARTS)],
        Meta(
            description="A text of 1 to 256,000 characters, or 1 to 500 parts: texts, and at "
            "most 10 images."
        ),
    ]
    attachments: Annotated[
        Annotated[list[Attachment], Meta(max_length=limits.ATTACHMENTS)] | None | UnsetType,
        Meta(description="Up to 10 files, and the tools each is for."),
    ] = UNSET
    metadata: GivenMetadata = UNSET


class TextDelta(Wire, frozen=True, kw_only=True):
    """A piece of text."""

    value: Annotated[str | UnsetType, Meta(description="What comes after the text so far.")] = UNSET
    annotations: Annotated[
        list[Annotation] | UnsetType,
        Meta(description="New annotations; empty on the first piece."),
    ] = UNSET


class TextContentDelta(Wire, frozen=True, kw_only=True, tag_field="type", tag="text"):
    """A piece of a text part."""

    index: Annotated[int, Meta(description="The place of the part in `content`.")]
    text: Annotated[TextDelta, Meta(description="The piece.")]


class RefusalContentDelta(Wire, frozen=True, kw_only=True, tag_field="type", tag="refusal"):
    """A piece of a refusal."""

    index: Annotated[int, Meta(description="The place of the part in `content`.")]
    refusal: Annotated[str, Meta(description="What comes after the refusal so far.")]


class ImageFileContentDelta(Wire, frozen=True, kw_only=True, tag_field="type", tag="image_file"):
    """A whole image part."""

    index: Annotated[int, Meta(description="The place of the part in `content`.")]
    image_file: Annotated[ImageFile, Meta(description="The image.")]


ContentDelta = TextContentDelta | RefusalContentDelta | ImageFileContentDelta


class MessageDeltaBody(Wire, frozen=True, kw_only=True):
    """What a delta adds to its message."""

    role: Annotated[Literal["user", "assistant"] | UnsetType, Meta(description="Who speaks.")] = (
        UNSET
    )
    content: Annotated[list[ContentDelta], Meta(description="Pieces of its parts.")]


class MessageDelta(Wire, frozen=True, kw_only=True):
    """A message delta."""

    id: Annotated[str, Meta(description="The id of the message.")]
    object: Annotated[
        Literal["thread.message.delta"], Meta(description="Always `thread.message.delta`.")
    ] = "thread.message.delta"
    delta: Annotated[MessageDeltaBody, Meta(description="What is new.")]
