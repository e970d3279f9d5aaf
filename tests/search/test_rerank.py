"""The reranker, asked over a real socket: scores, logits, and answers that are none."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from aiohttp import web

from understudy import limits
from understudy.search import EmbedderError
from understudy.search.rerank import Reranker


@dataclass
class Server:
    """A reranker of this process: what it got, and what it says to it."""

    url: str = ""
    status: int = 200
    answer: Any = None  # Any JSON, or bytes as they are.
    pieces: int = 1
    is_silent: bool = False
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The answer, in so many pieces."""
        self.bodies.append(msgspec.json.decode(await request.read()))
        self.keys.append(request.headers.get("Authorization"))
        while self.is_silent:
            await asyncio.sleep(0.01)
            self.is_silent = request.transport is not None
        data = self.answer
        if not isinstance(data, bytes):
            data = msgspec.json.encode(data)
        response = web.StreamResponse(status=self.status)
        await response.prepare(request)
        step = max(1, -(-len(data) // self.pieces))
        for start in range(0, len(data), step):
            await response.write(data[start : start + step])
        await response.write_eof()
        return response


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A reranker that listens."""
    server = Server()
    application = web.Application()
    application.router.add_post("/v1/rerank", server.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield server
    await runner.cleanup()


@pytest.fixture
async def reranker(server: Server) -> AsyncIterator[Reranker]:
    """One that asks it."""
    reranker = Reranker(server.url + "/", model="m", key="sk-key")
    yield reranker
    await reranker.close()


def results(*scores: float, name: str = "relevance_score") -> dict[str, Any]:
    """An answer, best first as servers give it."""
    found = [{"index": index, name: score} for index, score in enumerate(scores)]
    return {"id": "x", "results": sorted(found, key=lambda one: -one[name]), "meta": {}}


async def fail(reranker: Reranker, count: int = 2) -> EmbedderError:
    """The error that a question ends with."""
    with pytest.raises(EmbedderError) as caught:
        await reranker.scores("q", ["text"] * count)
    return caught.value


async def test_scores_come_in_the_order_of_the_texts(server: Server, reranker: Reranker) -> None:
    server.answer = results(0.25, 0.75, 0.5)
    assert await reranker.scores("which?", ["a", "b", "c"]) == [0.25, 0.75, 0.5]
    [body] = server.bodies
    assert body == {"query": "which?", "documents": ["a", "b", "c"], "top_n": 3, "model": "m"}
    assert server.keys == ["Bearer sk-key"]


async def test_without_a_model_or_key_none_is_named(server: Server) -> None:
    reranker = Reranker(server.url, model=None, key=None)
    server.answer = results(0.5)
    assert await reranker.scores("q", ["a"]) == [0.5]
    assert "model" not in server.bodies[0]
    assert server.keys == [None]
    await reranker.close()


async def test_a_bare_list_with_plain_scores_is_read(server: Server, reranker: Reranker) -> None:
    server.answer = results(0.5, 0.25, name="score")["results"]
    assert await reranker.scores("q", ["a", "b"]) == [0.5, 0.25]


async def test_logits_become_scores_in_the_same_order(server: Server, reranker: Reranker) -> None:
    server.answer = results(-4.5, 7.25, 0.0, -900.0, 900.0)
    scores = await reranker.scores("q", ["text"] * 5)
    assert all(0.0 <= score <= 1.0 for score in scores)
    assert sorted(range(5), key=lambda n: scores[n]) == [3, 0, 2, 1, 4]
    assert scores[2] == 0.5


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (results(0.5), "each text one score"),
        (results(0.5, 0.5, 0.5), "each text one score"),
        ({"results": [{"index": 0, "score": 1}, {"index": 0, "score": 1}]}, "each text one score"),
        ({"results": [{"index": 0, "score": 1}, {"index": 2, "score": 1}]}, "each text one score"),
        ({"results": [{"index": 0}, {"index": 1}]}, "no score"),
        ({"results": []}, "each text one score"),
        (b"<html>", "cannot be read"),
        (b"", "cannot be read"),
        ({"data": []}, "cannot be read"),
        (b'{"results":[{"index":0,"score":1e999},{"index":1,"score":1}]}', ""),
    ],
)
async def test_an_answer_that_is_none_is_an_error(
    server: Server, reranker: Reranker, answer: object, words: str
) -> None:
    server.answer = answer
    error = await fail(reranker)
    assert words in error.message
    assert not error.retryable


@pytest.mark.parametrize(
    ("status", "retryable"), [(400, False), (401, False), (429, True), (500, True), (503, True)]
)
async def test_a_status_says_whether_to_ask_again(
    server: Server, reranker: Reranker, status: int, retryable: bool
) -> None:
    server.status, server.answer = status, {"error": "sk-key is secret"}
    error = await fail(reranker)
    assert (error.retryable, str(status) in error.message) == (retryable, True)
    assert "secret" not in error.message
    server.status, server.answer = 200, results(0.5, 0.25)
    assert await reranker.scores("q", ["a", "b"]) == [0.5, 0.25]


async def test_a_reranker_that_cannot_be_reached_may_be_asked_again(server: Server) -> None:
    reranker = Reranker("http://127.0.0.1:9", model=None, key=None)
    error = await fail(reranker)
    assert error.retryable
    assert "could not be reached" in error.message
    await reranker.close()


async def test_a_reranker_that_is_silent_is_given_up(
    server: Server, reranker: Reranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RERANK_S", 0.05)
    server.is_silent = True
    error = await fail(reranker)
    assert error.retryable
    assert "could not be reached" in error.message


async def test_a_long_answer_in_many_packets_is_read_whole(
    server: Server, reranker: Reranker
) -> None:
    server.answer = results(*[n / 3000 for n in range(2000)])
    server.pieces = 40
    assert len(await reranker.scores("q", ["text"] * 2000)) == 2000
