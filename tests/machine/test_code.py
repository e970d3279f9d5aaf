"""A code_interpreter call in the machine: what clients see of it, and what it leaves to the next
message."""

from typing import Any

import msgspec
import pytest

from tests.machine.accumulator import accepts
from tests.machine.play import ALL_TOOLS, FUNCTIONS, Play, Result
from understudy import limits
from understudy.machine import toolbox
from understudy.machine.code_output import answered, read_by_model
from understudy.machine.happenings import CancelAsked, RunTool
from understudy.machine.private import Call, SandboxFile
from understudy.wire.chat import ChunkDelta, ChunkFunction, ChunkToolCall
from understudy.wire.messages import Message
from understudy.wire.steps import CodeInterpreterCall, Step, ToolCallsDetails
from understudy.wire.tools import CodeInterpreterTool, FunctionDefinition, FunctionTool, Tool

CODE: list[Tool] = [CodeInterpreterTool()]
CSV = SandboxFile(path="x.csv", file_id="file-x")


def fragments(*pieces: str, name: str = "code_interpreter") -> list[ChunkDelta]:
    """A call whose arguments come in these pieces."""
    first = ChunkToolCall(index=0, id="a", function=ChunkFunction(name=name, arguments=""))
    rest = [ChunkToolCall(index=0, function=ChunkFunction(arguments=piece)) for piece in pieces]
    return [ChunkDelta(tool_calls=[one]) for one in (first, *rest)]


def call(name: str, arguments: str = "{}") -> ChunkDelta:
    """A call in one piece."""
    function = ChunkFunction(name=name, arguments=arguments)
    return ChunkDelta(tool_calls=[ChunkToolCall(function=function)])


def text(piece: str) -> ChunkDelta:
    """A piece of text."""
    return ChunkDelta(content=piece)


def playing(tools: list[Tool]) -> Play:
    """A run that a worker has."""
    play = Play.start(tools)
    play.claim()
    return play


def deltas(play: Play, what: str) -> list[Any]:
    """The deltas of steps or messages, as clients get them."""
    return [
        msgspec.to_builtins(event.data)["delta"]
        for event in play.events
        if event.name == f"thread.{what}.delta"
    ]


def code_deltas(play: Play) -> list[Any]:
    """The tool calls in step deltas."""
    return [delta["step_details"]["tool_calls"][0] for delta in deltas(play, "run.step")]


def messages(play: Play) -> list[Message]:
    """The messages as stored, oldest first."""
    return [
        msgspec.json.decode(body, type=tuple[Message, object])[0]
        for id, body in play.stored.items()
        if id.startswith("message_")
    ]


def inputs(play: Play) -> list[str]:
    """The code of every call as its step has it."""
    return [
        one.code_interpreter.input
        for step in play.steps
        if isinstance(step.step_details, ToolCallsDetails)
        for one in step.step_details.tool_calls
        if isinstance(one, CodeInterpreterCall) and isinstance(one.code_interpreter.input, str)
    ]


@pytest.mark.assertion(153)
def test_a_code_call_is_told_as_the_original_tells_it() -> None:
    play = playing(CODE)
    play.hear(fragments('{"code":"im', "port x\\n", '4"}'))
    play.end_turn("tool_calls")
    play.tool(Result(logs="4\n5\n", shown="4\n", images=("file-i", "file-j")))
    kind = {"index": 0, "type": "code_interpreter"}
    first, *rest = code_deltas(play)
    assert first == {
        **kind,
        "id": first["id"],
        "code_interpreter": {"input": "", "outputs": []},
    }
    assert [one.pop("type") for one in rest] == ["code_interpreter"] * len(rest)
    assert [one["code_interpreter"] for one in rest] == [
        {"input": "im"},
        {"input": "port x\n"},
        {"input": "4"},
        {"outputs": [{"index": 0, "type": "logs", "logs": "4\n"}]},
        {"outputs": [{"index": 0, "type": "logs", "logs": "5\n"}]},
        {"outputs": [{"index": 1, "type": "image", "image": {"file_id": "file-i"}}]},
        {"outputs": [{"index": 2, "type": "image", "image": {"file_id": "file-j"}}]},
    ]
    step_names = [name for name in play.names if ".step." in name and "delta" not in name]
    assert step_names == [
        f"thread.run.step.{name}" for name in ("created", "in_progress", "completed")
    ]
    accepts(play.events)


@pytest.mark.assertion(144)
def test_silent_code_has_no_logs() -> None:
    play = playing(CODE)
    play.speak([call("code_interpreter", '{"code":"x = 1"}')], "tool_calls")
    play.tool(Result(logs=""))
    (step,) = play.steps
    details = msgspec.to_builtins(step.step_details)["tool_calls"][0]["code_interpreter"]
    assert details == {"input": "x = 1", "outputs": []}
    assert not any("outputs" in one["code_interpreter"] for one in code_deltas(play)[1:])


def test_an_image_without_logs_is_the_first_output() -> None:
    play = playing(CODE)
    play.speak([call("code_interpreter", '{"code":"x"}')], "tool_calls")
    play.tool(Result(logs="", images=("file-i",)))
    (output,) = code_deltas(play)[-1]["code_interpreter"]["outputs"]
    assert output == {"index": 0, "type": "image", "image": {"file_id": "file-i"}}
    accepts(play.events)


@pytest.mark.parametrize(
    "arguments",
    ['{"other":1,"code":"print(1)"}', "print(1)", r'{"code":"a\ud83d', '{"code":""}', ""],
)
def test_what_clients_watched_is_what_runs(arguments: str) -> None:
    play = playing(CODE)
    play.speak(fragments(*arguments), "tool_calls")
    shown = "".join(one["code_interpreter"].get("input", "") for one in code_deltas(play))
    assert [shown] == inputs(play)
    play.tool()
    accepts(play.events)


def test_code_streams_before_functions_and_searches_of_its_turn() -> None:
    play = playing(ALL_TOOLS)
    play.hear(fragments('{"code":"1'))
    assert play.names[-2:] == ["thread.run.step.delta"] * 2, "it is seen while it is written"
    other = playing(ALL_TOOLS)
    other.speak([*fragments('{"code":"1"}'), call("get_time"), call("file_search")], "tool_calls")
    other.tool()
    assert isinstance(other.next, RunTool) and other.next.call.name == "file_search"
    other.tool()
    assert other.state.run.status == "requires_action"
    other.submit()
    other.claim()
    other.speak([text("Done.")])
    assert other.names[-1] == "thread.run.completed"
    accepts(other.events)


def test_code_after_a_function_is_introduced_whole() -> None:
    play = playing(ALL_TOOLS)
    play.hear([call("get_time"), call("code_interpreter", '{"code":"1"}')])
    assert deltas(play, "run.step") == []
    play.end_turn("tool_calls")
    assert [one["code_interpreter"]["input"] for one in code_deltas(play)] == ["", "1"]
    play.tool()
    assert play.state.run.status == "requires_action"
    accepts(play.events)


def test_a_function_of_the_tools_name_is_the_clients() -> None:
    tools = [*CODE, FunctionTool(function=FunctionDefinition(name="code_interpreter"))]
    play = playing(tools)
    play.speak(fragments('{"code":"1"}'), "tool_calls")
    assert play.state.run.status == "requires_action"
    other = playing(tools)
    other.hear(fragments('{"code":"1"}', name="builtin_code_interpreter"))
    assert other.names[-1] == "thread.run.step.delta"


@pytest.mark.parametrize("how", ["length", "cancel", "reclaim"])
def test_a_call_that_is_cut_closes_its_step(how: str) -> None:
    play = playing(CODE)
    play.hear(fragments('{"code":"while Tr'))
    match how:
        case "length":
            play.end_turn("length")
            assert play.state.run.status == "incomplete"
        case "cancel":
            play.stop(CancelAsked)
            assert play.state.run.status == "cancelled"
        case "reclaim":
            play.reclaim()
            play.speak([text("Again.")])
            assert play.state.run.status == "completed"
    first = play.steps[0]
    assert first.status == ("failed" if how == "reclaim" else "cancelled")
    accepts(play.events)


def test_a_cut_after_the_call_was_whole_runs_it() -> None:
    play = playing(CODE)
    play.speak(fragments('{"code":"1"}'), "length")
    assert isinstance(play.next, RunTool)


# What code leaves to the next message.


@pytest.mark.assertion(206)
def test_images_come_first_in_the_next_message() -> None:
    play = playing(CODE)
    play.speak([call("code_interpreter")], "tool_calls")
    play.tool(Result(images=("file-i",)))
    play.speak([call("code_interpreter")], "tool_calls")
    play.tool(Result(images=("file-j",)))
    play.speak([text("Two "), text("charts.")])
    parts = [delta["content"][0] for delta in deltas(play, "message")]
    assert parts == [
        {"index": 0, "type": "image_file", "image_file": {"file_id": "file-i", "detail": "auto"}},
        {"index": 1, "type": "image_file", "image_file": {"file_id": "file-j", "detail": "auto"}},
        {"index": 2, "type": "text", "text": {"value": "Two ", "annotations": []}},
        {"index": 2, "type": "text", "text": {"value": "charts."}},
    ]
    (message,) = messages(play)
    assert [msgspec.to_builtins(part)["type"] for part in message.content] == [
        "image_file",
        "image_file",
        "text",
    ]
    accepts(play.events)


def test_a_model_that_says_nothing_shows_its_images() -> None:
    play = playing(CODE)
    play.speak([call("code_interpreter")], "tool_calls")
    play.tool(Result(images=("file-i",)))
    play.speak([])
    (message,) = messages(play)
    image, empty = msgspec.to_builtins(message.content)
    assert image["image_file"]["file_id"] == "file-i"
    assert empty["text"] == {"value": "", "annotations": []}
    accepts(play.events)


def test_a_message_takes_what_was_made_before_it_and_no_later_one_does() -> None:
    play = playing(CODE)
    play.speak([call("code_interpreter")], "tool_calls")
    older = SandboxFile(path="x.csv", file_id="file-old")
    play.tool(Result(files=(older, SandboxFile(path="y.csv", file_id="file-y"))))
    play.speak([call("code_interpreter")], "tool_calls")
    play.tool(Result(images=("file-i",), files=(CSV,)))
    play.speak([text("Look: "), call("code_interpreter")], "tool_calls")
    play.tool(Result())
    play.speak([text("Done.")])
    first, second = messages(play)
    assert msgspec.to_builtins(first.attachments) == [
        {"file_id": id, "tools": [{"type": "code_interpreter"}]} for id in ("file-y", "file-x")
    ]
    assert [msgspec.to_builtins(part)["type"] for part in first.content] == ["image_file", "text"]
    assert second.attachments == [] and len(second.content) == 1
    created = [event.data for event in play.events if event.name == "thread.message.created"]
    assert isinstance(created[0], Message)
    assert created[0].attachments == first.attachments and created[0].content == []
    accepts(play.events)


def test_a_message_that_died_half_way_is_written_again_with_its_images() -> None:
    play = playing(CODE)
    play.speak([call("code_interpreter")], "tool_calls")
    play.tool(Result(images=("file-i",), files=(CSV,)))
    play.hear([text("Half a")])
    play.reclaim()
    play.speak([text("Whole.")])
    cut, whole = messages(play)
    assert cut.status == "incomplete" and whole.status == "completed"
    for message in (cut, whole):
        assert msgspec.to_builtins(message.content[0])["image_file"]["file_id"] == "file-i"
        assert [one.file_id for one in message.attachments] == ["file-x"]
    assert play.state.private.drawn == [] and play.state.private.written == []
    accepts(play.events)


def test_links_are_annotated_in_a_run_that_can_run_code() -> None:
    play = playing(CODE)
    play.speak([text("Here: [a](sandbox:/mnt/da"), text("ta/a.csv). "), text("Bye.")])
    (message,) = messages(play)
    (part,) = msgspec.to_builtins(message.content)
    (note,) = part["text"]["annotations"]
    assert note == {
        "type": "file_path",
        "text": "sandbox:/mnt/data/a.csv",
        "start_index": 10,
        "end_index": 33,
        "file_path": {"file_id": "file-a"},
    }
    accepts(play.events)
    plain = playing(FUNCTIONS)
    plain.speak([text("sandbox:/mnt/data/a.csv")])
    assert msgspec.to_builtins(messages(plain)[0].content)[0]["text"]["annotations"] == []


def test_the_files_of_code_are_kept_with_its_step() -> None:
    play = playing(CODE)
    play.speak([call("code_interpreter")], "tool_calls")
    play.tool(Result(files=(CSV,)))
    bodies = [body for id, body in play.stored.items() if id.startswith("step_")]
    (_, private) = msgspec.json.decode(bodies[0], type=tuple[Step, dict[str, Any]])
    assert private["files"] == [{"path": "x.csv", "file_id": "file-x"}]
    assert private["turn"] == 1


# What the model reads.


def read(logs: str, images: int = 0) -> str:
    call = Call(id="c", name="code_interpreter", arguments="{}")
    return read_by_model(answered(call, logs, [f"file-{n}" for n in range(images)]))


def test_the_model_reads_logs_and_hears_of_images() -> None:
    assert read("") == "(no output)"
    assert read("4\n") == "4\n"
    assert read("", 1) == "[1 image shown to the user.]"
    assert read("4", 2) == "4\n[2 images shown to the user.]"


def test_long_logs_lose_their_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CODE_LOGS_READ_CHARS", 8)
    assert read("0123456789abcdef") == (
        "012345\n[... 8 characters left out; print less to see all ...]\nef"
    )
    assert read("01234567") == "01234567"


def test_the_tool_says_which_files_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def said(*paths: str) -> str:
        (tool,) = toolbox.offered(CODE, searchable=None, in_sandbox=paths)
        return str(tool.function.description)

    assert "The files" not in said()
    assert said('a "b".csv', "out/c.csv").endswith(
        r' The files: "/mnt/data/a \"b\".csv", "/mnt/data/out/c.csv".'
    )
    monkeypatch.setattr(limits, "CODE_FILE_NAMES", 1)
    assert said("a", "b", "c").endswith(' The files: "/mnt/data/a", and 2 more.')
