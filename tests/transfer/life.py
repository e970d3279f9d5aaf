"""An application's life on a server, as it was when that was killed: what it knows and expects."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
from openai import OpenAI
from openai.types.beta.threads import Run

Json = dict[str, Any]

_PATIENCE_S = 30.0
_LOOK_S = 0.05
_NOTES = {
    "oslo.txt": "Oslo is the capital of Norway. Its harbour freezes in cold winters.",
    "bergen.txt": "Bergen lies between seven mountains. It rains there on two days of three.",
    "nul.md": "# Trondheim\n\nThe cathedral of Nidaros is in Trondheim, on the river Nidelva.",
}
_QUERIES = ("Where does it rain?", "cathedral river", "harbour in winter")
_PICTURE = bytes(range(256)) * 24_000  # More than an object store takes in one request.
_TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}},
}


@dataclass
class Life:
    """What the application made, by the client that it keeps, and what it has deleted."""

    client: OpenAI
    http: httpx2.Client
    others: OpenAI
    threads: dict[str, str] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    deleted: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    assistant: str = ""
    store: str = ""
    late_store: str = ""

    # Living.

    def live(self) -> None:
        """Make, change and delete a bit of everything."""
        self._make_assistants()
        self._talk()
        self._shelve()
        self.others.beta.assistants.create(model="m", name="of another project")
        self._leave_runs()

    def _make_assistants(self) -> None:
        for number in range(5):
            made = self.client.beta.assistants.create(
                model="m", name=f"Assistant {number}", metadata={"nul": "a\0b", "n": str(number)}
            )
            if number == 2:
                self.deleted["assistants"] = made.id
                self.client.beta.assistants.delete(made.id)
        helper = self.client.beta.assistants.create(model="m", tools=[_TOOL])  # type: ignore[list-item]
        self.assistant = helper.id

    def _talk(self) -> None:
        """A thread with many messages, of which one is gone, and a run that is done."""
        thread = self.threads["talk"] = self.client.beta.threads.create().id
        for number in range(13):
            text = f"Message {number}: é中😀"
            made = self.client.beta.threads.messages.create(thread, role="user", content=text)
            if number == 6:
                self.deleted["messages"] = made.id
        self.client.beta.threads.messages.delete(self.deleted["messages"], thread_id=thread)
        self.run("done", "talk")
        self.settled("done", "completed")

    def _shelve(self) -> None:
        for name, text in _NOTES.items():
            made = self.client.files.create(file=(name, text.encode()), purpose="assistants")
            self.files[name] = made.id
        picture = self.client.files.create(file=("picture.png", _PICTURE), purpose="vision")
        self.files["picture.png"] = picture.id
        self.store = self.client.vector_stores.create(name="notes").id
        for name in _NOTES:
            file_id = self.files[name]
            self.client.vector_stores.files.create_and_poll(file_id, vector_store_id=self.store)

    def _leave_runs(self) -> None:
        """One that waits for its tool, one at work, and one for which no slot is free."""
        for name, text in (
            ("waiting", "call get_weather"),
            ("working", 'rehearse: {"steps": [{"words": 40, "every_ms": 50}]}'),
            ("queued", "What is queued?"),
        ):
            thread = self.threads[name] = self.client.beta.threads.create(
                messages=[{"role": "user", "content": text}]
            ).id
            assert thread
            self.run(name, name)
            if name == "waiting":
                self.settled("waiting", "requires_action")
            if name == "working":
                self._hear("working", "thread.message.delta")
        assert self.status("working") == "in_progress"
        assert self.status("queued") == "queued"

    def run(self, name: str, thread: str) -> None:
        """Begin a run."""
        self.runs[name] = self.client.beta.threads.runs.create(
            self.threads[thread],
            assistant_id=self.assistant,
            extra_headers={"Idempotency-Key": f"run {name}"},
        )

    def leave_file(self) -> None:
        """A file that is about to be indexed when the server dies."""
        self.late_store = self.client.vector_stores.create(file_ids=[self.files["oslo.txt"]]).id

    # Looking.

    def status(self, name: str) -> str:
        """Of a run."""
        run = self.runs[name]
        return self.client.beta.threads.runs.retrieve(run.id, thread_id=run.thread_id).status

    def settled(self, name: str, status: str) -> None:
        """Wait until a run has this status."""
        self._until(lambda: self.status(name) == status)

    def wait_for_file(self) -> None:
        """Until the file that was left is indexed."""
        self._until(
            lambda: not self.client.vector_stores.retrieve(self.late_store).file_counts.in_progress
        )

    def events(self, name: str) -> str:
        """The whole log of a run that is over."""
        return self.http.get(self._log_of(name)).raise_for_status().text

    def _hear(self, name: str, event: str) -> None:
        """Wait until a run has had an event."""
        with self.http.stream("GET", self._log_of(name)) as answer:
            assert any(line == f"event: {event}" for line in answer.iter_lines())

    def _log_of(self, name: str) -> str:
        run = self.runs[name]
        return f"/threads/{run.thread_id}/runs/{run.id}/events"

    def messages(self, name: str) -> list[str]:
        """The texts of a thread, oldest first."""
        page = self.client.beta.threads.messages.list(self.threads[name], order="asc")
        return [part.text.value for one in page for part in one.content if part.type == "text"]

    def found(self) -> list[list[tuple[str, float, str]]]:
        """What searches find: file, score and text."""
        return [
            [
                (one.filename, one.score, one.content[0].text)
                for one in self.client.vector_stores.search(self.store, query=query)
            ]
            for query in _QUERIES
        ]

    def seen(self) -> Json:
        """Everything that is at rest, page by page, both ways, and behind what was deleted."""
        talk = self.threads["talk"]
        done = self.runs["done"].id
        return {
            "assistants": self._pages("/assistants", self.deleted["assistants"]),
            "messages": self._pages(f"/threads/{talk}/messages", self.deleted["messages"]),
            "runs": self._pages(f"/threads/{talk}/runs"),
            "steps": self._pages(f"/threads/{talk}/runs/{done}/steps"),
            "files": self._pages("/files"),
            "store files": self._pages(f"/vector_stores/{self.store}/files"),
            "events": self.events("done"),
            "others": [one.id for one in self.others.beta.assistants.list()],
            "contents": {
                name: self.client.files.content(id).read() for name, id in self.files.items()
            },
        }

    def _pages(self, path: str, deleted: str | None = None) -> list[Json]:
        """All pages of a list, as they come over the wire."""
        starts = [None] if deleted is None else [None, deleted]
        return [
            page
            for order in ("asc", "desc")
            for start in starts
            for page in self._pages_behind(path, order, start)
        ]

    def _pages_behind(self, path: str, order: str, after: str | None) -> Iterator[Json]:
        has_more = True
        while has_more:
            behind = {} if after is None else {"after": after}
            answer = self.http.get(path, params={"limit": "3", "order": order, **behind})
            page = answer.raise_for_status().json()
            yield page
            after, has_more = page["last_id"], page["has_more"]

    def _until(self, is_so: Callable[[], bool]) -> None:
        give_up_at = time.monotonic() + _PATIENCE_S
        while not is_so():
            assert time.monotonic() < give_up_at, "it never came"
            time.sleep(_LOOK_S)
