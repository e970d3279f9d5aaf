"""Failures of a provider, over a real socket and as recorded texts: what a run says of them."""

import asyncio
import json
from typing import Any

import pytest

from tests.model.asking import SORRY, ask, fail, refusal, text, until_left, whole
from tests.model.conftest import Rehearsal, Serve
from understudy.model import ModelError, api_error
from understudy.model.chat import ChatModel
from understudy.model.failures import from_answer, read_error, retry_after_s
from understudy.wire.chat import ChatChunk


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
    found: list[ChatChunk] = []
    async for chunks in model.stream(ask(), call_id="call_1"):
        found += whole(chunks)
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


# Recorded texts.


def said(message: str) -> str:
    """A body in OpenAI's envelope."""
    return json.dumps({"error": {"message": message}})


def answered(status: int, body: str, headers: dict[str, str] | None = None) -> ModelError:
    """The error for an answer."""
    return from_answer(status, headers or {}, body.encode(), secrets=(), now=0.0)


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (8192, "This model's maximum context length is 8192 tokens. However, your messages"),
        (
            4096,
            "'max_tokens' is too large: 3000. This model's maximum context length is 4096 tokens",
        ),
        (4096, "The decoder prompt (length 5000) is longer than the maximum model length of 4096."),
        (4096, "the request exceeds the available context size (4096 tokens), try increasing it"),
        (32768, "too large for model with 32768 maximum context length"),
        (200000, "prompt is too long: 210000 tokens > 200000 maximum"),
        (
            1048576,
            "The input token count (1200000) exceeds the maximum number of tokens allowed "
            "(1048576).",
        ),
        (131072, "This model's maximum prompt length is 131072 but the request contains 200000"),
        (4097, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097. Given"),
        (4096, "However, the model is loaded with context length of only 4096 tokens"),
        (128000, "This model's maximum context length is 128,000 tokens."),
    ],
)
def test_context_windows_are_read(window: int, message: str) -> None:
    error = answered(400, said(message))
    assert (error.code, error.context_tokens) == ("invalid_prompt", window)
    assert (
        error.message == f"The prompt is longer than the model's context window ({window} tokens)."
    )


def test_llama_cpp_names_its_window_in_a_field() -> None:
    body = '{"error": {"code": 400, "type": "exceed_context_size_error", "n_ctx": 4096}}'
    assert answered(400, body).context_tokens == 4096


def test_a_full_context_without_a_number_is_still_one() -> None:
    body = '{"error": {"message": "Please reduce the length of the messages or completion."}}'
    error = answered(400, body)
    assert (error.code, error.context_tokens) == ("invalid_prompt", None)
    assert error.message == "The prompt is longer than the model's context window."


def test_too_many_answer_tokens_are_not_a_full_context() -> None:
    message = "max_tokens is too large: 100000. This model supports at most 4096 completion tokens"
    assert answered(400, said(message)).context_tokens is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"error": {"message": "said", "code": null}}', "said"),
        ('[{"error": {"code": 400, "message": "said", "status": "INVALID_ARGUMENT"}}]', "said"),
        ('{"error": "said"}', "said"),
        ('{"object": "error", "message": "said", "code": 40303}', "said"),
        ('{"detail": "said"}', "said"),
        ('{"detail": [{"loc": ["body", "top_p"], "msg": "said"}]}', "said: top_p"),
        ('{"object": "error", "message": {"detail": [{"loc": ["x"], "msg": "said"}]}}', "said: x"),
        (
            '{"error": {"message": "E", "metadata": {"raw": "{\\"error\\": \\"said\\"}"}}}',
            "E: said",
        ),
        ('{"errors": [{"message": "said"}]}', "said"),
    ],
)
def test_error_bodies_of_every_shape_are_read(body: str, message: str) -> None:
    found = read_error(body.encode())
    assert found is not None
    assert found.message == message


@pytest.mark.parametrize("body", ["", "<html>", "[]", "{}", "null", "7", '{"choices": []}', "{"])
def test_other_bodies_are_no_errors(body: str) -> None:
    assert read_error(body.encode()) is None


@pytest.mark.parametrize(
    ("headers", "text", "wait"),
    [
        ({"retry-after": "7"}, "", 7.0),
        ({"retry-after": "0.5"}, "", 0.5),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, "", 40.0),
        ({"retry-after-ms": "90"}, "", 0.09),
        ({"retry-after": "nan"}, "", None),
        ({"retry-after": "soon"}, "", None),
        ({"retry-after": "-3"}, "", 0.0),
        ({}, "Please try again in 20ms. Visit", 0.02),
        ({}, "Please try again in 1m2.5s.", 62.5),
        ({}, "Please retry in 30.5s.", 30.5),
        ({}, "Please try again in 500 milliseconds.", 0.5),
        ({}, "Please retry after 1 minute 5 seconds.", 65.0),
        ({}, "Try again later.", None),
    ],
)
def test_the_waiting_time_is_read(headers: dict[str, str], text: str, wait: float | None) -> None:
    assert retry_after_s(headers, text, now=60.0) == (wait if wait is None else pytest.approx(wait))


@pytest.mark.parametrize(
    ("status", "is_retryable"),
    [(400, False), (401, False), (404, False)]
    + [(status, True) for status in (408, 409, 429, 500, 502, 503, 504, 529)],
)
def test_which_statuses_are_tried_again(status: int, is_retryable: bool) -> None:
    assert answered(status, "").retryable is is_retryable


def test_a_provider_may_forbid_a_retry() -> None:
    assert not answered(503, "", {"x-should-retry": "false"}).retryable


def test_a_request_over_the_rate_limit_by_itself_is_not_tried_again() -> None:
    error = answered(
        429, '{"error": {"message": "Request too large for m: Limit 10, Requested 20"}}'
    )
    assert (error.code, error.retryable) == ("rate_limit_exceeded", False)


def test_clients_see_statuses_they_can_act_on() -> None:
    statuses = {
        status: api_error(answered(status, "")).status for status in (400, 401, 422, 429, 500)
    }
    assert statuses == {400: 400, 401: 502, 422: 400, 429: 429, 500: 502}
