"""What only a writer in a process of its own promises: it ends with its server, and not before."""

import asyncio
import fcntl
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from tests.conformance.shapes import PROJECT, message, thread
from understudy import limits
from understudy.store import Conflict, Unavailable, changes, open_database
from understudy.store.store import Store, newest


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """A store on a file, whose writer is apart and at work."""
    store = Store(await open_database(f"sqlite:///{tmp_path}/understudy.db", apart=True))
    await store.commit(thread("thread_1"))
    yield store
    await store.close()


def writer() -> psutil.Process:
    """The writer that this process has."""
    children = psutil.Process().children()
    alive = [one for one in children if one.status() != psutil.STATUS_ZOMBIE]
    [found] = [one for one in alive if "understudy.store.sqlite_writer" in one.cmdline()]
    return found


async def test_signals_to_all_processes_are_the_servers(store: Store) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        writer().send_signal(number)
    await store.commit(thread("thread_2"))
    assert os.getpgid(writer().pid) == writer().pid, "Ctrl-C reaches a terminal's own group"


async def test_close_answers_what_was_asked_and_ends_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "understudy.db"
    store = Store(await open_database(f"sqlite:///{path}", apart=True))
    asked = [asyncio.ensure_future(store.commit(thread(f"thread_{n}"))) for n in range(50)]
    await asyncio.sleep(0)
    process = writer()
    await store.close()
    assert len(await asyncio.gather(*asked)) == 50
    assert not process.is_running()
    assert not path.with_name("understudy.db-wal").exists(), "it was folded in"
    with pytest.raises(Unavailable):
        await store.commit(thread("thread_50"))


async def test_a_writer_that_is_killed_is_fatal_and_leaves_nobody_waiting(tmp_path: Path) -> None:
    reasons: list[str] = []
    url = f"sqlite:///{tmp_path}/understudy.db"
    store = Store(await open_database(url, apart=True, on_fatal=reasons.append))
    await store.commit(thread("thread_0"))
    writer().suspend()
    asked = [asyncio.ensure_future(store.commit(thread(f"thread_{n}"))) for n in range(1, 5)]
    await asyncio.sleep(0.05)
    writer().kill()
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 4
    with pytest.raises(Unavailable, match="writer died"):
        await store.commit(thread("thread_5"))
    await store.close()
    assert reasons == ["The store's writer died."]


async def test_a_caller_that_went_away_keeps_nobody_from_answers(store: Store) -> None:
    gone = asyncio.ensure_future(store.commit(thread("thread_2")))
    await asyncio.sleep(0)
    gone.cancel()
    await store.commit(thread("thread_3"))
    assert await store.get("thread", PROJECT, "thread_3") is not None


async def test_a_commit_of_any_size_goes_through(store: Store) -> None:
    body = b'{"text": "%b"}' % (b"x" * 20_000_000)
    big = changes.insert_object(
        "thread", id="thread_2", project=PROJECT, parent=None, created_at=1.0, body=body
    )
    await asyncio.gather(store.commit(big), store.commit(thread("thread_3")))
    found = await store.get("thread", PROJECT, "thread_2")
    assert found is not None
    assert found.body == body


async def test_the_log_is_folded_in_while_the_server_lives(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "understudy.db"
    before = path.stat().st_size
    for number in range(200):
        big = changes.insert_object(
            "thread",
            id=f"thread_big_{number}",
            project=PROJECT,
            parent=None,
            created_at=1.0,
            body=b'{"text": "%b"}' % (b"x" * 1_000_000),
        )
        await store.commit(big)
        if path.stat().st_size > before + 1_000_000:
            break
        await asyncio.sleep(0.01)
    assert number * 1_000_000 > limits.WAL_PAGES * 4_096 / 2
    assert path.stat().st_size > before + 1_000_000


async def test_rows_are_told_before_they_are_durable(store: Store) -> None:
    happened: list[object] = []
    look = newest("message", PROJECT, "thread_1", limit=5, most_bytes=1000)
    before = asyncio.ensure_future(store.begin_commit(thread("thread_2")))
    told = asyncio.ensure_future(
        store.begin_commit(message("msg_1"), look, told=lambda rows: happened.append(rows))
    )
    after = asyncio.ensure_future(store.begin_commit(thread("thread_3")))
    told.add_done_callback(lambda done: happened.append(done.result()))
    await asyncio.gather(before, told, after)
    [early, final] = happened
    assert early == final == [[], [early[1][0]]]  # type: ignore[index]
    assert early[1][0][0] == "msg_1"


async def test_rows_that_are_many_are_told_when_they_are_durable(store: Store) -> None:
    happened: list[object] = []
    body = b'{"text": "%b"}' % (b"x" * limits.TOLD_BYTES)
    large = changes.insert_object(
        "message", id="msg_1", project=PROJECT, parent="thread_1", created_at=1.0, body=body
    )
    look = newest("message", PROJECT, "thread_1", limit=5, most_bytes=2 * len(body))
    [_, rows] = await store.begin_commit(large, look, told=happened.append)
    assert [row[0] for row in rows] == ["msg_1"]
    assert happened == []


async def test_a_refusal_tells_nothing(store: Store) -> None:
    happened: list[object] = []
    with pytest.raises(Conflict):
        await store.begin_commit(thread("thread_1"), told=happened.append)
    assert happened == []


async def test_a_refusal_names_its_guard(store: Store) -> None:
    with pytest.raises(Conflict) as refused:
        await store.commit(thread("thread_1"))
    assert refused.value.what == "exists"


async def test_a_start_waits_for_the_writer_of_a_server_that_was_killed(tmp_path: Path) -> None:
    lock = (tmp_path / "understudy.db.lock").open("a+")
    fcntl.flock(lock, fcntl.LOCK_EX)
    asyncio.get_running_loop().call_later(0.3, lock.close)
    began = time.monotonic()
    store = Store(await open_database(f"sqlite:///{tmp_path}/understudy.db", apart=True))
    assert time.monotonic() - began >= 0.25
    await store.close()


async def test_the_writer_has_no_secret_and_nothing_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pickle.py").write_text("raise SystemExit(1)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNDERSTUDY_UPSTREAM_KEY", "sk-secret")
    store = Store(await open_database("sqlite:///here/understudy.db", apart=True))
    await store.commit(thread("thread_1"))
    assert "sk-secret" not in writer().environ().values()
    assert writer().cwd() == "/"
    await store.close()
    assert (tmp_path / "here" / "understudy.db").exists()


async def test_a_file_that_cannot_be_opened_leaves_no_writer(tmp_path: Path) -> None:
    path = tmp_path / "understudy.db"
    path.write_bytes(b"no database at all " * 1000)
    before = psutil.Process().children()
    with pytest.raises(Exception, match="not a database"):
        await open_database(f"sqlite:///{path}", apart=True)
    assert [one for one in psutil.Process().children() if one not in before] == []
