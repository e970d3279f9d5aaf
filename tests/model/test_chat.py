"""The Chat Completions client against a real server: streams, their oddities, and closing."""

import asyncio
import json
from typing import Any

import pytest

from tests.model.asking import ask, calls, fail, finish, refusal, stream, text, until_left, whole
from tests.model.conftest import Rehearsal, Serve
from understudy.model import ModelError
from understudy.model.chat import ChatModel

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


async def test_half_a_character_is_replaced(model: ChatModel, rehearsal: Rehearsal) -> None:
    chunk = 'data: {"choices": [{"delta": {"content": "TEXT"}}]}\n\n'
    pieces = ("One ", "\\ud83d", "\\ude00", " two")
    rehearsal.script({"raw_bytes": "".join(chunk.replace("TEXT", piece) for piece in pieces)})
    assert text(await stream(model)) == "One \ufffd\ufffd two"


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


# Waiting.


async def test_nothing_is_sent_before_it_may_be(serve: Serve) -> None:
    may, heard = asyncio.Event(), asyncio.Event()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        heard.set()
        writer.write(
            b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"
            b'data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\n'
        )

    async def read() -> str:
        lists = [one async for one in model.stream(ask(), call_id="call_1", when=may.wait)]
        return text(whole(chunk for one in lists for chunk in one))

    async with serve(speak) as url:
        model = ChatModel(url)
        reading = asyncio.create_task(read())
        await asyncio.sleep(0.1)
        assert not heard.is_set()
        may.set()
        assert await reading == "Hi"
        await model.close()


async def test_what_may_not_be_sent_at_all_is_not(serve: Serve) -> None:
    sent = asyncio.get_running_loop().create_future()

    async def speak(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        sent.set_result(await reader.read())

    async def never() -> None:
        raise RuntimeError("It may not.")

    async with serve(speak) as url:
        model = ChatModel(url)
        with pytest.raises(ModelError):
            await anext(model.stream(ask(), call_id="call_1", when=never))
        assert await sent == b""
        await model.close()


# Closing.


async def test_closing_the_stream_closes_the_socket(model: ChatModel, rehearsal: Rehearsal) -> None:
    rehearsal.script({"text": "Hi"}, {"silence": True})
    reader = model.stream(ask(), call_id="call_1")
    assert text(whole(await anext(reader))) == "Hi"
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
