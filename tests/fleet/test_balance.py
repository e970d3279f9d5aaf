"""The balancer: each request to the next node, nothing buffered, nothing asked twice."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
import pytest_asyncio
from aiohttp import web

from tests.fleet.balance import Balance, Seen
from tests.ports import free_port

WAIT_S = 10.0
MEGABYTES = 24


class Node:
    """A small server that says who it is."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked = 0
        self.go_on = asyncio.Event()
        self.has_lost_client = asyncio.Event()
        self.url = ""
        self._runner: web.AppRunner | None = None

    async def start(self, port: int = 0) -> None:
        """Listen."""
        app = web.Application()
        app.router.add_route("*", "/v1/who", self._who)
        app.router.add_post("/v1/digest", self._digest)
        app.router.add_post("/v1/refuse", self._refuse)
        app.router.add_get("/v1/events", self._events)
        app.router.add_route("*", "/v1/die", self._die)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def stop(self) -> None:
        """Be gone."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _who(self, request: web.Request) -> web.Response:
        self.asked += 1
        return web.Response(text=self.name, headers={"x-node": self.name})

    async def _digest(self, request: web.Request) -> web.Response:
        digest, size = hashlib.sha256(), 0
        async for piece in request.content.iter_any():
            digest.update(piece)
            size += len(piece)
        return web.json_response({"sha256": digest.hexdigest(), "size": size})

    async def _refuse(self, request: web.Request) -> web.Response:
        return web.Response(status=413, text="too large", headers={"connection": "close"})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(b"data: first\n\n")
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.has_lost_client.set()
            raise
        await answer.write(b"data: second\n\n")
        if request.query.get("then") == "die":
            assert request.transport is not None
            request.transport.abort()
        return answer

    async def _die(self, request: web.Request) -> web.Response:
        self.asked += 1
        assert request.transport is not None
        request.transport.abort()
        return web.Response()


@pytest_asyncio.fixture
async def nodes() -> AsyncIterator[list[Node]]:
    """Three of them."""
    made = [Node(name) for name in "abc"]
    for node in made:
        await node.start()
    yield made
    for node in made:
        node.go_on.set()
        await node.stop()


@pytest.fixture
def balance(nodes: list[Node]) -> Iterator[Balance]:
    """In front of the three."""
    with Balance(node.url for node in nodes) as made:
        yield made


@pytest_asyncio.fixture
async def client(balance: Balance) -> AsyncIterator[httpx2.AsyncClient]:
    """One that has one connection, and keeps it."""
    limits = httpx2.Limits(max_connections=1)
    async with httpx2.AsyncClient(
        base_url=balance.url, timeout=WAIT_S, limits=limits, trust_env=False
    ) as made:
        yield made


async def test_one_connection_is_answered_by_all_nodes_in_turn(
    balance: Balance, client: httpx2.AsyncClient
) -> None:
    """What balancers that deal out connections do not do."""
    answers = [await client.get("/who") for _ in range(7)]
    assert [answer.text for answer in answers] == list("abcabca")
    connections = {id(answer.extensions["network_stream"]) for answer in answers}
    assert len(connections) == 1
    assert [seen.node for seen in balance.seen] == (balance.nodes * 3)[:7]
    assert balance.seen[0] == Seen("GET", "/v1/who", balance.nodes[0], 200)


async def test_an_event_arrives_before_the_answer_ends(
    nodes: list[Node], client: httpx2.AsyncClient
) -> None:
    """The node sends the second event only when the first has been seen."""
    async with asyncio.timeout(WAIT_S), client.stream("GET", "/events") as answer:
        pieces = answer.aiter_raw()
        assert await anext(pieces) == b"data: first\n\n"
        nodes[0].go_on.set()
        assert [piece async for piece in pieces] == [b"data: second\n\n"]


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_bodies_of_any_size_pass_whole(client: httpx2.AsyncClient, is_chunked: bool) -> None:
    """With a length and in chunks, and the connection is good for another request."""
    piece = bytes(range(256)) * 4096
    whole = piece * MEGABYTES

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(MEGABYTES):
            yield piece

    answer = await client.post("/digest", content=pieces() if is_chunked else whole)
    expected = {"sha256": hashlib.sha256(whole).hexdigest(), "size": len(whole)}
    assert answer.json() == expected
    assert (await client.get("/who")).text == "b"


async def test_an_answer_that_comes_before_the_body_is_read(client: httpx2.AsyncClient) -> None:
    """A server refuses what is too large while it is still being sent."""
    answer = await client.post("/refuse", content=bytes(8 * 1024 * 1024))
    assert (answer.status_code, answer.text) == (413, "too large")
    assert (await client.get("/who")).text == "b"


async def test_a_dead_node_is_passed_over(
    nodes: list[Node], balance: Balance, client: httpx2.AsyncClient
) -> None:
    """What could not be asked is asked elsewhere; when it is back, it has its turn again."""
    port = int(nodes[1].url.split(":")[2].split("/")[0])
    await nodes[1].stop()
    assert [(await client.get("/who")).text for _ in range(4)] == list("acca")
    await nodes[1].start(port)
    assert [(await client.get("/who")).text for _ in range(3)] == list("bca")


async def test_when_all_are_dead_the_answer_is_502(balance: Balance) -> None:
    """And not a hang."""
    balance.nodes = [f"http://127.0.0.1:{free_port()}/v1" for _ in range(2)]
    async with httpx2.AsyncClient(base_url=balance.url, trust_env=False) as client:
        answer = await client.post("/who", content=bytes(5 * 1024 * 1024))
        assert answer.status_code == 502
        assert answer.json()["error"]["message"] == "no node can be reached"
        balance.nodes = []
        assert (await client.get("/who")).status_code == 502


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_what_a_node_may_have_got_is_not_asked_again(
    nodes: list[Node], client: httpx2.AsyncClient, method: str
) -> None:
    """It died before it answered: nobody knows what it had done."""
    answer = await client.request(method, "/die")
    assert answer.status_code == 502
    assert [node.asked for node in nodes] == [1, 0, 0]


async def test_a_node_that_dies_in_the_middle_ends_the_answer_in_the_middle(
    nodes: list[Node], client: httpx2.AsyncClient
) -> None:
    """All that it sent arrives, and then no orderly end."""
    nodes[0].go_on.set()
    seen = b""
    with pytest.raises(httpx2.RemoteProtocolError):
        async with client.stream("GET", "/events?then=die") as answer:
            async for piece in answer.aiter_raw():
                seen += piece
    assert seen == b"data: first\n\ndata: second\n\n"


async def test_a_node_notices_that_its_client_has_gone(
    nodes: list[Node], client: httpx2.AsyncClient
) -> None:
    """Also while it has nothing to say."""
    async with client.stream("GET", "/events") as answer:
        assert await anext(answer.aiter_raw()) == b"data: first\n\n"
    await asyncio.wait_for(nodes[0].has_lost_client.wait(), WAIT_S)


async def test_answers_without_a_body_do_not_hold_the_connection(
    client: httpx2.AsyncClient,
) -> None:
    """HEAD has the length of what it does not send."""
    answer = await client.head("/who")
    assert (answer.headers["content-length"], answer.headers["x-node"]) == ("1", "a")
    assert (await client.get("/who")).text == "b"


async def test_who_expects_100_is_told_to_go_on(balance: Balance) -> None:
    """curl asks before it sends a large body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", balance.port)
    writer.write(
        b"POST /v1/digest HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\n"
    )
    async with asyncio.timeout(WAIT_S):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(b"abc")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    writer.close()
    await writer.wait_closed()


async def test_many_clients_at_once_share_the_nodes_evenly(
    nodes: list[Node], balance: Balance
) -> None:
    """Each of 300 requests is answered once."""
    async with httpx2.AsyncClient(base_url=balance.url, timeout=WAIT_S, trust_env=False) as client:
        answers = await asyncio.gather(*(client.get("/who") for _ in range(300)))
    assert {answer.status_code for answer in answers} == {200}
    assert [node.asked for node in nodes] == [100, 100, 100]
