"""How a tool call that was not streamed live is told: its deltas, and its record in the step."""

from msgspec import UNSET
from msgspec.structs import replace

from understudy.machine.code_input import code_of
from understudy.machine.private import Call
from understudy.wire.base import given
from understudy.wire.steps import (
    CodeInterpreterCall,
    CodeInterpreterInput,
    CodeOutput,
    FileSearchCall,
    FileSearchCallDetails,
    FunctionCallDetails,
    ImageOutput,
    LogsOutput,
    Step,
    StepFunctionCall,
    StepToolCall,
    ToolCallsDetails,
)


def introduction(
    calls: list[Call], types: dict[str, str]
) -> tuple[list[StepToolCall], list[StepToolCall]]:
    """The deltas that introduce the calls, and the calls as the step stores them.

    `types` maps the name of a built-in tool to its type; any other name is a function.
    The first delta of a call holds id, name and empty texts, the next the whole input
    (SPEC 9.3 B, D, E; LibreChat reads the typed object of the first one).
    """
    deltas: list[StepToolCall] = []
    records: list[StepToolCall] = []
    for index, call in enumerate(calls):
        match types.get(call.name):
            case "code_interpreter":
                deltas += _code_deltas(index, call)
                records.append(code_record(call))
            case "file_search":
                details = FileSearchCallDetails()
                deltas.append(FileSearchCall(index=index, id=call.id, file_search=details))
                records.append(FileSearchCall(id=call.id, file_search=details))
            case _:
                deltas += _function_deltas(index, call)
                records.append(function_record(call))
    return deltas, records


def function_record(call: Call) -> StepFunctionCall:
    """A function call that waits for its output."""
    function = FunctionCallDetails(name=call.name, arguments=call.arguments, output=None)
    return StepFunctionCall(id=call.id, function=function)


def code_record(call: Call) -> CodeInterpreterCall:
    """A code call that has not run yet."""
    details = CodeInterpreterInput(input=code_of(call.arguments), outputs=[])
    return CodeInterpreterCall(id=call.id, code_interpreter=details)


def first_function_delta(index: int, call_id: str, name: str) -> StepFunctionCall:
    """What introduces a function call."""
    function = FunctionCallDetails(name=name, arguments="", output=None)
    return StepFunctionCall(index=index, id=call_id, function=function)


def next_function_delta(index: int, arguments: str) -> StepFunctionCall:
    """What adds to a function call's arguments; id and name are never repeated."""
    return StepFunctionCall(index=index, function=FunctionCallDetails(arguments=arguments))


def first_code_delta(index: int, call_id: str) -> CodeInterpreterCall:
    """What introduces a code call; `outputs` is there from the start (SPEC 9.4, 6)."""
    details = CodeInterpreterInput(input="", outputs=[])
    return CodeInterpreterCall(index=index, id=call_id, code_interpreter=details)


def next_code_delta(index: int, code: str) -> CodeInterpreterCall:
    """What adds to the code."""
    return CodeInterpreterCall(index=index, code_interpreter=CodeInterpreterInput(input=code))


def logs_delta(logs: str) -> CodeInterpreterCall:
    """What adds to the logs of a code call, which are its first output."""
    return _output_delta(LogsOutput(index=0, logs=logs))


def output_deltas(call: StepToolCall, shown_logs: str) -> list[StepToolCall]:
    """What tells of a code call's outputs, as far as they were not shown while it ran."""
    outputs = call.code_interpreter.outputs if isinstance(call, CodeInterpreterCall) else UNSET
    deltas: list[StepToolCall] = []
    for index, output in enumerate(given(outputs, [])):
        match output:
            case LogsOutput():
                assert index == 0 and output.logs.startswith(shown_logs), "logs only grow"
                rest = output.logs[len(shown_logs) :]
                deltas += [logs_delta(rest)] if rest else []
            case ImageOutput():
                deltas.append(_output_delta(replace(output, index=index)))
    return deltas


def images_of(call: StepToolCall) -> list[str]:
    """The ids of the images that a code call made."""
    outputs = call.code_interpreter.outputs if isinstance(call, CodeInterpreterCall) else UNSET
    return [one.image.file_id for one in given(outputs, []) if isinstance(one, ImageOutput)]


def _output_delta(output: CodeOutput) -> CodeInterpreterCall:
    return CodeInterpreterCall(index=0, code_interpreter=CodeInterpreterInput(outputs=[output]))


def without_content(step: Step) -> Step:
    """The step as clients see it who did not ask for the text of search results."""
    details = step.step_details
    if not isinstance(details, ToolCallsDetails):
        return step
    calls = [_without_content(call) for call in details.tool_calls]
    return replace(step, step_details=ToolCallsDetails(tool_calls=calls))


def _without_content(call: StepToolCall) -> StepToolCall:
    if not isinstance(call, FileSearchCall) or call.file_search.results is UNSET:
        return call
    results = [replace(result, content=UNSET) for result in call.file_search.results]
    return replace(call, file_search=replace(call.file_search, results=results))


def _function_deltas(index: int, call: Call) -> list[StepToolCall]:
    deltas: list[StepToolCall] = [first_function_delta(index, call.id, call.name)]
    if call.arguments:
        deltas.append(next_function_delta(index, call.arguments))
    return deltas


def _code_deltas(index: int, call: Call) -> list[StepToolCall]:
    first, code = first_code_delta(index, call.id), code_of(call.arguments)
    return [first, next_code_delta(index, code)] if code else [first]
