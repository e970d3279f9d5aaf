"""History: the chat request of a run's next turn, read from the store no further than needed."""

import msgspec

from understudy.engine.app import App
from understudy.engine.record import decoded, private_of
from understudy.machine import transcript
from understudy.machine.happenings import State
from understudy.machine.private import MessagePrivate, StepPrivate
from understudy.machine.transcript import Done, Files, Stored, Window
from understudy.settings import context_tokens_of
from understudy.store.records import Record
from understudy.wire.chat import ChatMessage, ChatRequest
from understudy.wire.messages import Message
from understudy.wire.steps import MessageCreationDetails, Step

_PAGE = 50


class NoBudget(Exception):
    """A token budget of the run leaves no room for another turn."""

    def __init__(self, budget: str) -> None:
        super().__init__(budget)
        self.budget = budget


async def next_request(
    app: App, project: str, state: State, *, context_tokens: int | None = None
) -> tuple[ChatRequest, int]:
    """The next turn's request and its size in tokens. Raises NoBudget.

    `context_tokens` is the model's window where the provider named it.
    """
    run, private = state.run, state.private
    spent = transcript.exhausted(run, private)
    if spent is not None:
        raise NoBudget(spent)
    own = await _own(app, project, state)
    own_tokens = transcript.own_tokens(own)
    window_tokens = context_tokens or context_tokens_of(app.settings, run.model)
    budget = transcript.prompt_budget(run, private, own_tokens, window_tokens)
    window = Window(budget=budget, last=transcript.last_messages(run))
    has_any = await _read(app, project, state, window)
    if run.max_prompt_tokens is not None and (budget < 0 or (has_any and window.is_empty)):
        raise NoBudget("max_prompt_tokens")
    history = window.messages()
    if has_any and not history:
        # Nothing fits the model's window; the provider decides about the newest message.
        history = await _newest(app, project, state)
    model = await app.model.resolve(run.model)
    files = await _files(app, project, history)
    request = transcript.chat_request(
        run, private, history=history, own=own, files=files, model=model
    )
    return request, budget - window.budget + private.fixed_tokens + own_tokens


async def _own(app: App, project: str, state: State) -> list[ChatMessage]:
    """What the run said and did in earlier turns. The first turn needs no read."""
    if state.private.turn == 0:
        return []
    done: list[Done] = []
    messages: dict[str, Message] = {}
    after = None
    while True:
        page, has_more = await app.store.list(
            "step", project, state.run.id, limit=_PAGE, order="asc", after=after, before=None
        )
        done += [Done(decoded(one, Step), private_of(one, StepPrivate)) for one in page]
        if not has_more:
            break
        after = page[-1].id
    details = [one.step.step_details for one in done]
    ids = [
        one.message_creation.message_id
        for one in details
        if isinstance(one, MessageCreationDetails)
    ]
    for record in await app.store.get_many("message", project, ids):
        messages[record.id] = decoded(record, Message)
    return transcript.own_turns(messages, done)


async def _read(app: App, project: str, state: State, window: Window) -> bool:
    """Fills the window newest first; whether the thread has any message to send."""
    thread_id, after, has_any = state.run.thread_id, None, False
    while True:
        page, has_more = await app.store.list(
            "message", project, thread_id, limit=_PAGE, order="desc", after=after, before=None
        )
        for record in page:
            stored = _stored(record)
            if stored.message.run_id == state.run.id or not transcript.enters(stored.message):
                continue
            has_any = True
            if not window.add(stored):
                await _keep_first(app, project, state, window)
                return True
        if not has_more:
            return has_any
        after = page[-1].id


async def _keep_first(app: App, project: str, state: State, window: Window) -> None:
    """The thread's first message stays when the middle is dropped."""
    if not window.wants_first:
        return
    page, _ = await app.store.list(
        "message", project, state.run.thread_id, limit=1, order="asc", after=None, before=None
    )
    if page:
        window.set_first(_stored(page[0]))


async def _newest(app: App, project: str, state: State) -> list[Message]:
    page, _ = await app.store.list(
        "message", project, state.run.thread_id, limit=1, order="desc", after=None, before=None
    )
    return [_stored(record).message for record in page]


async def _files(app: App, project: str, history: list[Message]) -> Files:
    """The names of attached files."""
    ids = sorted({one.file_id for message in history for one in message.attachments})
    if not ids:
        return Files()
    names = {}
    for record in await app.store.get_many("file", project, ids):
        names[record.id] = _name(record)
    return Files(names=names)


def _name(record: Record) -> str:
    """The file name in a file object's body."""
    return str(msgspec.json.decode(record.body).get("filename", record.id))


def _stored(record: Record) -> Stored:
    return Stored(decoded(record, Message), private_of(record, MessagePrivate))
