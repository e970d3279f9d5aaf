"""Errors: the SDK's exception classes, with the original's exact words."""

from typing import Any

import openai

from tests.acceptance.client.scene import WEATHER, Scene, call, refused, rehearse, same, scenario

# Path, body → message, code and param of the 400.
INVALID: list[tuple[str, dict[str, Any], str, str, str]] = [
    (
        "/assistants",
        {},
        "Missing required parameter: 'model'.",
        "missing_required_parameter",
        "model",
    ),
    (
        "/assistants",
        {"model": "m", "foo": 1},
        "Unknown parameter: 'foo'.",
        "unknown_parameter",
        "foo",
    ),
    (
        "/assistants",
        {"model": "m", "name": "x" * 257},
        "Invalid 'name': string too long. Expected a string with maximum length 256, "
        "but got a string with length 257 instead.",
        "string_above_max_length",
        "name",
    ),
    (
        "/assistants",
        {"model": "m", "tools": "none"},
        "Invalid type for 'tools': expected an array of objects, but got a string instead.",
        "invalid_type",
        "tools",
    ),
    (
        "/assistants",
        {"model": "m", "tools": [WEATHER] * 129},
        "Invalid 'tools': array too long. Expected an array with maximum length 128, "
        "but got an array with length 129 instead.",
        "array_above_max_length",
        "tools",
    ),
    (
        "/assistants",
        {"model": "m", "temperature": 3},
        "Invalid 'temperature': decimal above maximum value. Expected a value <= 2, "
        "but got 3 instead.",
        "decimal_above_max_value",
        "temperature",
    ),
    (
        "/assistants",
        {"model": "m", "metadata": {"k": 1}},
        "Invalid type for 'metadata.k': expected a string, but got an integer instead.",
        "invalid_type",
        "metadata.k",
    ),
    (
        "/threads/THREAD/messages",
        {"role": "system", "content": "x"},
        "Invalid value: 'system'. Supported values are: 'user' and 'assistant'.",
        "invalid_value",
        "role",
    ),
    (
        "/threads/THREAD/runs",
        {},
        "Missing required parameter: 'assistant_id'.",
        "missing_required_parameter",
        "assistant_id",
    ),
    (
        "/threads/THREAD/runs",
        {"assistant_id": "asst_any", "max_completion_tokens": 255},
        "Invalid 'max_completion_tokens': integer below minimum value. Expected a value "
        ">= 256, but got 255 instead.",
        "integer_below_min_value",
        "max_completion_tokens",
    ),
]


@scenario(52, 53, 69, 88)
def unknown_objects_are_not_found(scene: Scene) -> None:
    """404 for what could exist, 400 for what is no such id."""
    beta = scene.client.beta
    with refused(openai.NotFoundError, "No assistant found with id 'asst_unknown'."):
        beta.assistants.retrieve("asst_unknown")
    with refused(openai.NotFoundError, "No thread found with id 'thread_unknown'."):
        beta.threads.messages.create("thread_unknown", role="user", content="Hello")
    thread, other = scene.thread("Hello"), scene.thread("Hello")
    with refused(openai.NotFoundError, "No run found with id 'run_unknown'."):
        beta.threads.runs.retrieve("run_unknown", thread_id=thread.id)
    (message,) = scene.messages(other.id)
    with refused(openai.NotFoundError, f"No message found with id '{message.id}'."):
        beta.threads.messages.retrieve(message.id, thread_id=thread.id)
    wrong = "Invalid 'assistant_id': 'foo'. Expected an ID that begins with 'asst'."
    with refused(openai.BadRequestError, wrong, code="invalid_value", param="assistant_id"):
        beta.assistants.retrieve("foo")
    wrong = "Invalid 'thread_id': 'undefined'. Expected an ID that begins with 'thread'."
    with refused(openai.BadRequestError, wrong, code="invalid_value", param="thread_id"):
        beta.threads.retrieve("undefined")


@scenario(31, 32, 33, 36, 37, 42, 47, 76, 92, 93, 102)
def invalid_requests_are_explained(scene: Scene) -> None:
    """The first violation, its path and its code."""
    thread_id = scene.thread("Hello").id
    for path, body, message, code, param in INVALID:
        with refused(openai.BadRequestError, message, code=code, param=param):
            scene.client.post(path.replace("THREAD", thread_id), body=body, cast_to=object)
    with refused(openai.NotFoundError, "No assistant found with id 'asst_unknown'."):
        scene.client.beta.threads.runs.create(thread_id=thread_id, assistant_id="asst_unknown")


@scenario(7, 8)
def a_wrong_key_is_refused(scene: Scene) -> None:
    """401, with the middle of the key masked."""
    wrong = "sk-wrong-0123456789-wxyz"
    client = openai.OpenAI(base_url=f"{scene.root}/v1", api_key=wrong, max_retries=0)
    try:
        client.beta.assistants.list()
    except openai.AuthenticationError as error:
        same((error.status_code, error.code, error.param), (401, "invalid_api_key", None))
        assert "0123456789" not in str(error), error
        assert "Incorrect API key provided: sk-" in str(error) and "wxyz" in str(error), error
    else:
        raise AssertionError("a wrong key was accepted")


@scenario(20, 21)
def unknown_routes_are_named(scene: Scene) -> None:
    """404 and 405 in the same envelope."""
    with refused(openai.NotFoundError, "Invalid URL (GET /v1/nope)"):
        scene.client.get("/nope", cast_to=object)
    try:
        scene.client.put("/assistants", cast_to=object)
    except openai.APIStatusError as error:
        same(error.status_code, 405)
    else:
        raise AssertionError("PUT was accepted")


@scenario(168, 94)
def a_busy_thread_refuses_a_stream_as_json(scene: Scene) -> None:
    """An error before the first byte is a plain 400."""
    runs = scene.client.beta.threads.runs
    assistant = scene.assistant(tools=[WEATHER])
    thread = scene.thread(rehearse([call("get_weather", city="Oslo")]))
    run = scene.run(thread, assistant)
    message = f"Thread {thread.id} already has an active run {run.id}."
    with refused(openai.BadRequestError, message):
        runs.create(thread_id=thread.id, assistant_id=assistant.id, stream=True)


@scenario(72, 131)
def a_refused_request_leaves_nothing_behind(scene: Scene) -> None:
    """An invalid message means no thread and no run."""
    bad: Any = {"messages": [{"role": "user", "content": ""}]}
    text = (
        "Invalid 'thread.messages[0].content': empty string. Expected a string with minimum "
        "length 1, but got an empty string instead."
    )
    param = "thread.messages[0].content"
    with refused(openai.BadRequestError, text, code="empty_string", param=param):
        scene.client.beta.threads.create_and_run(assistant_id=scene.assistant().id, thread=bad)
    same(scene.calls(), [])
