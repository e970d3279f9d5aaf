"""Messages: from what a client sends to what the API returns, and their size in tokens."""

from understudy.machine import tokens
from understudy.machine.private import MessagePrivate
from understudy.wire.base import given
from understudy.wire.messages import (
    Attachment,
    Content,
    ContentInput,
    CreateMessage,
    Message,
    RefusalContent,
    TextContent,
    TextInput,
    TextValue,
)
from understudy.wire.tools import AttachmentCodeInterpreter


def user_message(body: CreateMessage, *, id: str, thread_id: str, now: int) -> Message:
    """The message that a create call makes: complete at once, of no run."""
    parts: list[Content]
    if isinstance(body.content, str):
        parts = [text_content(body.content)]
    else:
        parts = [_content(part) for part in body.content]
    return Message(
        id=id,
        created_at=now,
        assistant_id=None,
        thread_id=thread_id,
        run_id=None,
        status="completed",
        incomplete_details=None,
        incomplete_at=None,
        completed_at=now,
        role=body.role,
        content=parts,
        attachments=list(given(body.attachments, [])),
        metadata=given(body.metadata, {}),
    )


def text_content(value: str) -> TextContent:
    """A text part without annotations."""
    return TextContent(text=TextValue(value=value, annotations=[]))


def code_attachment(file_id: str) -> Attachment:
    """A file that code wrote, attached to the message that follows."""
    return Attachment(file_id=file_id, tools=[AttachmentCodeInterpreter()])


def _content(part: ContentInput) -> Content:
    """Input text is a string, output text is an object; images are the same both ways."""
    return text_content(part.text) if isinstance(part, TextInput) else part


def message_private(message: Message, turn: int | None = None) -> MessagePrivate:
    """What is kept with a message: its tokens are counted here, once."""
    size = tokens.MESSAGE_OVERHEAD
    for part in message.content:
        match part:
            case TextContent():
                size += tokens.count(part.text.value)
            case RefusalContent():
                size += tokens.count(part.refusal)
            case _:
                size += tokens.IMAGE
    for attachment in message.attachments:
        size += tokens.count(attachment.file_id) * 2
    return MessagePrivate(tokens=size, turn=turn)
