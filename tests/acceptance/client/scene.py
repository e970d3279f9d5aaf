"""What a scenario has at hand: clients of the server under test, and the provider behind it.

These modules run inside the environment of the SDK that is tried, not in the project's own: they
import the SDK and the standard library, nothing else.
"""

import json
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import openai
from openai.types.beta import Assistant, Thread
from openai.types.beta.threads import Message, Run

TIMEOUT_S = 20.0

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
TIME: Any = {"type": "function", "function": {"name": "get_time"}}
BOTH: Any = [WEATHER, TIME]


@dataclass(frozen=True)
class Scene:
    """One scenario's own corner of the server: its model name tells its calls from others'."""

    client: openai.OpenAI
    model: str
    root: str  # The server's address without /v1.
    key: str
    provider: str  # The rehearsal server's address without /v1.

    def assistant(self, **more: Any) -> Assistant:
        """An assistant that uses the scenario's model."""
        return self.client.beta.assistants.create(model=self.model, **more)

    def thread(self, *texts: str) -> Thread:
        """A thread of user messages."""
        return self.client.beta.threads.create(
            messages=[{"role": "user", "content": text} for text in texts]
        )

    def asked(self) -> list[Any]:
        """The bodies of the model calls that this scenario caused, oldest first."""
        calls = _get(f"{self.provider}/rehearsal/calls")["data"]
        return [call["body"] for call in calls if call["model"] == self.model]

    def calls(self) -> list[Any]:
        """The same calls, with what the provider saw of them."""
        return [
            call
            for call in _get(f"{self.provider}/rehearsal/calls")["data"]
            if call["model"] == self.model
        ]

    def messages(self, thread_id: str) -> list[Message]:
        """A thread's messages, oldest first."""
        return list(self.client.beta.threads.messages.list(thread_id, order="asc"))

    def last_text(self, thread_id: str) -> str:
        """The text of the newest message."""
        return text_of(self.messages(thread_id)[-1])

    def run(self, thread: Thread, assistant: Assistant, **more: Any) -> Run:
        """A run, followed until it rests."""
        return self.client.beta.threads.runs.create_and_poll(
            thread_id=thread.id, assistant_id=assistant.id, **more
        )


Play = Callable[[Scene], None]
SCENARIOS: dict[str, Play] = {}
ASSERTIONS: dict[str, tuple[int, ...]] = {}
SLOW: set[str] = set()  # What waits long is played beside the others.


def scenario(*assertions: int, is_slow: bool = False) -> Callable[[Play], Play]:
    """Name a scenario, and the assertions of the specification that it proves."""

    def register(play: Play) -> Play:
        name = play.__name__
        assert name not in SCENARIOS
        SCENARIOS[name] = play
        ASSERTIONS[name] = assertions
        if is_slow:
            SLOW.add(name)
        return play

    return register


def rehearse(*turns: list[dict[str, Any]]) -> str:
    """A prompt that tells the provider what to answer, turn by turn (docs/rehearsal.md)."""
    return "rehearse: " + json.dumps({"turns": turns})


def call(name: str, /, **arguments: Any) -> dict[str, Any]:
    """A script's step: call this function."""
    return {"call": {"name": name, "arguments": arguments}}


def text_of(message: Message) -> str:
    """The text of a message that has one part."""
    (part,) = message.content
    assert part.type == "text", part
    return part.text.value


def same(actual: object, expected: object) -> None:
    """Equal, or a failure that shows both."""
    assert actual == expected, f"expected {expected!r}, got {actual!r}"


@contextmanager
def refused(
    kind: type[openai.APIStatusError],
    message: str,
    *,
    code: str | None = None,
    param: str | None = None,
) -> Iterator[None]:
    """The block must end in exactly this error."""
    try:
        yield
    except openai.APIStatusError as error:
        same(type(error), kind)
        body: Any = error.body
        same(body["message"], message)
        same((error.code, error.param, error.type), (code, param, "invalid_request_error"))
        assert error.request_id is not None and error.request_id.startswith("req_")
    else:
        raise AssertionError(f"no error; expected {kind.__name__}: {message}")


def outputs(run: Run, *texts: str) -> Any:
    """An output for each call that the run waits for, in order."""
    assert run.required_action is not None, run.status
    calls = run.required_action.submit_tool_outputs.tool_calls
    return [
        {"tool_call_id": one.id, "output": text} for one, text in zip(calls, texts, strict=True)
    ]


def names(events: Iterable[Any]) -> list[str]:
    """The events' names, equal neighbours once: deltas may be cut anywhere."""
    found: list[str] = []
    for event in events:
        if found[-1:] != [event.event]:
            found.append(event.event)
    return found


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
        return json.load(answer)
