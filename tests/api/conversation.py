"""Talk: one project's conversation with assistants whose model plays a script (docs/rehearsal.md).

Every Talk has a model name of its own, so that its scripts and the provider's calls are its own
too. `frames` reads a stream byte by byte as SPEC 9.1 has it.
"""

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx2

from tests.api.serving import Running
from understudy.store.records import JournalRow

Json = dict[str, Any]

ACTIVE = {"queued", "in_progress", "cancelling"}
_numbers = count(1)
_FRAME = re.compile(rb"(?:id: (\d+\.\d+)\n)?event: ([a-z_.]+)\ndata: ([^\n]+)")


@dataclass(frozen=True)
class Frame:
    """One event of a stream; `data` is decoded, but for the closing [DONE]."""

    name: str
    data: Any
    id: str | None = None

    @property
    def short(self) -> str:
        """The name without `thread.`."""
        return self.name.removeprefix("thread.")


class Talk:
    """A project's client, and the verbs that tests of runs are made of."""

    def __init__(self, server: Running, http: httpx2.Client) -> None:
        self.server = server
        self.http = http
        self.model = f"model-{next(_numbers)}"

    # The model.

    def plays(self, *turns: Sequence[Json]) -> None:
        """What the model does, turn by turn."""
        self.server.play(self.model, [list(turn) for turn in turns])

    def asked(self) -> list[Json]:
        """The bodies of the requests that the provider got, oldest first."""
        return [call["body"] for call in self.provider_calls()]

    def provider_calls(self) -> list[Json]:
        """The requests that the provider got, with what it noted beside them."""
        return [call for call in self.server.calls() if call["model"] == self.model]

    def journal(self, run: Json) -> list[JournalRow]:
        """The calls that a run made, in its journal."""
        return self.server.run(self.server.app.store.journal(run["id"]))

    # Objects.

    def assistant(self, **fields: Any) -> str:
        """An assistant with this model; its id."""
        made: str = self.ok("/assistants", {"model": self.model, **fields})["id"]
        return made

    def thread(self, *texts: str) -> str:
        """A thread with these messages of the user; its id."""
        messages = [{"role": "user", "content": text} for text in texts]
        made: str = self.ok("/threads", {"messages": messages})["id"]
        return made

    def ok(self, path: str, body: Json | None = None) -> Json:
        """POST that must succeed."""
        answer = self.http.post(path, json=body)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    def get(self, path: str) -> Json:
        """GET that must succeed."""
        answer = self.http.get(path)
        assert answer.status_code == 200, answer.text
        found: Json = answer.json()
        return found

    def messages(self, thread: str) -> list[Json]:
        """The messages of a thread, oldest first."""
        found: list[Json] = self.get(f"/threads/{thread}/messages?order=asc&limit=100")["data"]
        return found

    def texts(self, thread: str) -> list[str]:
        """What was said, oldest first."""
        return ["".join(map(_words, one["content"])) for one in self.messages(thread)]

    def steps(self, run: Json) -> list[Json]:
        """The steps of a run, oldest first."""
        found: list[Json] = self.get(f"{path_of(run)}/steps?order=asc&limit=100")["data"]
        return found

    # Runs.

    def start(self, assistant: str, thread: str, **fields: Any) -> Json:
        """A new run."""
        return self.ok(f"/threads/{thread}/runs", {"assistant_id": assistant, **fields})

    def again(self, run: Json) -> Json:
        """The run as it is now."""
        return self.get(path_of(run))

    def close(self) -> None:
        """Stop what still runs, so that the server can stop at once."""
        if self.server.app.worker.live_runs:
            for thread in self.get("/threads?limit=100")["data"]:
                self.http.delete(f"/threads/{thread['id']}")

    def rested(self, run: Json) -> Json:
        """The run once it is over or waits for its client."""
        return self.once(run, lambda now: now["status"] not in ACTIVE)

    def once(self, run: Json, is_so: Callable[[Json], bool]) -> Json:
        """The run as soon as something is so."""
        found: Json = eventually(lambda: self.again(run), is_so)
        return found

    def ran(self, *texts: str, **fields: Any) -> Json:
        """A run of a new assistant on a new thread, at its rest."""
        return self.rested(self.start(self.assistant(), self.thread(*texts), **fields))

    def submit(self, run: Json, *outputs: str, **fields: Any) -> httpx2.Response:
        """Answer the pending calls, in their order."""
        pairs = zip(call_ids(run), outputs, strict=True)
        body = {"tool_outputs": [{"tool_call_id": id, "output": out} for id, out in pairs]}
        return self.http.post(f"{path_of(run)}/submit_tool_outputs", json={**body, **fields})

    def cancel(self, run: Json) -> httpx2.Response:
        """Cancel a run."""
        return self.http.post(f"{path_of(run)}/cancel")

    # Streams.

    def streamed(self, path: str, body: Json, **headers: str) -> list[Frame]:
        """The frames of a POST with `stream: true`, to its end."""
        answer = self.http.post(path, json={**body, "stream": True}, headers=headers)
        assert answer.status_code == 200, answer.text
        return frames(answer.content)

    def stream(self, assistant: str, thread: str, **fields: Any) -> list[Frame]:
        """The frames of a new run."""
        return self.streamed(f"/threads/{thread}/runs", {"assistant_id": assistant, **fields})

    def replay(self, run: Json, after: str | None = None) -> list[Frame]:
        """The frames of a run after an event id."""
        answer = self.http.get(f"{path_of(run)}/events", params={"after": after} if after else {})
        assert answer.status_code == 200, answer.text
        return frames(answer.content)

    @contextmanager
    def open_stream(self, assistant: str, thread: str, **headers: str) -> Iterator["Live"]:
        """A new run's stream that is read piece by piece."""
        path, body = f"/threads/{thread}/runs", {"assistant_id": assistant, "stream": True}
        with self.http.stream("POST", path, json=body, headers=headers) as answer:
            yield Live(answer)

    @contextmanager
    def open_replay(self, run: Json) -> Iterator["Live"]:
        """A run's events, read piece by piece."""
        with self.http.stream("GET", f"{path_of(run)}/events") as answer:
            yield Live(answer)


class Live:
    """An open stream; `heard` is what was read so far."""

    def __init__(self, answer: httpx2.Response) -> None:
        assert answer.status_code == 200
        self.answer = answer
        self.heard: list[Frame] = []
        self._lines = answer.iter_lines()

    def until(self, name: str) -> Frame:
        """Read on to the next event of this name."""
        for frame in self._frames():
            if frame.name == name:
                return frame
        raise AssertionError(f"the stream ended without {name}")

    def next(self) -> Frame | None:
        """Read one event; None at the end."""
        return next(self._frames(), None)

    def rest(self) -> list[Frame]:
        """Read to the end; everything that was heard."""
        for _ in self._frames():
            pass
        return self.heard

    def _frames(self) -> Iterator[Frame]:
        piece: list[str] = []
        for line in self._lines:
            if line:
                piece.append(line)
                continue
            self.heard += frames("\n".join(piece).encode() + b"\n\n")
            is_comment = piece[0].startswith(":")
            piece = []
            if not is_comment:
                yield self.heard[-1]


def frames(raw: bytes) -> list[Frame]:
    """A stream's frames; anything that is neither a frame nor a comment is an error."""
    assert raw.endswith(b"\n\n")
    found = []
    for piece in raw.removesuffix(b"\n\n").split(b"\n\n"):
        if piece.startswith(b":"):
            continue
        match = _FRAME.fullmatch(piece)
        assert match is not None, piece
        id, name, data = match.groups()
        decoded = "[DONE]" if data == b"[DONE]" else json.loads(data)
        found.append(Frame(name.decode(), decoded, id.decode() if id else None))
    return found


def names(found: Sequence[Frame]) -> list[str]:
    """The names in order, a row of equal deltas as one."""
    short: list[str] = []
    for frame in found:
        if not (frame.name.endswith(".delta") and short and short[-1] == frame.short):
            short.append(frame.short)
    return short


def run_of(found: Sequence[Frame]) -> Json:
    """The newest run in a stream."""
    runs: list[Json] = [one.data for one in found if is_object(one.data, "thread.run")]
    return runs[-1]


def is_object(data: Any, name: str) -> bool:
    """Whether a frame's data is an object of this name."""
    return isinstance(data, dict) and data.get("object") == name


def text_of(found: Sequence[Frame]) -> str:
    """The text of all message deltas."""
    deltas = [one.data for one in found if one.name == "thread.message.delta"]
    return "".join(map(_words, (part for one in deltas for part in one["delta"]["content"])))


# Before a provider drops the connection: a reset may overtake what was said just before it.
PAUSE: Json = {"delay_ms": 100}


def path_of(run: Json) -> str:
    """Where a run is."""
    return f"/threads/{run['thread_id']}/runs/{run['id']}"


def calls_of(run: Json) -> list[Json]:
    """The calls that a run waits for."""
    found: list[Json] = run["required_action"]["submit_tool_outputs"]["tool_calls"]
    return found


def call_ids(run: Json) -> list[str]:
    """Their ids."""
    return [call["id"] for call in calls_of(run)]


def function(name: str, **fields: Any) -> Json:
    """A function tool."""
    return {"type": "function", "function": {"name": name, **fields}}


def call(name: str, arguments: Any = None, **fields: Any) -> Json:
    """A script's step: a function call."""
    given = {} if arguments is None else arguments
    return {"call": {"name": name, "arguments": given, **fields}}


def text(words: str) -> Json:
    """A script's step: a text."""
    return {"text": words}


SILENCE: Json = {"silence": True}


def error_of(response: httpx2.Response, status: int = 400) -> Json:
    """The error of an answer that has this status."""
    assert response.status_code == status, response.text
    found: Json = response.json()["error"]
    return found


def eventually(look: Callable[[], Any], is_so: Callable[[Any], bool] = bool) -> Any:
    """What a look finds as soon as it is so; the look is repeated for 20 s at most."""
    ends_at = time.monotonic() + 20
    while not is_so(found := look()):
        assert time.monotonic() < ends_at, f"still {found}"
        time.sleep(0.005)
    return found


def _words(part: Json) -> str:
    """The text of a content part, whole or delta."""
    if part["type"] == "text":
        words: str = part["text"].get("value", "")
        return words
    refusal: str = part.get("refusal", "")
    return refusal
