"""Fill: puts objects into the SQLite file of a server that does not run, a gigabyte in seconds.

The rows are those that the server writes: its own statements, its own types, its own token counts.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import apsw
import msgspec

from benchmarks.stage import ASSISTANT_BODY
from understudy import limits
from understudy.api.auth import DEFAULT_PROJECT
from understudy.machine.message import message_private, user_message
from understudy.store import Statement, changes
from understudy.store.statements import load_queries
from understudy.wire.assistants import Assistant, CreateAssistant
from understudy.wire.messages import CreateMessage
from understudy.wire.threads import Thread
from understudy.wire.tools import ToolResources
from understudy.world import random_id

FILE = "understudy.db"
_SINCE = 1_700_000_000.0
_TOGETHER = 2_000  # Rows of one transaction.
_PRAGMAS = """
pragma journal_mode = off;
pragma synchronous = off;
pragma cache_size = -1000000;
"""

_encode = msgspec.json.Encoder().encode
_assistant_body = msgspec.json.decode(ASSISTANT_BODY, type=CreateAssistant)


@dataclass(frozen=True)
class Filled:
    """A thread and its messages, oldest first."""

    thread_id: str
    message_ids: list[str]


class Filler:
    """Collects rows and writes them in large transactions."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._queries = load_queries("sqlite")
        self._rows: list[Statement] = []
        self._count = 0

    def thread(self, texts: Sequence[str]) -> Filled:
        """A thread with these messages."""
        id = random_id("thread")
        thread = Thread(id=id, created_at=int(_SINCE), metadata={}, tool_resources=ToolResources())
        self._insert("thread", thread)
        ids = [self._message(id, text) for text in texts]
        self._add(changes.grow(id, project=DEFAULT_PROJECT, by=len(ids), limit=limits.INTEGER_MAX))
        return Filled(id, ids)

    def assistant(self) -> str:
        """One more assistant, as the stage's own."""
        assistant = Assistant(
            id=random_id("assistant"),
            created_at=int(_SINCE),
            model=_assistant_body.model,
            name=str(_assistant_body.name),
            description=None,
            instructions=str(_assistant_body.instructions),
            tools=list(_assistant_body.tools or ()),
            tool_resources=ToolResources(),
            metadata={},
            temperature=1.0,
            top_p=1.0,
            response_format="auto",
            reasoning_effort=None,
        )
        self._insert("assistant", assistant)
        return assistant.id

    def flush(self) -> None:
        """Write what was collected."""
        with self._connection:
            for statement in self._rows:
                self._connection.execute(self._queries[statement.query], statement.args)
        self._rows.clear()

    def _message(self, thread_id: str, text: str) -> str:
        body = CreateMessage(role="user", content=text)
        id = random_id("message")
        message = user_message(body, id=id, thread_id=thread_id, now=int(_SINCE))
        self._insert("message", message, parent=thread_id, private=_private(text))
        return id

    def _insert(
        self, kind: str, object: Any, *, parent: str | None = None, private: bytes | None = None
    ) -> None:
        """`object` is any wire type with an id; times grow by a millisecond."""
        self._count += 1
        self._add(
            changes.insert_object(
                kind,
                id=object.id,
                project=DEFAULT_PROJECT,
                parent=parent,
                created_at=_SINCE + self._count / 1000,
                body=_encode(object),
                private=private,
            )
        )

    def _add(self, statement: Statement) -> None:
        self._rows.append(statement)
        if len(self._rows) >= _TOGETHER:
            self.flush()


@contextmanager
def filling(data: Path) -> Iterator[Filler]:
    """A filler on the file in a data folder, which a server has made and left."""
    connection = apsw.Connection(str(data / FILE))
    try:
        connection.execute(_PRAGMAS).fetchall()
        filler = Filler(connection)
        yield filler
        filler.flush()
    finally:
        connection.close()


@cache
def _private(text: str) -> bytes:
    """Counting tokens would take longer than all else; there are few different texts."""
    body = CreateMessage(role="user", content=text)
    return _encode(message_private(user_message(body, id="", thread_id="", now=0)))
