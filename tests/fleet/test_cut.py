"""The wire that is cut: what a client sees of it, and what the server has done all the same."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import TypeAlias

import asyncpg
import pytest
import pytest_asyncio

from tests.fleet.clusters import schema
from tests.fleet.cut import Wire, contains, executes, is_kind
from tests.fleet.frames import SYNC, TLS, Client, Server
from tests.fleet.statements import execute, fetch
from tests.ports import free_port

WAIT_S = 10.0
INSERT = "insert into t values ($1)"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
def url() -> Iterator[str]:
    """A schema with one empty table, reached without a wire."""
    with schema() as fresh:
        execute(fresh, "create table t (n int)")
        yield fresh


@pytest.fixture
def wire(url: str) -> Iterator[Wire]:
    """What the client's connection goes through."""
    with Wire(url) as made:
        yield made


@pytest_asyncio.fixture
async def client(wire: Wire) -> AsyncIterator[Connection]:
    """A connection through the wire."""
    connection = await asyncpg.connect(wire.url)
    yield connection
    connection.terminate()


def rows(url: str) -> list[int]:
    """What the table holds."""
    return [number for (number,) in fetch(url, "select n from t order by n")]


async def fails(client: Connection, statement: str, *values: object) -> None:
    """The statement ends as it does when a connection is lost."""
    with pytest.raises((ConnectionError, asyncpg.PostgresConnectionError)):
        await asyncio.wait_for(client.execute(statement, *values), WAIT_S)


async def test_what_nobody_cuts_is_as_without_the_wire(url: str, wire: Wire) -> None:
    """Results larger than a piece, errors, COPY, and many connections at once."""
    pool = await asyncpg.create_pool(wire.url, min_size=4, max_size=4)
    try:
        text = "é" * 300_000
        assert await pool.fetchval("select $1::text", text) == text
        with pytest.raises(asyncpg.UndefinedTableError):
            await pool.execute("select * from missing")
        await pool.copy_records_to_table("t", records=[(number,) for number in range(10_000)])
        counts = await asyncio.gather(*(pool.fetchval("select count(*) from t") for _ in range(50)))
        assert set(counts) == {10_000}
        assert wire.connections == 4
    finally:
        await pool.close()


async def test_notifications_pass(client: Connection, url: str) -> None:
    """They come unasked, between answers."""
    heard = asyncio.Event()
    await client.add_listener("bell", lambda *_: heard.set())
    execute(url, "notify bell")
    await asyncio.wait_for(heard.wait(), WAIT_S)


async def test_notifications_can_be_lost_and_nothing_else(
    client: Connection, wire: Wire, url: str
) -> None:
    heard: list[object] = []
    await client.add_listener("bell", lambda *said: heard.append(said))
    wire.lose_notifications()
    execute(url, "notify bell")
    for number in range(3):  # What is answered later comes behind it.
        assert await client.fetchval("select $1::int", number) == number
    assert (heard, wire.lost) == ([], 1)


async def test_a_cut_resets_what_is_connected_and_nothing_else(
    client: Connection, wire: Wire
) -> None:
    """The next connection works."""
    is_busy = asyncio.Event()
    client.add_log_listener(lambda *_: is_busy.set())
    saying = "do $$ begin raise notice 'busy'; perform pg_sleep(60); end $$"
    sleeping = asyncio.create_task(fails(client, saying))
    await asyncio.wait_for(is_busy.wait(), WAIT_S)
    wire.cut()
    await sleeping
    assert client.is_closed()
    again = await asyncpg.connect(wire.url)
    assert await again.fetchval("select 1") == 1
    await again.close()


async def test_a_cut_is_a_reset_on_the_wire(wire: Wire) -> None:
    """And not the end of a stream, which a client could take for an orderly one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    writer.write(framed("", TLS.to_bytes(4)))
    assert await asyncio.wait_for(reader.readexactly(1), WAIT_S) == b"N"
    wire.cut()
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(1), WAIT_S)
    writer.close()


async def test_while_it_is_held_nothing_passes_and_nothing_is_closed(
    client: Connection, wire: Wire, url: str
) -> None:
    """A partition: the client waits for an answer to something that was not even asked."""
    wire.hold()
    inserting = asyncio.create_task(client.execute(INSERT, 1))
    connecting = asyncio.create_task(asyncpg.connect(wire.url))
    done, _ = await asyncio.wait((inserting, connecting), timeout=0.2)
    assert not done
    assert rows(url) == []
    wire.release()
    await asyncio.wait_for(inserting, WAIT_S)
    assert rows(url) == [1]
    await (await asyncio.wait_for(connecting, WAIT_S)).close()


async def test_a_held_wire_can_be_cut(client: Connection, wire: Wire) -> None:
    """How most partitions end: nobody hears of the other again."""
    wire.hold()
    waiting = asyncio.create_task(fails(client, "select 1"))
    await asyncio.sleep(0)
    wire.cut()
    await waiting
    wire.release()


async def test_refusing_leaves_those_who_are_connected(client: Connection, wire: Wire) -> None:
    """A server at its limit, or a listener that is gone; afterwards it accepts again."""
    wire.refuse()
    with pytest.raises(ConnectionRefusedError):
        await asyncpg.connect(wire.url)
    assert await client.fetchval("select 1") == 1
    wire.accept()
    await (await asyncpg.connect(wire.url)).close()


async def test_a_delay_makes_each_answer_late(client: Connection, wire: Wire) -> None:
    """By what was asked for, once for a question and its answer; and it ends."""
    loop = asyncio.get_running_loop()
    await client.fetchval("select 1")

    async def asking_takes() -> float:
        began = loop.time()
        await client.fetchval("select 1")
        return loop.time() - began

    wire.delay(0.15)
    assert 0.15 <= await asking_takes() < 0.3
    wire.delay(0)
    assert min([await asking_takes() for _ in range(5)]) < 0.05


async def test_cut_before_a_statement_the_server_never_gets_it(
    client: Connection, wire: Wire, url: str
) -> None:
    """Nothing is there, and nothing will be."""
    trap = wire.cut_when(executes("insert into t"), "before")
    await fails(client, INSERT, 1)
    assert trap.has_sprung
    assert rows(url) == []
    assert wire.traps == []


async def test_cut_after_a_commit_the_client_does_not_know_of_it(
    client: Connection, wire: Wire, url: str
) -> None:
    """The outcome that every store has to be able to find out later."""
    transaction = client.transaction()
    await transaction.start()
    await client.execute(INSERT, 1)
    trap = wire.cut_when(executes("commit"), "after")
    with pytest.raises((ConnectionError, asyncpg.PostgresConnectionError)):
        await asyncio.wait_for(transaction.commit(), WAIT_S)
    assert trap.has_sprung
    assert rows(url) == [1]


async def test_cut_before_a_commit_takes_all_of_its_transaction(
    client: Connection, wire: Wire, url: str
) -> None:
    """For the client the same sight as above; for the record the opposite."""
    transaction = client.transaction()
    await transaction.start()
    await client.execute(INSERT, 1)
    wire.cut_when(executes("commit"), "before")
    with pytest.raises((ConnectionError, asyncpg.PostgresConnectionError)):
        await asyncio.wait_for(transaction.commit(), WAIT_S)
    assert rows(url) == []


async def test_a_statement_prepared_long_before_is_known_by_its_text(
    client: Connection, wire: Wire, url: str
) -> None:
    """Its text went over the wire once; asyncpg sends its name from then on."""
    for number in (1, 2):
        await client.execute(INSERT, number)
    trap = wire.cut_when(executes("INSERT INTO T"), "after")
    await fails(client, INSERT, 3)
    assert rows(url) == [1, 2, 3]
    assert trap.message is not None and b"insert" not in trap.message.body


async def test_only_the_matching_connection_is_cut_and_only_once(
    client: Connection, wire: Wire, url: str
) -> None:
    """Others go on, and what the cut one does again goes through."""
    other = await asyncpg.connect(wire.url)
    trap = wire.cut_when(contains((77).to_bytes(4)), "before")
    await client.execute(INSERT, 1)
    assert not trap.has_sprung
    await fails(client, INSERT, 77)
    await other.execute(INSERT, 77)
    assert rows(url) == [1, 77]
    await other.close()


async def test_a_cut_after_waits_for_the_answer_to_its_own_question(wire: Wire, url: str) -> None:
    """Two questions in one write: the answer to the first passes, and is not taken for that to the
    second, which is still at work then."""
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    start = f"user\0postgres\0database\0postgres\0search_path\0{url.rpartition('=')[2]}\0\0"
    writer.write(framed("", (196_608).to_bytes(4) + start.encode()))
    await asyncio.wait_for(reader.readuntil(framed("Z", b"I")), WAIT_S)
    trap = wire.cut_when(executes("insert into t"), "after")
    asked = ("select 'first'", "insert into t values (5); select pg_sleep(0.3)")
    writer.write(b"".join(framed("Q", f"{sql}\0".encode()) for sql in asked))
    assert b"first" in await asyncio.wait_for(reader.readuntil(framed("Z", b"I")), WAIT_S)
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(1), WAIT_S)
    assert trap.has_sprung
    assert rows(url) == [5]
    writer.close()


async def test_a_sync_can_be_cut_before(client: Connection, wire: Wire, url: str) -> None:
    """What was executed but not synced is not committed."""
    statement = await client.prepare(INSERT)
    trap = wire.cut_when(is_kind(SYNC), "before")
    with pytest.raises((ConnectionError, asyncpg.PostgresConnectionError)):
        await statement.fetch(1)
    assert trap.has_sprung
    assert rows(url) == []


async def test_any_tcp_server_can_be_behind_it() -> None:
    """An object store, say; only messages are not looked for."""
    has_ended = asyncio.Event()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()
        await writer.wait_closed()
        has_ended.set()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with Wire(f"http://127.0.0.1:{port}/bucket") as wire:
        assert wire.url == f"http://127.0.0.1:{wire.port}/bucket"
        reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
        writer.write(b"hello")
        assert await asyncio.wait_for(reader.readexactly(5), WAIT_S) == b"hello"
        with pytest.raises(AssertionError, match="only PostgreSQL"):
            wire.cut_when(executes("select"))
        writer.close()
        await writer.wait_closed()
        await asyncio.wait_for(has_ended.wait(), WAIT_S)
    server.close()


async def test_a_server_that_is_down_is_seen_as_a_reset() -> None:
    """As the module says: the wire accepts before it asks."""
    lost = (ConnectionError, asyncpg.PostgresConnectionError)
    with (
        Wire(f"postgresql://postgres@127.0.0.1:{free_port()}/postgres") as wire,
        pytest.raises(lost),
    ):
        await asyncpg.connect(wire.url, timeout=WAIT_S)


def test_messages_are_cut_right_wherever_their_bytes_are_split() -> None:
    """TCP gives pieces of any length, and the first message has no kind."""
    start = framed("", (196_608).to_bytes(4))
    tls = framed("", TLS.to_bytes(4))
    asked = [("P", b"s1\0select 1\0"), ("B", b"\0s1\0"), ("E", bytes(5)), ("S", b"")]
    stream = tls + start + b"".join(framed(*message) for message in asked)
    for size in range(1, len(stream) + 1):
        client = Client()
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        messages = [message for piece in pieces for message in client.feed(piece)]
        assert b"".join(message.raw for message in messages) == stream
        assert [message.kind for message in messages] == ["", "", "P", "B", "E", "S"]
        assert [message.sql for message in messages[2:]] == ["select 1"] * 3 + [""]
        assert [message.ends_question for message in messages] == [0, 1, 0, 0, 0, 1]
    assert [message.kind for message in Server().feed(framed("Z", b"I"))] == ["Z"]


def framed(kind: str, body: bytes) -> bytes:
    """A message as it goes over the wire."""
    return kind.encode() + (4 + len(body)).to_bytes(4) + body
