"""What the clients of the crash tests do: the life of one thread with one run, in five kinds.

A life goes on through any number of deaths of the server. It notes what the server acknowledged;
`checks.py` holds the server to it.
"""

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tests.crash.client import Client, Cut, Event, Refused

TERMINAL = {"completed", "failed", "cancelled", "expired", "incomplete"}
ENDS = {f"thread.run.{status}" for status in (*TERMINAL, "requires_action")}
_POLL_S = 0.03
_FUNCTION = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}


@dataclass(eq=False)
class Life:
    """One thread with one run, and everything about it that the server acknowledged."""

    client: Client
    assistant_id: str
    rng: random.Random
    kind: str
    text: str = ""
    thread_id: str = ""
    run_id: str = ""
    said: dict[str, str] = field(default_factory=dict)  # Message id → text.
    more: list[str] = field(default_factory=list)  # Texts of additional messages.
    outputs: dict[str, str] = field(default_factory=dict)  # Call id → output.
    is_cancelled: bool = False
    run_edit: tuple[int, int] = (0, 0)  # The last metadata edit acknowledged, and the last sent.
    notes: dict[str, tuple[int, int]] = field(default_factory=dict)  # The same, by message.
    seen: dict[tuple[int, int], Event] = field(default_factory=dict)
    has_run: asyncio.Event = field(default_factory=asyncio.Event)
    cuts: int = 0
    deaths: int = 0  # Workers that were killed while they drove the run.
    open_text_at: float = 0.0  # When the last delta of a message that is not whole was seen.

    @property
    def path(self) -> str:
        """The run's path."""
        return f"/threads/{self.thread_id}/runs/{self.run_id}"

    @property
    def is_mid_delta(self) -> bool:
        """Whether text is on its way to this client just now."""
        return time.monotonic() - self.open_text_at < 0.06

    async def live(self) -> None:
        """From the thread to the end of its run."""
        await asyncio.sleep(self.rng.uniform(0, 0.15))
        self.thread_id = (await self.client.post("/threads", {}))["id"]
        script, work = KINDS[self.kind](self)
        await self._say(f"Please rehearse:{_json(script)}")
        await work(self)

    async def _say(self, text: str) -> None:
        path = f"/threads/{self.thread_id}/messages"
        message = await self.client.post(path, {"role": "user", "content": text})
        self.said[message["id"]] = text

    # Streaming clients.

    async def watch_run(self) -> str:
        """Create the run and watch it to the end of the stream; its last event."""
        body = {"assistant_id": self.assistant_id, "stream": True}
        return await self._watch(f"/threads/{self.thread_id}/runs", body)

    async def watch_submit(self) -> str:
        """Answer what the run asks, and watch it go on."""
        body = {**await self._answers(), "stream": True}
        last = await self._watch(f"{self.path}/submit_tool_outputs", body)
        self._note_outputs(body)
        return last

    async def _watch(self, path: str, body: dict[str, Any]) -> str:
        """A streaming POST; when it is cut, it is repeated or, once it showed something, its run
        is replayed after the last event seen."""
        key, has_begun, last = self.client.new_key(), False, ""
        while True:
            try:
                if has_begun:
                    replay = f"{self.path}/events?after={self._after()}"
                    events = self.client.stream("GET", replay, None, None)
                else:
                    events = self.client.stream("POST", path, body, key)
                async for event in events:
                    has_begun = True
                    self._see(event)
                    last = event.name
                return last
            except Cut:
                if last in ENDS:
                    return last  # Only `done` is missing.
                self.cuts += 1
                self.open_text_at = 0.0
                await asyncio.sleep(0.01)

    def _after(self) -> str:
        """The id of the last event seen, or of the last lifecycle event seen."""
        places = sorted(self.seen)
        if self.rng.random() < 0.5:
            places = [place for place in places if not self.seen[place].is_delta] or places
        fence, seq = places[-1]
        return f"{fence}.{seq}"

    def _see(self, event: Event) -> None:
        known = self.seen.setdefault(event.place, event)
        assert known == event, f"two events with the id {event.place}: {known} and {event}"
        if event.name == "thread.run.created":
            self.run_id = event.object["id"]
            self.has_run.set()
        if event.name == "thread.message.delta":
            self.open_text_at = time.monotonic()
        elif event.name.startswith("thread.message"):
            self.open_text_at = 0.0

    # Polling clients.

    async def start_run(self, **more: Any) -> None:
        """Create the run."""
        body = {"assistant_id": self.assistant_id, **more}
        run = await self.client.post(f"/threads/{self.thread_id}/runs", body)
        self.run_id = run["id"]

    async def poll(self) -> str:
        """Wait for an end or for requires_action."""
        while True:
            status: str = (await self.client.get(self.path))["status"]
            if status in TERMINAL or status == "requires_action":
                return status
            await asyncio.sleep(_POLL_S)

    async def submit(self) -> None:
        """Answer what the run asks."""
        body = await self._answers()
        await self.client.post(f"{self.path}/submit_tool_outputs", body)
        self._note_outputs(body)

    async def _answers(self) -> dict[str, Any]:
        run = await self.client.get(self.path)
        assert run["status"] == "requires_action", run
        calls = run["required_action"]["submit_tool_outputs"]["tool_calls"]
        return {
            "tool_outputs": [
                {"tool_call_id": call["id"], "output": f"found {number} for {call['id']}"}
                for number, call in enumerate(calls)
            ]
        }

    def _note_outputs(self, body: dict[str, Any]) -> None:
        for one in body["tool_outputs"]:
            self.outputs[one["tool_call_id"]] = one["output"]

    async def cancel(self) -> None:
        """Cancel the run; it may be over or, when our answer was lost, cancelled already."""
        try:
            await self.client.post(f"{self.path}/cancel", {})
            self.is_cancelled = True
        except Refused as refused:
            assert refused.status == 400, refused

    async def edit(self, number: int) -> None:
        """Edit the metadata of the run, and of the message that it writes."""
        self.run_edit = (self.run_edit[0], number)
        await self.client.post(self.path, {"metadata": {"edit": str(number)}})
        self.run_edit = (number, number)
        path = f"/threads/{self.thread_id}/messages"
        for message in (await self.client.get(f"{path}?limit=5"))["data"]:
            if message["run_id"] == self.run_id:
                before, _ = self.notes.get(message["id"], (0, 0))
                self.notes[message["id"]] = (before, number)
                await self.client.post(
                    f"{path}/{message['id']}", {"metadata": {"note": str(number)}}
                )
                self.notes[message["id"]] = (number, number)


Script = dict[str, Any]
Work = Callable[[Life], Awaitable[None]]


def _text(life: Life, least: int, most: int) -> dict[str, Any]:
    """A step that says many words slowly."""
    count = life.rng.randint(least, most)
    life.text = " ".join(f"w{life.rng.randint(0, 999)}" for _ in range(count))
    return {"text": life.text, "every_ms": life.rng.choice([8, 15, 25])}


def _calls(life: Life) -> list[dict[str, Any]]:
    return [
        {"call": {"name": "look_up", "arguments": {"number": number}}}
        for number in range(life.rng.randint(1, 2))
    ]


def plain_text(life: Life) -> tuple[Script, Work]:
    """Text, streamed in many deltas."""

    async def work(life: Life) -> None:
        await life.watch_run()

    return {"steps": [_text(life, 20, 45)]}, work


def functions(life: Life) -> tuple[Script, Work]:
    """Some text, function calls, then the answer; streamed."""
    calls = [{"text": "Let me look that up.", "every_ms": 10}, *_calls(life)]

    async def work(life: Life) -> None:
        last = await life.watch_run()
        if last == "thread.run.requires_action":
            await life.watch_submit()

    return {"turns": [calls, [_text(life, 10, 25)]]}, work


def rounds(life: Life) -> tuple[Script, Work]:
    """Several rounds of function calls, one after the other; polled."""
    turns = [_calls(life) for _ in range(life.rng.randint(2, 4))]

    async def work(life: Life) -> None:
        await life.start_run()
        while await life.poll() == "requires_action":
            await life.submit()

    return {"turns": [*turns, [_text(life, 3, 10)]]}, work


def cancelled(life: Life) -> tuple[Script, Work]:
    """A run that is cancelled at some moment; streamed by one, cancelled by another."""

    async def work(life: Life) -> None:
        watching = asyncio.create_task(life.watch_run())
        await life.has_run.wait()
        await asyncio.sleep(life.rng.uniform(0, 0.4))
        await life.cancel()
        await watching

    return {"steps": [_text(life, 30, 60)]}, work


def additions(life: Life) -> tuple[Script, Work]:
    """A run with additional messages, its metadata edited while it works."""
    step = _text(life, 15, 30)
    script = {"steps": [step]}
    life.more = [f"first of {life.rng.random()}", f"Now rehearse:{_json(script)}"]

    async def work(life: Life) -> None:
        messages = [{"role": "user", "content": text} for text in life.more]
        await life.start_run(additional_messages=messages)
        number = 0
        while (await life.client.get(life.path))["status"] not in TERMINAL:
            number += 1
            await life.edit(number)
            await asyncio.sleep(_POLL_S)

    return script, work


KINDS: dict[str, Callable[[Life], tuple[Script, Work]]] = {
    "plain_text": plain_text,
    "functions": functions,
    "rounds": rounds,
    "cancelled": cancelled,
    "additions": additions,
}

# Twenty lives at once.
MIX = ["plain_text"] * 8 + ["functions"] * 4 + ["rounds"] * 3 + ["cancelled"] * 3
MIX += ["additions"] * 2


async def make_assistant(client: Client) -> str:
    """The assistant of all lives."""
    body = {"model": "rehearsal", "tools": [_FUNCTION]}
    id: str = (await client.post("/assistants", body))["id"]
    return id


def _json(script: Script) -> str:
    return json.dumps(script)
