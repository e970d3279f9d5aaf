"""History: the chat request of a run's next turn, read from the store no further than needed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from understudy import limits
from understudy.engine import file_search, images, sandbox_files
from understudy.engine.app import App
from understudy.engine.file_search import Reach
from understudy.engine.record import decoded, private_of
from understudy.engine.sandbox_files import Mount
from understudy.machine import citations, tokens, toolbox, transcript
from understudy.machine.citations import Sources
from understudy.machine.happenings import State
from understudy.machine.private import MessagePrivate, StepPrivate
from understudy.machine.transcript import Done, Files, Stored, Window
from understudy.settings import context_tokens_of
from understudy.store import Row, Statement, store
from understudy.store.records import Listed
from understudy.wire.chat import ChatRequest
from understudy.wire.messages import Message
from understudy.wire.steps import MessageCreationDetails, Step

_PAGE = 50


class NoBudget(Exception):
    """A token budget of the run leaves no room for another turn."""

    def __init__(self, budget: str) -> None:
        super().__init__(budget)
        self.budget = budget


@dataclass(frozen=True)
class Question:
    """What the model is asked: the request, its size, what the answer may cite (None for a run
    without file_search, whose text is not looked at), and the files that it may link, path → file
    id (None for a run without code_interpreter)."""

    request: ChatRequest
    prompt_tokens: int
    sources: Sources | None
    links: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Newest:
    """Messages of a thread, newest first, and whether there are older ones."""

    messages: Sequence[Stored]
    has_older: bool


class End(Protocol):
    """How a thread ends, for the first request of a run that is perhaps not committed yet."""

    async def newest(self) -> Newest | None:
        """Its newest messages where they are known, and need not be read."""
        ...

    async def begun(self) -> None:
        """Before this returns, the thread must not be read: its messages may come with the run."""
        ...


def newest(project: str, thread_id: str) -> Statement:
    """How a thread ends, to be read with the commit that begins a run of it."""
    return store.newest(
        "message",
        project,
        thread_id,
        limit=limits.MESSAGES_READ_ALONG,
        most_bytes=limits.MESSAGE_READ_ALONG_BYTES,
    )


def newest_of(rows: Sequence[Row]) -> Newest | None:
    """What that commit found; None: the last message is large, and has to be read."""
    page, has_older = store.newest_of(rows, limits.MESSAGES_READ_ALONG)
    if has_older and not page:
        return None
    return Newest([_stored(record) for record in page], has_older)


async def next_question(
    app: App,
    project: str,
    state: State,
    reach: Reach | None,
    mounts: Sequence[Mount] | None,
    *,
    context_tokens: int | None = None,
    end: End,
) -> Question:
    """The next turn's request. Raises NoBudget.

    `reach` is what the run may search, `mounts` what its code finds, if it can run any;
    `context_tokens` is its window where the provider named it; `end` is how the thread ends.
    """
    run, private = state.run, state.private
    spent = transcript.exhausted(run, private)
    if spent is not None:
        raise NoBudget(spent)
    done = await _done(app, project, state)
    searchable = await file_search.searchable(app, project, reach)
    own = transcript.own_turns(await _messages(app, project, done), done)
    in_sandbox = [mount.path for mount in mounts or ()]
    own_tokens = transcript.own_tokens(own, done) + _size(searchable, in_sandbox)
    window_tokens = context_tokens or context_tokens_of(app.settings, run.model)
    budget = transcript.prompt_budget(run, private, own_tokens, window_tokens)
    window = Window(budget=budget, last=transcript.last_messages(run))
    has_any = await _read(app, project, state, window, end)
    if run.max_prompt_tokens is not None and (budget < 0 or (has_any and window.is_empty)):
        raise NoBudget("max_prompt_tokens")
    history = window.messages()
    if has_any and not history:
        # Nothing fits the model's window; the provider decides about the newest message.
        await end.begun()
        history = await _newest(app, project, state)
    model = await app.model.resolve(run.model)
    urls, unsent = await images.data_urls(app, project, history)
    files = Files(
        names=await _names(app, project, history),
        images=urls,
        unsent_images=unsent,
        searchable=searchable,
        in_sandbox=in_sandbox,
    )
    request = transcript.chat_request(
        run, private, history=history, own=own, files=files, model=model
    )
    size = budget - window.budget + private.fixed_tokens + own_tokens
    sources = None if reach is None else citations.sources(one.step for one in done)
    links = None if mounts is None else sandbox_files.links(mounts)
    return Question(request, size, sources, links)


def _size(searchable: toolbox.Searchable | None, in_sandbox: Sequence[str]) -> int:
    """The size of the file names; that of the tools themselves is among the run's fixed tokens."""
    names = "" if searchable is None else toolbox.listing(searchable)
    return tokens.count(names) + tokens.count(toolbox.sandbox_listing(in_sandbox))


async def _done(app: App, project: str, state: State) -> list[Done]:
    """The steps of earlier turns, oldest first. The first turn needs no read."""
    done: list[Done] = []
    if state.private.turn == 0:
        return done
    after = None
    while True:
        page, has_more = await app.store.list(
            "step", project, state.run.id, limit=_PAGE, order="asc", after=after, before=None
        )
        done += [Done(decoded(one, Step), private_of(one, StepPrivate)) for one in page]
        if not has_more:
            return done
        after = page[-1].id


async def _messages(app: App, project: str, done: Sequence[Done]) -> dict[str, Message]:
    """The messages that these steps made."""
    details = [one.step.step_details for one in done]
    ids = [
        one.message_creation.message_id
        for one in details
        if isinstance(one, MessageCreationDetails)
    ]
    if not ids:
        return {}
    records = await app.store.get_many("message", project, ids)
    return {record.id: decoded(record, Message) for record in records}


async def _read(app: App, project: str, state: State, window: Window, end: End) -> bool:
    """Fills the window newest first; whether the thread has any message to send."""
    thread_id, has_any = state.run.thread_id, False
    page = await end.newest()
    if page is None:
        await end.begun()
        page = await _older(app, project, thread_id, None)
    while True:
        for stored in page.messages:
            if stored.message.run_id == state.run.id or not transcript.enters(stored.message):
                continue
            has_any = True
            if not window.add(stored):
                await end.begun()
                await _keep_first(app, project, state, window)
                return True
        if not page.has_older:
            return has_any
        await end.begun()
        page = await _older(app, project, thread_id, page.messages[-1].message.id)


async def _older(app: App, project: str, thread_id: str, than: str | None) -> Newest:
    """The messages before one, or the newest."""
    page, has_more = await app.store.list(
        "message", project, thread_id, limit=_PAGE, order="desc", after=than, before=None
    )
    return Newest([_stored(record) for record in page], has_more)


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


async def _names(app: App, project: str, history: list[Message]) -> dict[str, str]:
    """The names of attached files."""
    ids = sorted({one.file_id for message in history for one in message.attachments})
    if not ids:
        return {}
    return {record.id: _name(record) for record in await app.store.get_many("file", project, ids)}


def _name(record: Listed) -> str:
    """The file name in a file object's body."""
    return str(msgspec.json.decode(record.body).get("filename", record.id))


def _stored(record: Listed) -> Stored:
    return Stored(decoded(record, Message), private_of(record, MessagePrivate))
