"""What clients' accumulators accept: the official Python one itself, and the stricter rules of
the Node one (CLIENTS: openai-node 7)."""

from collections.abc import Sequence
from typing import Any, cast

import msgspec
from openai import AssistantEventHandler
from openai._models import construct_type
from openai.types.beta import AssistantStreamEvent

from understudy.wire.events import STREAM_ENDS, Event

_STEP_ENDS = frozenset({"completed", "failed", "cancelled", "expired"})
_MESSAGE_ENDS = frozenset({"completed", "incomplete"})


def streams(events: Sequence[Event]) -> list[list[Event]]:
    """A run's log as the streams that a client sees: each ends where a stream ends."""
    result: list[list[Event]] = [[]]
    for event in events:
        result[-1].append(event)
        if event.name in STREAM_ENDS:
            result.append([])
    return [stream for stream in result if stream]


def accepts(events: Sequence[Event]) -> None:
    """Raises when a client would."""
    for stream in streams(events):
        handler = AssistantEventHandler()
        strict = StrictClient()
        for event in stream:
            encoded = msgspec.json.encode(event.data)
            strict.hear(event.name, msgspec.json.decode(encoded))
            data = msgspec.json.decode(encoded)
            typed = construct_type(
                type_=cast(Any, AssistantStreamEvent), value={"event": event.name, "data": data}
            )
            handler._emit_sse_event(cast(AssistantStreamEvent, typed))


class StrictClient:
    """The checks of the Node SDK's AssistantStream, one stream long."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._step: str | None = None
        self._message: str | None = None
        self._texts: dict[str, dict[int, str]] = {}
        self._notes: dict[str, list[dict[str, Any]]] = {}
        self._images: dict[str, list[str]] = {}
        self._code: dict[str, dict[str, Any]] = {}  # Step → what its deltas make of its one call.

    def hear(self, name: str, data: dict[str, Any]) -> None:
        """One event."""
        if name.startswith("thread.run.step."):
            self._hear_step(name.removeprefix("thread.run.step."), data)
        elif name.startswith("thread.message."):
            self._hear_message(name.removeprefix("thread.message."), data)

    def _hear_step(self, what: str, data: dict[str, Any]) -> None:
        if what == "created":
            assert self._step is None, "a step is created while another is open"
            assert data["id"] not in self._seen, "a step is created twice"
            self._seen.add(data["id"])
            self._step = data["id"]
            if data["type"] == "tool_calls":
                assert data["step_details"]["tool_calls"] == []
        elif what == "delta":
            assert data["id"] == self._step, "a delta of a step that is not the open one"
            assert "id" not in data["delta"]
            for call in data["delta"]["step_details"]["tool_calls"]:
                assert isinstance(call["index"], int)
                if call["type"] == "code_interpreter":
                    self._hear_code(data["id"], call)
        elif what in _STEP_ENDS:
            assert self._step in (data["id"], None), "a step ends that is not the open one"
            self._step = None
            self._seen.add(data["id"])
            if what == "completed" and data["id"] in self._code:
                (call,) = data["step_details"]["tool_calls"]
                assert self._code[data["id"]] == call, "the deltas are not the call"

    def _hear_code(self, step: str, delta: dict[str, Any]) -> None:
        """Strings are joined, lists go by their index (SPEC 9.4, 4)."""
        assert delta["index"] == 0, "a built-in call is alone in its step"
        details = delta["code_interpreter"]
        if "id" in delta:
            assert step not in self._code, "an id is repeated"
            assert details == {"input": "", "outputs": []}, "outputs come first, and empty"
            self._code[step] = {name: delta[name] for name in ("id", "type", "code_interpreter")}
            return
        whole = self._code[step]["code_interpreter"]
        if "input" in details:
            assert details["input"] and not whole["outputs"], "code comes before its outputs"
            whole["input"] += details["input"]
        for output in details.get("outputs", ()):
            index = output.pop("index")
            if index < len(whole["outputs"]):
                assert output["type"] == "logs" == whole["outputs"][index]["type"]
                whole["outputs"][index]["logs"] += output["logs"]
            else:
                assert index == len(whole["outputs"]), "an index was left out"
                whole["outputs"].append(output)

    def _hear_message(self, what: str, data: dict[str, Any]) -> None:
        if what == "created":
            assert self._message is None, "a message is created while another is open"
            assert data["id"] not in self._seen, "a message is created twice"
            assert data["content"] == []
            self._seen.add(data["id"])
            self._message = data["id"]
        elif what == "delta":
            assert data["id"] == self._message, "a delta of a message that is not the open one"
            texts = self._texts.setdefault(data["id"], {})
            images = self._images.setdefault(data["id"], [])
            for part in data["delta"]["content"]:
                assert part["index"] <= len(texts) + len(images), "an index was left out"
                if part["type"] == "image_file":
                    assert not texts, "images come first"
                    images.append(part["image_file"]["file_id"])
                    continue
                text = part["text"]["value"] if part["type"] == "text" else part["refusal"]
                is_first = part["index"] not in texts
                texts[part["index"]] = texts.get(part["index"], "") + text
                if part["type"] == "text":
                    self._hear_annotations(data["id"], part["text"], is_first=is_first)
        elif what in _MESSAGE_ENDS:
            assert self._message in (data["id"], None)
            self._message = None
            streamed = self._texts.get(data["id"], {})
            images = self._images.get(data["id"], [])
            parts = len(streamed) + len(images)
            assert len(data["content"]) >= parts, "streamed parts are missing at the end"
            shown = [part["image_file"]["file_id"] for part in data["content"][: len(images)]]
            assert shown == images
            for index, text in streamed.items():
                part = data["content"][index]
                whole = part["text"]["value"] if part["type"] == "text" else part["refusal"]
                assert whole == text, "the deltas are not the message"
                if part["type"] == "text":
                    self._check_annotations(data["id"], part["text"])

    def _hear_annotations(self, id: str, text: dict[str, Any], *, is_first: bool) -> None:
        """A list of its own in the first delta, and an index in each (SPEC 9.4, 4)."""
        assert not is_first or text["annotations"] == [], "the first delta has annotations"
        notes = self._notes.setdefault(id, [])
        for note in text.get("annotations", ()):
            assert note.pop("index") == len(notes), "an index was left out"
            assert note["text"] == text["value"], "a marker is not one delta"
            notes.append(note)

    def _check_annotations(self, id: str, text: dict[str, Any]) -> None:
        """The whole message repeats them without index; each is where its text is."""
        assert text["annotations"] == self._notes.get(id, [])
        for note in text["annotations"]:
            assert text["value"][note["start_index"] : note["end_index"]] == note["text"]
