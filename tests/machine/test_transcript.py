"""Assistant, thread and steps → a chat request."""

from typing import Any

import pytest
from msgspec import UNSET
from msgspec.structs import replace

from tests.machine.play import FUNCTIONS, NOW, Play
from understudy.machine import transcript
from understudy.machine.message import message_private, text_content, user_message
from understudy.machine.private import Call, MessagePrivate, RunPrivate, StepPrivate
from understudy.machine.toolbox import Searchable
from understudy.machine.transcript import Done, Files, Stored, Window
from understudy.wire.chat import ChatImageUrl, ChatMessage, ChatText
from understudy.wire.messages import (
    Attachment,
    CreateMessage,
    ImageFile,
    ImageFileContent,
    ImageUrl,
    ImageUrlContent,
    Message,
    MessageIncompleteDetails,
    RefusalContent,
    TextInput,
)
from understudy.wire.runs import Run, TruncationStrategy
from understudy.wire.steps import (
    CodeInterpreterCall,
    CodeInterpreterInput,
    FileSearchCall,
    FileSearchCallDetails,
    FunctionCallDetails,
    LogsOutput,
    MessageCreation,
    MessageCreationDetails,
    SearchResult,
    Step,
    StepFunctionCall,
    StepToolCall,
    ToolCallsDetails,
)
from understudy.wire.tools import (
    ChooseFileSearch,
    ChooseFunction,
    FileSearchTool,
    FunctionDefinition,
    FunctionName,
    FunctionTool,
    JsonSchema,
    JsonSchemaFormat,
    Tool,
)


def run_of(tools: list[Tool] = FUNCTIONS, **changes: Any) -> Run:
    return replace(Play.start(tools).state.run, **changes)


def said(text: str, *, id: str = "msg_1", role: Any = "user") -> Message:
    return user_message(
        CreateMessage(role=role, content=text), id=id, thread_id="thread_1", now=NOW
    )


def stored(id: str, tokens: int) -> Stored:
    return Stored(said(id, id=id), MessagePrivate(tokens=tokens))


def request(run: Run, history: list[Message], **more: Any) -> Any:
    defaults: dict[str, Any] = {"own": [], "files": Files(), "model": "m"}
    return transcript.chat_request(run, RunPrivate(), history=history, **{**defaults, **more})


def step(turn: int, details: Any, calls: list[Call] | None = None, **changes: Any) -> Done:
    one = Step(
        id=f"step_{turn}",
        created_at=NOW,
        run_id="run_1",
        assistant_id="asst_1",
        thread_id="thread_1",
        type="tool_calls",
        status="completed",
        cancelled_at=None,
        completed_at=NOW,
        expires_at=None,
        expired_at=None,
        failed_at=None,
        last_error=None,
        step_details=details,
        usage=None,
        metadata={},
    )
    return Done(replace(one, **changes), StepPrivate(turn=turn, calls=calls or []))


# The window.


def take(window: Window, messages: list[Stored]) -> None:
    """Reads a thread (given oldest first) the way the engine does."""
    for one in reversed(messages):
        if not window.add(one):
            break
    if window.wants_first:
        window.set_first(messages[0])


def ids(window: Window) -> list[str]:
    return [message.id for message in window.messages()]


def test_everything_fits() -> None:
    window = Window(budget=100, last=None)
    take(window, [stored("a", 10), stored("b", 10)])
    assert ids(window) == ["a", "b"]
    assert window.budget == 80


@pytest.mark.assertion(106)
def test_auto_drops_the_middle_and_keeps_the_first_and_the_newest() -> None:
    window = Window(budget=35, last=None)
    take(window, [stored(name, 10) for name in "abcdef"])
    assert ids(window) == ["a", "e", "f"]


def test_a_large_first_message_does_not_push_out_the_newest() -> None:
    window = Window(budget=25, last=None)
    take(window, [stored("a", 1_000), stored("b", 10), stored("c", 10)])
    assert ids(window) == ["c"]


def test_the_first_message_is_not_taken_twice() -> None:
    window = Window(budget=25, last=None)
    window.add(stored("a", 10))
    window.set_first(stored("a", 10))
    assert ids(window) == ["a"]


def test_last_messages_is_a_bound_and_keeps_no_first() -> None:
    window = Window(budget=1_000, last=2)
    take(window, [stored(name, 10) for name in "abcd"])
    assert ids(window) == ["c", "d"]


def test_nothing_fits() -> None:
    window = Window(budget=5, last=None)
    take(window, [stored("a", 10)])
    assert window.is_empty and ids(window) == []


# Budgets.


def test_the_prompt_budget_is_the_smaller_of_window_and_what_is_left() -> None:
    private = RunPrivate(fixed_tokens=100, prompt_tokens=200)
    wide = transcript.prompt_budget(run_of(), private, 50, 10_000)
    assert wide == 10_000 - 1_024 - 100 - 50 - 4
    narrow = transcript.prompt_budget(run_of(max_prompt_tokens=500), private, 50, 10_000)
    assert narrow == 500 - 200 - 100 - 50 - 4


def test_the_completion_cap_is_kept_free() -> None:
    budget = transcript.prompt_budget(run_of(max_completion_tokens=3_000), RunPrivate(), 0, 10_000)
    assert budget == 7_000 - 4
    small = transcript.prompt_budget(run_of(max_completion_tokens=9_000), RunPrivate(), 0, 10_000)
    assert small == 5_000 - 4


@pytest.mark.parametrize(
    ("changes", "spent", "budget"),
    [
        ({}, RunPrivate(prompt_tokens=10**9), None),
        ({"max_completion_tokens": 300}, RunPrivate(completion_tokens=299), None),
        (
            {"max_completion_tokens": 300},
            RunPrivate(completion_tokens=300),
            "max_completion_tokens",
        ),
        ({"max_prompt_tokens": 300}, RunPrivate(prompt_tokens=300), "max_prompt_tokens"),
        ({"max_prompt_tokens": 300}, RunPrivate(prompt_tokens=1), None),
    ],
)
def test_a_spent_budget_ends_the_run(
    changes: dict[str, Any], spent: RunPrivate, budget: str | None
) -> None:
    assert transcript.exhausted(run_of(**changes), spent) == budget


def test_last_messages_is_the_runs_own() -> None:
    assert transcript.last_messages(run_of()) is None
    strategy = TruncationStrategy(type="last_messages", last_messages=3)
    assert transcript.last_messages(run_of(truncation_strategy=strategy)) == 3


# What enters.


def test_unfinished_text_of_a_failed_turn_never_enters() -> None:
    whole = said("hi")
    assert transcript.enters(whole)
    assert not transcript.enters(replace(whole, status="in_progress"))
    failed = replace(
        whole,
        status="incomplete",
        incomplete_details=MessageIncompleteDetails(reason="run_failed"),
    )
    assert not transcript.enters(failed)
    cancelled = replace(
        whole,
        status="incomplete",
        incomplete_details=MessageIncompleteDetails(reason="run_cancelled"),
    )
    assert transcript.enters(cancelled)
    assert not transcript.enters(replace(whole, content=[]))


def test_instructions_come_first_then_the_thread() -> None:
    made = request(run_of(), [said("one"), said("two", role="assistant")])
    assert [(one.role, one.content) for one in made.messages] == [
        ("system", "Be brief."),
        ("user", "one"),
        ("assistant", "two"),
    ]
    assert request(run_of(instructions=""), [said("one")]).messages[0].role == "user"


def test_images_go_to_the_provider_as_they_are() -> None:
    parts = [
        TextInput(text="what is this"),
        ImageUrlContent(image_url=ImageUrl(url="https://example.com/a.png")),
        ImageFileContent(image_file=ImageFile(file_id="file-1")),
        ImageFileContent(image_file=ImageFile(file_id="file-2")),
    ]
    body = CreateMessage(role="user", content=parts)  # type: ignore[arg-type]
    message = user_message(body, id="msg_1", thread_id="thread_1", now=NOW)
    files = Files(images={"file-1": "data:image/png;base64,AA=="})
    content = request(run_of(), [message], files=files).messages[1].content
    assert [type(part) for part in content] == [ChatText, ChatImageUrl, ChatImageUrl, ChatText]
    assert content[1].image_url.url == "https://example.com/a.png"
    assert content[2].image_url.url == "data:image/png;base64,AA=="
    assert "file-2" in content[3].text
    assert message_private(message).tokens > 3_000


def test_an_assistants_image_and_refusal_become_words() -> None:
    image = ImageUrlContent(image_url=ImageUrl(url="https://example.com/a.png"))
    message = replace(said("x", role="assistant"), content=[image, RefusalContent(refusal="No.")])
    assert request(run_of(), [message]).messages[1].content == "[image]\nNo."
    assert message_private(message).tokens > 1_000


def test_attached_files_are_named() -> None:
    message = replace(
        said("see files"),
        attachments=[Attachment(file_id="file-1"), Attachment(file_id="file-2")],
    )
    made = request(run_of(), [message], files=Files(names={"file-1": "a.csv"}))
    assert made.messages[1].content == "see files\n[Attached files: a.csv (file-1), file-2]"
    assert message_private(message).tokens > message_private(said("see files")).tokens


# What the run did itself.


CALL = Call(id="call_1", name="get_weather", arguments='{"a":1}', extra={"google": {"s": "x"}})


def function_step(output: str | None) -> StepFunctionCall:
    details = FunctionCallDetails(name="get_weather", arguments='{"a":1}', output=output)
    return StepFunctionCall(id="call_1", function=details)


def test_a_turn_is_rebuilt_from_its_steps() -> None:
    text = step(
        1,
        MessageCreationDetails(message_creation=MessageCreation(message_id="msg_9")),
        type="message_creation",
    )
    calls = step(1, ToolCallsDetails(tool_calls=[function_step("sunny")]), [CALL])
    message = replace(said("Let me look.", id="msg_9"), content=[text_content("Let me look.")])
    own = transcript.own_turns({"msg_9": message}, [text, calls])
    assert [(one.role, one.content) for one in own] == [
        ("assistant", "Let me look."),
        ("tool", "sunny"),
    ]
    chat_calls = own[0].tool_calls
    assert chat_calls is not UNSET
    assert chat_calls[0].extra_content == {"google": {"s": "x"}}
    assert own[1].tool_call_id == chat_calls[0].id == "call_1"
    assert transcript.own_tokens(own, [text, calls]) > 8


def test_every_call_has_an_answer() -> None:
    calls = [
        Call(id="c1", name="code_interpreter", arguments='{"code":"1"}'),
        Call(id="c2", name="code_interpreter", arguments='{"code":"2"}'),
        Call(id="c3", name="file_search", arguments="{}"),
        Call(id="c4", name="get_weather", arguments="{}"),
    ]
    logs = CodeInterpreterInput(input="1", outputs=[LogsOutput(logs="4\n")])
    silent = CodeInterpreterInput(input="2", outputs=[])
    found = FileSearchCallDetails(
        results=[SearchResult(file_id="file-1", file_name="a.md", score=0.5)]
    )
    records: list[StepToolCall] = [
        CodeInterpreterCall(id="c1", code_interpreter=logs),
        CodeInterpreterCall(id="c2", code_interpreter=silent),
        FileSearchCall(id="c3", file_search=found),
        StepFunctionCall(id="c4", function=FunctionCallDetails(name="get_weather", output=None)),
    ]
    own = transcript.own_turns({}, [step(1, ToolCallsDetails(tool_calls=records), calls)])
    answers = [one.content for one in own[1:]]
    assert answers[0] == "4\n"
    assert answers[1] == "(no output)"
    assert "a.md" in str(answers[2])
    assert answers[3] == ""


def test_steps_that_were_cut_leave_nothing_behind() -> None:
    cut = step(1, ToolCallsDetails(tool_calls=[function_step(None)]), [CALL], status="cancelled")
    assert transcript.own_turns({}, [cut]) == []
    empty = step(2, MessageCreationDetails(message_creation=MessageCreation(message_id="gone")))
    assert transcript.own_turns({}, [empty]) == []


# Tools and formats.


def test_tool_choice_none_offers_no_tools() -> None:
    made = request(run_of(tool_choice="none"), [said("x")])
    assert made.tools is UNSET and made.tool_choice is UNSET


def test_a_forced_choice_holds_for_the_first_turn_only() -> None:
    run = run_of(tool_choice=ChooseFunction(function=FunctionName(name="get_time")))
    first = request(run, [said("x")])
    assert first.tool_choice == {"type": "function", "function": {"name": "get_time"}}
    later = transcript.chat_request(
        run, RunPrivate(turn=1), history=[], own=[], files=Files(), model="m"
    )
    assert later.tool_choice is UNSET and later.tools is not UNSET
    assert request(run_of(tool_choice="required"), []).tool_choice == "required"


def test_built_in_tools_get_names_that_no_function_has() -> None:
    clash: list[Tool] = [
        FunctionTool(function=FunctionDefinition(name="file_search", description=None)),
        FileSearchTool(),
    ]
    run = run_of(clash, tool_choice=ChooseFileSearch())
    made = request(run, [], files=Files(searchable=Searchable()))
    assert [tool.function.name for tool in made.tools] == ["file_search", "builtin_file_search"]
    assert made.tool_choice["function"]["name"] == "builtin_file_search"


def test_file_search_is_offered_only_where_there_is_something_to_search() -> None:
    run = run_of([*FUNCTIONS, FileSearchTool()], tool_choice=ChooseFileSearch())
    without = request(run, [])
    assert [tool.function.name for tool in without.tools] == ["get_weather", "get_time"]
    assert without.tool_choice is UNSET, "what is not offered cannot be forced"
    made = request(run, [], files=Files(searchable=Searchable(["a.md"], 1)))
    assert [tool.function.name for tool in made.tools][2:] == ["file_search"]
    assert made.tools[2].function.description.endswith("The files: a.md.")
    assert made.tool_choice == {"type": "function", "function": {"name": "file_search"}}


def test_defaults_are_left_to_the_provider() -> None:
    plain = request(run_of(), [])
    assert (plain.temperature, plain.top_p, plain.parallel_tool_calls) == (UNSET, UNSET, UNSET)
    assert plain.stream_options == {"include_usage": True}
    run = run_of(
        temperature=0.2,
        top_p=0.5,
        parallel_tool_calls=False,
        reasoning_effort="low",
        max_completion_tokens=300,
    )
    made = request(run, [])
    assert (made.temperature, made.top_p, made.parallel_tool_calls) == (0.2, 0.5, False)
    assert (made.reasoning_effort, made.max_completion_tokens) == ("low", 300)


def test_the_completion_cap_is_what_is_left() -> None:
    made = transcript.chat_request(
        run_of(max_completion_tokens=300),
        RunPrivate(completion_tokens=100),
        history=[],
        own=[ChatMessage(role="assistant", content="x")],
        files=Files(),
        model="m",
    )
    assert made.max_completion_tokens == 200


def test_json_modes_are_passed_on() -> None:
    schema = JsonSchemaFormat(json_schema=JsonSchema(name="x", schema={"type": "object"}))
    made = request(run_of(response_format=schema), [])
    assert made.response_format == {
        "type": "json_schema",
        "json_schema": {"name": "x", "schema": {"type": "object"}},
    }
    assert request(run_of(response_format="auto"), []).response_format is UNSET
