"""One model turn: which call a fragment belongs to, what streams live, and what it ends in."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.machine.play import ALL_TOOLS, FUNCTIONS, NOW, Play, chunk
from understudy import limits
from understudy.engine.frames import Row
from understudy.machine.annotations import Annotations
from understudy.machine.calls import TooMuch
from understudy.machine.citations import Citations
from understudy.machine.deltas import Pieces, Said, Turn
from understudy.machine.happenings import (
    CallsBegan,
    Happening,
    ModelSpoke,
    TextBegan,
    TextEnded,
)
from understudy.machine.message import text_content
from understudy.wire.chat import (
    ChatChunk,
    ChatUsage,
    Chunk,
    ChunkDelta,
    ChunkFunction,
    ChunkToolCall,
)
from understudy.wire.events import Event
from understudy.wire.messages import MessageDelta, RefusalContent, TextContent
from understudy.wire.steps import StepDelta, StepFunctionCall, ToolCallsDetails
from understudy.wire.tools import Tool


def turn(tools: list[Tool] = FUNCTIONS, *, parallel: bool = True) -> Turn:
    play = Play.start(tools, parallel=parallel)
    return Turn(play.state.run, prompt_tokens=7, new_id=play.new_id)


def call(
    name: str | None = None,
    arguments: str | None = None,
    *,
    id: str | None = None,
    index: int | None = None,
    extra: dict[str, object] | None = None,
) -> ChatChunk:
    fragment = ChunkToolCall(
        index=index,
        id=id,
        function=ChunkFunction(name=name, arguments=arguments),
        extra_content=extra,
    )
    return chunk(ChunkDelta(tool_calls=[fragment]))


def text(piece: str) -> ChatChunk:
    return chunk(ChunkDelta(content=piece))


def result(chunks: list[ChatChunk], tools: list[Tool] = FUNCTIONS) -> ModelSpoke:
    one = turn(tools)
    for item in chunks:
        one.feed(item, NOW)
    one.finish(NOW)
    return one.spoke(NOW, "step_spare")


def made(chunks: list[ChatChunk]) -> list[tuple[str, str]]:
    return [(one.name, one.arguments) for one in result(chunks).calls]


# The four rules of LIBS section 1, and what providers make of them.


def test_a_seen_id_goes_to_its_call() -> None:
    chunks = [
        call("get_weather", "", id="a", index=0),
        call("get_time", "", id="b", index=1),
        call(None, '{"x":1}', id="a", index=0),
    ]
    assert made(chunks) == [("get_weather", '{"x":1}'), ("get_time", "{}")]


def test_a_new_id_on_a_used_index_is_a_new_call() -> None:
    """Ollama says index 0 for every parallel call (ollama#15457)."""
    chunks = [
        call("get_weather", '{"city":"Oslo"}', id="a", index=0),
        call("get_time", "{}", id="b", index=0),
    ]
    assert made(chunks) == [("get_weather", '{"city":"Oslo"}'), ("get_time", "{}")]


def test_one_id_for_all_calls_does_not_make_them_one() -> None:
    chunks = [
        call("get_weather", '{"city":"Oslo"}', id="a", index=0),
        call("get_time", "{}", id="a", index=1),
    ]
    assert made(chunks) == [("get_weather", '{"city":"Oslo"}'), ("get_time", "{}")]


def test_a_name_that_is_repeated_does_not_split_the_call() -> None:
    chunks = [
        call("get_weather", '{"a"', id="a", index=0),
        call("get_weather", ":1}", id="a", index=0),
    ]
    assert made(chunks) == [("get_weather", '{"a":1}')]


def test_an_index_without_id_is_the_call_at_that_index() -> None:
    chunks = [
        call("get_weather", "", index=0),
        call("get_time", "", index=1),
        call(None, "{}", index=0),
        call(None, "[]", index=1),
    ]
    assert made(chunks) == [("get_weather", "{}"), ("get_time", "[]")]


def test_neither_id_nor_index_is_the_call_being_streamed() -> None:
    chunks = [call("get_weather", '{"a"'), call(None, ":1}")]
    assert made(chunks) == [("get_weather", '{"a":1}')]


def test_a_name_without_id_or_index_is_a_new_call() -> None:
    """Gemini sends every call whole in its own chunk, with what must go back."""
    chunks = [
        call("get_weather", "{}", extra={"google": {"thought_signature": "s1"}}),
        call("get_time", "{}", extra={"google": {"thought_signature": "s2"}}),
    ]
    calls = result(chunks).calls
    assert [one.name for one in calls] == ["get_weather", "get_time"]
    assert [one.extra for one in calls] == [
        {"google": {"thought_signature": "s1"}},
        {"google": {"thought_signature": "s2"}},
    ]


def test_a_wrong_index_on_the_first_delta_does_not_split_the_call() -> None:
    """agno#8880: the first delta says index 1, the next ones 0, and have no id."""
    chunks = [call("get_weather", "", id="a", index=1), call(None, "{}", index=0)]
    assert made(chunks) == [("get_weather", "{}")]


def test_the_wrapper_for_parallel_calls_does_not_leak() -> None:
    arguments = (
        '{"tool_uses":[{"recipient_name":"functions.get_weather","parameters":{"city":"Oslo"}},'
        '{"recipient_name":"functions.get_time","parameters":{}}]}'
    )
    chunks = [call("multi_tool_use.parallel", arguments, id="a", index=0)]
    assert made(chunks) == [("get_weather", '{"city":"Oslo"}'), ("get_time", "{}")]


@pytest.mark.parametrize("arguments", ["", "[]", '{"tool_uses":[1]}', '{"tool_uses":[]}'])
def test_a_broken_wrapper_stays_a_call_that_is_answered_with_an_error(arguments: str) -> None:
    chunks = [call("multi_tool_use.parallel", arguments, id="a", index=0)]
    assert made(chunks) == [("multi_tool_use.parallel", arguments or "{}")]


def test_a_call_without_arguments_has_an_empty_object() -> None:
    assert made([call("f", "", id="a"), call("g", id="b")]) == [("f", "{}"), ("g", "{}")]
    one = turn()
    one.feed(call("get_time", "", id="a"), NOW)
    said = one.finish(NOW)
    assert [arguments for _, _, arguments in deltas(list(said))] == ["{}"]


def test_invalid_arguments_pass_through_unchanged() -> None:
    assert made([call("get_weather", '{"city": Oslo', id="a", index=0)]) == [
        ("get_weather", '{"city": Oslo')
    ]


SPOKEN = [
    chunk(ChunkDelta(content="")),
    text("Let"),
    text(" me"),
    text(" look"),
    chunk(ChunkDelta(refusal="no")),
    text(" up"),
    ChatChunk(usage=ChatUsage(prompt_tokens=1, completion_tokens=2)),
    text("."),
    text("!"),
    call("get_weather", "{}", id="a", index=0),
    text("late"),
    chunk(finish="stop"),
]


WORDS = st.lists(st.sampled_from(["a", " few", " words"]), min_size=1)


@given(st.lists(st.sampled_from(SPOKEN) | WORDS), st.lists(st.integers(1, 9)))
def test_what_comes_together_says_what_it_says_alone(chunks: list[Chunk], sizes: list[int]) -> None:
    alone, together = turn(), turn()
    single = [
        one for item in chunks for one in (map(text, item) if isinstance(item, list) else [item])
    ]
    one_by_one = [said for item in single for said in alone.feed(item, NOW)]
    said: list[Said] = []
    for size in [*sizes, len(chunks) + 1]:
        said += together.hear(chunks[:size], NOW)
        chunks = chunks[size:]
    assert bytes_of(said) == bytes_of(one_by_one)
    assert together.finish(NOW) == alone.finish(NOW)
    assert together.spoke(NOW, "step_spare") == alone.spoke(NOW, "step_spare")


def bytes_of(said: list[Said]) -> list[object]:
    """What clients see of it; happenings as they are."""
    seen: list[object] = []
    row = Row()
    for one in said:
        if isinstance(one, Happening):
            seen.append(one)
        else:
            seen += row.add(one)
    return seen


def test_texts_that_come_together_are_one_thing_to_say() -> None:
    one = turn()
    said = list(one.hear([text("a"), text("b"), text("c"), chunk(finish="stop")], NOW))
    assert shown(list(said)) == ["TextBegan", "thread.message.delta", "Pieces"]
    assert isinstance(said[-1], Pieces) and said[-1].texts == ["b", "c"]


# What streams live.


def shown(said: list[object]) -> list[str]:
    return [one.name if isinstance(one, Event) else type(one).__name__ for one in said]


def test_the_first_text_delta_has_annotations_and_the_next_has_not() -> None:
    one = turn()
    first = one.feed(text("Hel"), NOW)
    assert shown(list(first)) == ["TextBegan", "thread.message.delta"]
    assert isinstance(first[0], TextBegan)
    second = one.feed(text("lo"), NOW)
    assert shown(list(second)) == ["thread.message.delta"]
    assert one.content() == result([text("Hello")]).content


def test_text_is_complete_before_calls_begin() -> None:
    one = turn()
    one.feed(text("Let me look."), NOW)
    said = one.feed(call("get_weather", "{}", id="a", index=0), NOW)
    assert shown(list(said)) == [
        "TextEnded",
        "CallsBegan",
        "thread.run.step.delta",
        "thread.run.step.delta",
    ]
    assert isinstance(said[0], TextEnded) and isinstance(said[1], CallsBegan)


def test_text_after_calls_has_no_place() -> None:
    one = turn()
    one.feed(call("get_weather", "{}", id="a", index=0), NOW)
    assert one.feed(text("late"), NOW) == []


def test_fragments_of_one_call_stay_together_when_the_provider_interleaves() -> None:
    one = turn()
    said: list[object] = []
    for item in (
        call("get_weather", '{"a', id="a", index=0),
        call("get_time", '{"b', id="b", index=1),
        call(None, '":1}', index=0),
        call(None, '":2}', index=1),
    ):
        said += one.feed(item, NOW)
    said += one.finish(NOW)
    assert deltas(said) == [
        (0, "get_weather", ""),
        (0, None, '{"a'),
        (0, None, '":1}'),
        (1, "get_time", ""),
        (1, None, '{"b":2}'),
    ]


def deltas(said: list[object]) -> list[tuple[object, object, object]]:
    """(index, name, arguments) of every function delta."""
    found: list[tuple[object, object, object]] = []
    for one in said:
        if isinstance(one, Event) and isinstance(one.data, StepDelta):
            details = one.data.delta.step_details
            assert isinstance(details, ToolCallsDetails)
            for item in details.tool_calls:
                assert isinstance(item, StepFunctionCall)
                name = item.function.name if isinstance(item.function.name, str) else None
                found.append((item.index, name, item.function.arguments))
    return found


def test_functions_wait_where_a_built_in_tool_could_follow() -> None:
    one = turn(ALL_TOOLS)
    assert one.feed(call("get_weather", "{}", id="a", index=0), NOW) == []


def test_an_unknown_function_is_not_shown() -> None:
    assert turn().feed(call("nonsense", "{}", id="a", index=0), NOW) == []


def test_only_one_call_is_kept_when_parallel_calls_are_off() -> None:
    one = turn(parallel=False)
    one.feed(call("get_weather", "{}", id="a", index=0), NOW)
    one.feed(call("get_time", "{}", id="b", index=1), NOW)
    assert one.finish(NOW) == []
    assert [made.name for made in one.spoke(NOW, "s").calls] == ["get_weather"]


# Citations.

SOURCES = {(4, 0): "file-a", (4, 1): "file-b"}


def citing() -> Turn:
    play = Play.start(ALL_TOOLS)
    annotations = Annotations(Citations(SOURCES), None)
    return Turn(play.state.run, prompt_tokens=7, new_id=play.new_id, annotations=annotations)


def text_deltas(said: list[Said]) -> list[dict[str, Any]]:
    """What clients get of a text, as JSON."""
    found: list[dict[str, Any]] = []
    for one in said:
        if isinstance(one, Event) and isinstance(one.data, MessageDelta):
            found += [part["text"] for part in msgspec.to_builtins(one.data.delta)["content"]]
    return found


def note(start: int, **more: Any) -> dict[str, Any]:
    return {
        **more,
        "type": "file_citation",
        "text": "【4:0†source】",
        "start_index": start,
        "end_index": start + 12,
        "file_citation": {"file_id": "file-a"},
    }


def test_a_marker_is_one_delta_with_its_annotation() -> None:
    one = citing()
    said: list[Said] = []
    for piece in ("It rains.【4", ":0†sou", "rce】", " Again【4:1†", "source】"):
        said += one.feed(text(piece), NOW)
    said += one.finish(NOW)
    first, marker, plain, other = text_deltas(said)
    assert first == {"value": "It rains.", "annotations": []}
    assert marker == {"value": "【4:0†source】", "annotations": [note(9, index=0)]}
    assert plain == {"value": " Again"}
    assert [one["index"] for one in other["annotations"]] == [1]
    (content,) = msgspec.to_builtins(one.content())
    assert content["text"]["value"] == "It rains.【4:0†source】 Again【4:1†source】"
    assert content["text"]["annotations"][0] == note(9)
    assert "index" not in content["text"]["annotations"][1]


def test_a_text_that_starts_with_a_marker_starts_with_an_empty_delta() -> None:
    said = citing().feed(text("【4:0†source】"), NOW)
    assert text_deltas(said) == [
        {"value": "", "annotations": []},
        {"value": "【4:0†source】", "annotations": [note(0, index=0)]},
    ]


def test_what_is_held_back_is_said_before_the_text_ends() -> None:
    one = citing()
    one.feed(text("see 【4:0"), NOW)
    said = one.feed(call("get_weather", "{}", id="a", index=0), NOW)
    assert shown(list(said)) == ["thread.message.delta", "TextEnded"]
    assert text_deltas(said) == [{"value": "【4:0"}]
    other = citing()
    other.feed(text("see 【4:0"), NOW)
    assert text_deltas(other.finish(NOW)) == [{"value": "【4:0"}]


def test_a_message_begins_with_something_to_show() -> None:
    one = citing()
    assert one.feed(text("【9:9†source】"), NOW) == []
    assert one.has_spoken and one.content() == []
    said = one.feed(call("file_search", "{}", id="a", index=0), NOW)
    assert said == [], "a message without text is not opened"
    lone = citing()
    lone.feed(text("【9:9†source】"), NOW)
    assert text_deltas(lone.finish(NOW)) == [{"value": "", "annotations": []}]


def test_a_cut_text_is_what_was_shown() -> None:
    one = citing()
    said = one.feed(text("yes【4:0†source】 and 【4:1†sou"), NOW)
    (content,) = one.content()
    assert isinstance(content, TextContent)
    assert content.text.value == "".join(delta["value"] for delta in text_deltas(said))
    assert content.text.value == "yes【4:0†source】 and "
    assert len(content.text.annotations) == 1


def test_a_run_without_file_search_says_what_the_model_says() -> None:
    written = "see 【4:0†source】 and 【9:9"
    assert result([text(written)]).content == [text_content(written)]


def test_a_refusal_has_no_citations() -> None:
    one = citing()
    one.feed(chunk(ChunkDelta(refusal="I cannot【4:0†source】")), NOW)
    assert one.content() == [RefusalContent(refusal="I cannot【4:0†source】")]


# How a turn ends.


def test_a_model_that_says_nothing_leaves_an_empty_message() -> None:
    one = turn()
    one.feed(chunk(finish="stop"), NOW)
    assert shown(list(one.finish(NOW))) == ["TextBegan", "thread.message.delta"]
    assert [part.text.value for part in one.content() if isinstance(part, TextContent)] == [""]


def test_a_refusal_is_a_part_of_its_own() -> None:
    spoke = result([chunk(ChunkDelta(refusal="I ")), chunk(ChunkDelta(refusal="cannot."))])
    assert spoke.content == [RefusalContent(refusal="I cannot.")]


def test_stop_with_calls_is_a_call_turn() -> None:
    """Gemini says `stop` after tool calls."""
    spoke = result([call("get_weather", "{}", id="a", index=0), chunk(finish="stop")])
    assert [one.name for one in spoke.calls] == ["get_weather"]


def test_length_after_whole_calls_is_a_call_turn() -> None:
    whole = result([call("get_weather", "{}", id="a", index=0), chunk(finish="length")])
    assert whole.finish == "tool_calls"
    cut = result([call("get_weather", '{"ci', id="a", index=0), chunk(finish="length")])
    assert cut.finish == "length"
    nothing = result([call("get_weather", "", id="a", index=0), chunk(finish="length")])
    assert nothing.finish == "length"


def test_usage_is_the_providers_where_it_gives_one() -> None:
    usage = ChatChunk(usage=ChatUsage(prompt_tokens=100, completion_tokens=20))
    spoke = result([text("Hi"), usage])
    assert (spoke.usage.prompt_tokens, spoke.usage.completion_tokens) == (100, 20)
    assert spoke.usage.total_tokens == 120
    assert not spoke.estimated


def test_missing_usage_is_counted_and_marked() -> None:
    spoke = result([text("hello world"), call("get_weather", "{}", id="a", index=0)])
    assert spoke.estimated
    assert spoke.usage.prompt_tokens == 7
    assert spoke.usage.completion_tokens > 2


def test_empty_chunks_say_nothing() -> None:
    one = turn()
    assert one.feed(ChatChunk(), NOW) == []
    assert one.feed(ChatChunk(choices=[]), NOW) == []
    assert one.feed(chunk(), NOW) == []
    assert not one.has_spoken


# Bounds.


def test_a_turn_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MODEL_OUTPUT_CHARS", 10)
    with pytest.raises(TooMuch, match="characters"):
        result([text("12345678901")])
    one, said = turn(), list[Said]()
    with pytest.raises(TooMuch, match="characters"):
        for this in one.hear([text("1234"), text("56"), text("78"), text("90a"), text("b")], NOW):
            said.append(this)
    assert shown(list(said)) == ["TextBegan", "thread.message.delta", "Pieces"]
    assert isinstance(said[-1], Pieces) and said[-1].texts == ["56", "78"]
    monkeypatch.setattr(limits, "MODEL_CALLS", 1)
    with pytest.raises(TooMuch, match="tool calls"):
        result([call("get_weather", id="a"), call("get_time", id="b")])
