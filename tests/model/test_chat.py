"""The Chat Completions client against real servers: streams, quirks, failures, time-outs."""

import asyncio
import json
from typing import Any

import pytest

from tests.model.conftest import Rehearsal, Serve
from understudy.model import ModelError
from understudy.model.chat import ChatModel
from understudy.wire.chat import (
    ChatChunk,
    ChatFunction,
    ChatMessage,
    ChatRequest,
    ChatTool,
    ChunkToolCall,
)

SORRY = "Sorry, something went wrong. "


def ask(text: str = "Hello", **fields: Any) -> ChatRequest:
    """A request with one user message."""
    return ChatRequest(
        model=fields.pop("model", "m"), messages=[ChatMessage(role="user", content=text)], **fields
    )


async def stream(model: ChatModel, request: ChatRequest | None = None) -> list[ChatChunk]:
    """Every chunk of an answer."""
    lists = [chunks async for chunks in model.stream(request or ask(), call_id="call_1")]
    return [chunk for chunks in lists for chunk in chunks]


async def fail(model: ChatModel, request: ChatRequest | None = None) -> ModelError:
    """The error that an answer ends with."""
    with pytest.raises(ModelError) as caught:
        await stream(model, request)
    return caught.value


def text(chunks: list[ChatChunk]) -> str:
    """The content of an answer."""
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices or ()]
    return "".join(delta.content or "" for delta in deltas if delta)


def calls(chunks: list[ChatChunk]) -> list[ChunkToolCall]:
    """The pieces of tool calls."""
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices or ()]
    return [call for delta in deltas if delta for call in delta.tool_calls or ()]


def finish(chunks: list[ChatChunk]) -> list[str]:
    """The finish reasons."""
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices or ()]
    return [reason for reason in reasons if reason]


def refusal(
    status: int, message: str = "", headers: dict[str, str] | None = None, **error: object
) -> dict[str, Any]:
    """A step that answers with an error."""
    body = {"error": {"message": message, **error}}
    return {"status": status, "headers": headers or {}, "body": body}


TOOL = ChatTool(function=ChatFunction(name="get_weather", parameters={}, strict=True))


# A proper stream.


async def test_text_finish_and_usage_arrive(model: ChatModel, rehearsal: Rehearsal) -> None:
    rehearsal.script({"text": "Well, hello there."})
    chunks = await stream(model)
    assert text(chunks) == "Well, hello there."
    assert finish(chunks) == ["stop"]
    usages = [chunk.usage for chunk in chunks if chunk.usage]
    assert [(u.prompt_tokens, u.completion_tokens) for u in usages] == [(2, 3)]


async def test_a_call_sends_its_id_the_hop_and_the_key(
    model: ChatModel, rehearsal: Rehearsal
) -> None:
    await stream(model)
    [call] = rehearsal.calls()
    assert (call["call_id"], call["idempotency_key"]) == ("call_1", "call_1")
    assert (call["hop"], call["has_key"]) == ("boot_1", True)
    assert call["body"]["stream"] is True
    assert call["body"]["stream_options"] == {"include_usage": True}


async def test_one_stream_is_one_request(model: ChatModel, rehearsal: Rehearsal) -> None:
    rehearsal.script(refusal(503))
    await fail(model)
    assert len(rehearsal.calls()) == 1


async def test_connections_are_kept(serve: Serve) -> None:
    connections = 0
    body = b'data: {"choices":[{"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length))
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            writer.write(f"{len(body):x}\r\n".encode() + body + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0.02)  # The end of the body comes later than [DONE].
            writer.write(b"0\r\n\r\n")

    async with serve(speak) as url:
        model = ChatModel(url)
        await stream(model)
        await asyncio.sleep(0.1)
        await stream(model)
        await model.close()
    assert connections == 1


async def test_a_large_request_is_sent_whole(model: ChatModel, rehearsal: Rehearsal) -> None:
    await stream(model, ask("x" * 3_000_000))
    [call] = rehearsal.calls()
    assert call["body_bytes"] > 3_000_000


# What providers do to tool calls: passed on as it is, machine/deltas.py makes sense of it.


async def test_every_call_may_come_with_index_0(model: ChatModel, rehearsal: Rehearsal) -> None:
    rehearsal.script(
        {"call": {"name": "a", "id": "1", "index": 0, "pieces": 1}},
        {"call": {"name": "b", "id": "2", "index": 0, "pieces": 1}},
    )
    found = calls(await stream(model))
    assert [(call.index, call.id) for call in found] == [(0, "1"), (0, "2")]


async def test_calls_may_lack_an_index_and_carry_extra_content(
    model: ChatModel, rehearsal: Rehearsal
) -> None:
    extra = {"google": {"thought_signature": "abc"}}
    rehearsal.script(
        {"call": {"name": "a", "id": "1", "index": None, "pieces": 1, "extra_content": extra}}
    )
    [call] = calls(await stream(model))
    assert (call.index, call.id, call.extra_content) == (None, "1", extra)


async def test_calls_may_lack_an_id(model: ChatModel, rehearsal: Rehearsal) -> None:
    rehearsal.script({"call": {"name": "a", "id": None, "index": 0, "arguments": {"x": 1}}})
    found = calls(await stream(model))
    assert {call.id for call in found} == {None}
    arguments = [call.function.arguments or "" for call in found if call.function]
    assert json.loads("".join(arguments)) == {"x": 1}


async def test_the_first_delta_may_have_a_wrong_index(
    model: ChatModel, rehearsal: Rehearsal
) -> None:
    pieces: list[dict[str, Any]] = [
        {"index": 1, "id": "1", "function": {"name": "a", "arguments": ""}},
        {"index": 0, "function": {"arguments": "{}"}},
    ]
    rehearsal.script(
        *({"raw_chunk": {"choices": [{"delta": {"tool_calls": [piece]}}]}} for piece in pieces)
    )
    found = calls(await stream(model))
    assert [(call.index, call.id) for call in found] == [(1, "1"), (0, None)]


async def test_calls_may_finish_with_stop(model: ChatModel, rehearsal: Rehearsal) -> None:
    rehearsal.script({"call": {"name": "a"}}, {"finish": "stop"})
    chunks = await stream(model)
    assert finish(chunks) == ["stop"]
    assert calls(chunks)


async def test_arguments_may_be_an_object_and_an_index_text(
    model: ChatModel, rehearsal: Rehearsal
) -> None:
    call = {"index": "0", "id": 7, "function": {"name": "a", "arguments": {"x": 1}}}
    rehearsal.script({"raw_chunk": {"choices": [{"delta": {"tool_calls": call}}]}})
    [found] = calls(await stream(model))
    assert (found.index, found.id) == (0, "7")
    assert found.function is not None
    assert found.function.arguments == '{"x":1}'


async def test_content_may_be_a_list_of_parts(model: ChatModel, rehearsal: Rehearsal) -> None:
    content = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "Hi"},
    ]
    rehearsal.script({"raw_chunk": {"choices": [{"delta": {"content": content}}]}})
    assert text(await stream(model)) == "Hi"


async def test_reasoning_is_no_content(model: ChatModel, rehearsal: Rehearsal) -> None:
    rehearsal.script(
        {"reasoning": "Let me think."},
        {"raw_chunk": {"choices": [{"delta": {"reasoning": "Hm.", "content": None}}]}},
        {"text": "Four."},
    )
    assert text(await stream(model)) == "Four."


async def test_usage_may_be_missing(model: ChatModel, rehearsal: Rehearsal) -> None:
    rehearsal.script({"text": "Hi"}, {"usage": None})
    assert [chunk.usage for chunk in await stream(model) if chunk.usage] == []


async def test_done_may_be_missing_after_a_finish_reason(
    model: ChatModel, rehearsal: Rehearsal
) -> None:
    rehearsal.script({"text": "Hi"}, {"done": False})
    assert text(await stream(model)) == "Hi"


async def test_the_finish_reason_may_be_missing_before_done(
    model: ChatModel, rehearsal: Rehearsal
) -> None:
    rehearsal.script({"text": "Hi"}, {"finish": None})
    assert text(await stream(model)) == "Hi"


async def test_a_provider_that_hangs_after_the_finish_reason_is_left(
    model: ChatModel, rehearsal: Rehearsal
) -> None:
    rehearsal.script({"text": "Hi"}, {"finish": "stop"}, {"silence": True})
    assert text(await asyncio.wait_for(stream(model), 3)) == "Hi"


async def test_a_provider_may_ignore_stream(model: ChatModel, rehearsal: Rehearsal) -> None:
    message = {
        "role": "assistant",
        "content": "Hi",
        "tool_calls": [
            {"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}}
            for name in ("a", "b")
        ],
    }
    body = {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    }
    rehearsal.script({"status": 200, "body": body})
    [chunk] = await stream(model)
    assert text([chunk]) == "Hi"
    assert [(call.index, call.id) for call in calls([chunk])] == [(0, "a"), (1, "b")]
    assert finish([chunk]) == ["tool_calls"]
    assert chunk.usage is not None


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
async def test_pieces_of_any_size_make_the_same_chunks(serve: Serve, size: int) -> None:
    body = (
        ': hi\r\n\r\ndata:{"choices":[{"delta":{"content":"Grüße 🌍"}}]}\r\n\r\n'
        'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    ).encode()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\n")
        for start in range(0, len(body), size):
            writer.write(body[start : start + size])
            await writer.drain()
            await asyncio.sleep(0)

    async with serve(speak) as url:
        model = ChatModel(url)
        assert text(await stream(model)) == "Grüße 🌍"
        await model.close()


# Closing.


async def test_closing_the_stream_closes_the_socket(model: ChatModel, rehearsal: Rehearsal) -> None:
    rehearsal.script({"text": "Hi"}, {"silence": True})
    reader = model.stream(ask(), call_id="call_1")
    assert text(await anext(reader)) == "Hi"
    await reader.aclose()
    await until_left(rehearsal)


async def test_cancelling_the_reader_closes_the_socket(
    model: ChatModel, rehearsal: Rehearsal
) -> None:
    rehearsal.script({"silence": True})
    task = asyncio.create_task(stream(model))
    for _ in range(200):
        if rehearsal.calls():
            break
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_left(rehearsal)


async def until_left(rehearsal: Rehearsal) -> None:
    """Wait until the server noticed that we left, a second at most."""
    for _ in range(100):
        if rehearsal.calls()[0]["left_early"]:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the socket is still open")


# Failures.


async def test_a_rate_limit_keeps_the_providers_words(
    model: ChatModel, rehearsal: Rehearsal
) -> None:
    rehearsal.script(
        refusal(
            429, "Rate limit reached in organization org-AbCdEf123456. Please try again in 1.5s."
        )
    )
    error = await fail(model)
    assert error.code == "rate_limit_exceeded"
    assert error.message == (
        "Rate limit reached in organization org-[redacted]. Please try again in 1.5s."
    )
    assert (error.retryable, error.retry_after_s, error.status) == (True, 1.5, 429)


async def test_the_waiting_time_of_headers_wins(model: ChatModel, rehearsal: Rehearsal) -> None:
    rehearsal.script(
        refusal(503, headers={"retry-after": "9", "retry-after-ms": "1250"}),
    )
    error = await fail(model)
    assert (error.retryable, error.retry_after_s) == (True, 1.25)
    assert error.message == SORRY + "The model provider failed with status 503."


async def test_an_empty_account_is_not_tried_again(model: ChatModel, rehearsal: Rehearsal) -> None:
    rehearsal.script(refusal(429, "You exceeded your current quota.", code="insufficient_quota"))
    error = await fail(model)
    assert (error.code, error.retryable) == ("rate_limit_exceeded", False)


async def test_a_refused_prompt_is_an_invalid_prompt(
    model: ChatModel, rehearsal: Rehearsal
) -> None:
    rehearsal.script(refusal(400, "Your prompt was flagged.", code="content_filter"))
    error = await fail(model)
    assert (error.code, error.retryable) == ("invalid_prompt", False)
    assert error.message == "The model provider refused the prompt: Your prompt was flagged."


async def test_a_bad_key_is_our_trouble_and_stays_secret(
    model: ChatModel, rehearsal: Rehearsal
) -> None:
    rehearsal.script(refusal(401, "Incorrect API key: sk-secret-upstream-key"))
    error = await fail(model)
    assert error.message == SORRY + "The model provider refused the server's credentials."
    assert not error.retryable


async def test_a_full_context_names_the_window(model: ChatModel, rehearsal: Rehearsal) -> None:
    rehearsal.script(refusal(400, "This model's maximum context length is 8192 tokens. However"))
    error = await fail(model)
    assert (error.context_tokens, error.retryable, error.learned) == (8192, False, False)


async def test_html_instead_of_a_stream(model: ChatModel, rehearsal: Rehearsal) -> None:
    rehearsal.script({"html": True})
    error = await fail(model)
    assert error.message == SORRY + "The model provider answered with HTML instead of a stream."
    assert not error.retryable


async def test_an_error_in_json_with_a_200(model: ChatModel, rehearsal: Rehearsal) -> None:
    rehearsal.script({"status": 200, "body": {"error": {"message": "slow down", "code": 429}}})
    error = await fail(model)
    assert (error.code, error.message) == ("rate_limit_exceeded", "slow down")
    assert error.retryable


@pytest.mark.parametrize(
    "chunk",
    [
        {"error": {"message": "The model crashed.", "code": 500}},
        {"error": "The model crashed."},
        {"object": "error", "message": "The model crashed.", "code": 500},
        {"choices": [{"delta": {"content": ""}, "finish_reason": "error"}], "error": {"code": 502}},
    ],
)
async def test_an_error_in_the_stream(
    model: ChatModel, rehearsal: Rehearsal, chunk: dict[str, Any]
) -> None:
    rehearsal.script({"text": "Hi"}, {"delay_ms": 50}, {"raw_chunk": chunk})
    error = await fail(model)
    assert (error.code, error.retryable) == ("server_error", False)
    assert "provider failed with status 50" in error.message


async def test_a_cut_after_the_first_chunk_is_final(model: ChatModel, rehearsal: Rehearsal) -> None:
    rehearsal.script({"text": "Hi"}, {"delay_ms": 50}, {"drop": True})
    error = await fail(model)
    assert "lost in the middle of the answer" in error.message
    assert not error.retryable


async def test_a_cut_before_the_first_chunk_may_be_tried_again(
    model: ChatModel, rehearsal: Rehearsal
) -> None:
    rehearsal.script({"drop": True})
    assert (await fail(model)).retryable


async def test_an_early_end_without_a_finish_reason_is_a_cut(
    model: ChatModel, rehearsal: Rehearsal
) -> None:
    rehearsal.script({"text": "Hi"}, {"eof": True})
    error = await fail(model)
    assert "lost in the middle" in error.message


async def test_a_stream_with_nothing_in_it_fails(model: ChatModel, rehearsal: Rehearsal) -> None:
    rehearsal.script({"raw_bytes": "data: [DONE]\n\n"}, {"eof": True})
    assert "empty stream" in (await fail(model)).message


async def test_a_stream_that_is_no_json_fails(model: ChatModel, rehearsal: Rehearsal) -> None:
    rehearsal.script({"raw_bytes": "data: {oops\n\n"})
    assert "cannot be read" in (await fail(model)).message


async def test_silence_ends_the_stream(rehearsal: Rehearsal) -> None:
    model = ChatModel(rehearsal.url, silence_s=0.2)
    rehearsal.script({"text": "Hi"}, {"delay_ms": 100}, {"text": "you"}, {"silence": True})
    error = await fail(model)
    assert error.message == SORRY + "The model provider sent nothing for 0.2 seconds."
    assert not error.retryable
    await until_left(rehearsal)
    await model.close()


async def test_silence_before_the_answer_ends_it_too(rehearsal: Rehearsal) -> None:
    model = ChatModel(rehearsal.url, silence_s=0.1)
    rehearsal.script({"silence": True})
    assert "sent nothing" in (await fail(model)).message
    await model.close()


async def test_a_slow_consumer_is_no_silent_provider(rehearsal: Rehearsal) -> None:
    model = ChatModel(rehearsal.url, silence_s=0.1)
    rehearsal.script({"text": "one"}, {"delay_ms": 50}, {"text": "two"})
    found = []
    async for chunks in model.stream(ask(), call_id="call_1"):
        found += chunks
        await asyncio.sleep(0.15)
    assert text(found) == "onetwo"
    await model.close()


async def test_an_endless_answer_is_ended(rehearsal: Rehearsal) -> None:
    model = ChatModel(rehearsal.url, total_s=0.3)
    rehearsal.script({"words": 1_000, "every_ms": 20})
    assert "took over 0.3 seconds" in (await fail(model)).message
    await model.close()


async def test_no_provider_at_all(serve: Serve) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None: ...

    async with serve(speak) as url:
        pass
    model = ChatModel(url)
    error = await fail(model)
    assert error.message == SORRY + "The model provider could not be reached."
    assert error.retryable
    await model.close()


async def test_a_connection_closed_without_an_answer(serve: Serve) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with serve(speak) as url:
        model = ChatModel(url)
        error = await fail(model)
        assert (error.retryable, error.code) == (True, "server_error")
        await model.close()


async def test_something_that_is_not_http(serve: Serve) -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await writer.drain()

    async with serve(speak) as url:
        model = ChatModel(url)
        assert not (await fail(model)).retryable
        await model.close()


async def test_a_redirect_is_not_followed(model: ChatModel, rehearsal: Rehearsal) -> None:
    rehearsal.script(refusal(302, headers={"location": "http://127.0.0.1:9/"}))
    assert "redirect" in (await fail(model)).message


# Learning.


async def test_the_token_parameter_is_learnt(model: ChatModel, rehearsal: Rehearsal) -> None:
    rehearsal.script({"refuse": "max_tokens"}, {"text": "Hi"})
    error = await fail(model, ask(max_completion_tokens=9))
    assert (error.learned, error.retryable, error.status) == (True, True, 400)
    await stream(model, ask(max_completion_tokens=9))
    first, second = (call["body"] for call in rehearsal.calls())
    assert (first["max_tokens"], second["max_completion_tokens"]) == (9, 9)
    assert "max_tokens" not in second


async def test_lessons_are_per_model(model: ChatModel, rehearsal: Rehearsal) -> None:
    rehearsal.script({"refuse": "temperature"}, {"text": "Hi"}, model="a")
    assert (await fail(model, ask(temperature=0.5, model="a"))).learned
    await stream(model, ask(temperature=0.5, model="a"))
    await stream(model, ask(temperature=0.5, model="b"))
    bodies = [call["body"] for call in rehearsal.calls()]
    assert ["temperature" in body for body in bodies] == [True, False, True]


async def test_stream_options_are_learnt(model: ChatModel, rehearsal: Rehearsal) -> None:
    rehearsal.script({"refuse": "stream_options"}, {"text": "Hi"})
    assert (await fail(model)).learned
    assert text(await stream(model)) == "Hi"


async def test_a_response_format_is_never_dropped(model: ChatModel, rehearsal: Rehearsal) -> None:
    rehearsal.script({"refuse": "response_format"}, {"text": "Hi"})
    for _ in range(2):
        error = await fail(model, ask(response_format={"type": "json_object"}))
        assert (error.learned, error.retryable) == (False, False)
        assert "'response_format' is not supported" in error.message


async def test_strict_tools_are_learnt(model: ChatModel, rehearsal: Rehearsal) -> None:
    message = "Invalid JSON payload received. Unknown name \"strict\" at 'tools[0].function'"
    rehearsal.script({**refusal(400, message), "times": 1}, {"text": "Hi"})
    assert (await fail(model, ask(tools=[TOOL]))).learned
    await stream(model, ask(tools=[TOOL]))
    functions = [call["body"]["tools"][0]["function"] for call in rehearsal.calls()]
    assert ["strict" in function for function in functions] == [True, False]
