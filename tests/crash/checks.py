"""What must hold of a life when its run is over, and of the record when the server is stopped."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import apsw
import httpx2
import msgspec
import openai
from openai.lib.streaming import AssistantEventHandler
from openai.types.beta import AssistantStreamEvent

from tests.crash.client import Client, Event, Refused
from tests.crash.lives import TERMINAL, Life
from tests.fleet.statements import fetch
from understudy import limits
from understudy.engine.frames import name_of, split
from understudy.machine.run import POISONED

Record: TypeAlias = Path | str  # A SQLite file, or the URL of a PostgreSQL database.

_RUN_END = re.compile(rf"thread\.run\.({'|'.join(TERMINAL)})$")
_PART_END = re.compile(
    r"thread\.(message|run\.step)\.(completed|incomplete|failed|cancelled|expired)$"
)
# Event of a run → the events of it that may follow.
_NEXT = {
    "created": {"queued"},
    "queued": {"in_progress", "cancelling", "expired", "failed"},
    "in_progress": {"requires_action", "cancelling", *TERMINAL} - {"cancelled"},
    "requires_action": {"queued", "cancelling", "expired"},
    "cancelling": {"cancelled"},
}


async def check_life(client: Client, life: Life, sdk: openai.OpenAI) -> None:
    """Everything that the server owes this life, asked over the API."""
    run = await client.get(life.path)
    messages = (await client.get(f"/threads/{life.thread_id}/messages?order=asc&limit=100"))["data"]
    steps = (await client.get(f"{life.path}/steps?order=asc&limit=100"))["data"]
    replay = [event async for event in client.stream("GET", f"{life.path}/events", None, None)]
    is_given_up = _check_status(life, run)
    _check_messages(life, messages, is_whole=life.kind != "cancelled" and not is_given_up)
    _check_edits(life, run, messages)
    _check_outputs(life, steps)
    check_places([event.place for event in replay])
    check_order(replay)
    _check_seen(life, replay)
    _check_deltas(messages, replay)
    _check_sdk(sdk, replay, run, messages)
    assert [step for step in steps if step["status"] == "in_progress"] == []
    await _check_unlocked(client, life)


def _check_status(life: Life, run: dict[str, Any]) -> bool:
    """The run ended as it should; whether it was given up, since its worker died too often."""
    if life.deaths > limits.RECLAIMS and run["status"] == "failed":
        assert run["last_error"] == {"code": "server_error", "message": POISONED}, run
        return True
    expected = {"cancelled"} if life.is_cancelled else {"completed"}
    if life.kind == "cancelled" and not life.is_cancelled:
        expected = {"completed", "cancelled"}
    assert run["status"] in expected, (life.deaths, run)
    return False


def _check_messages(life: Life, messages: list[dict[str, Any]], *, is_whole: bool) -> None:
    """What was said is there, once and in order; the answer is whole, once."""
    said = [message for message in messages if message["role"] == "user"]
    assert [_text(message) for message in said] == [*life.said.values(), *life.more]
    assert [message["id"] for message in said][: len(life.said)] == list(life.said)
    assert all(message["status"] != "in_progress" for message in messages), messages
    if is_whole:
        whole = [_text(m) for m in messages if m["run_id"] and m["status"] == "completed"]
        assert whole.count(life.text) == 1, (life.text, messages)


def _check_edits(life: Life, run: dict[str, Any], messages: list[dict[str, Any]]) -> None:
    least, most = life.run_edit
    assert least <= int(run["metadata"].get("edit", 0)) <= most, (life.run_edit, run)
    by_id = {message["id"]: message for message in messages}
    for id, (least, most) in life.notes.items():
        assert least <= int(by_id[id]["metadata"].get("note", 0)) <= most, (least, by_id[id])


def _check_outputs(life: Life, steps: list[dict[str, Any]]) -> None:
    """Every output that was accepted is in its step."""
    found = {
        call["id"]: call["function"]["output"]
        for step in steps
        if step["type"] == "tool_calls" and step["status"] == "completed"
        for call in step["step_details"]["tool_calls"]
    }
    assert life.outputs.items() <= found.items(), (life.outputs, found)


def _check_seen(life: Life, replay: Sequence[Event]) -> None:
    """What the client saw is in the replay; only deltas of the last moment may be lost."""
    kept = {event.place: event for event in replay}
    for place, event in life.seen.items():
        if place in kept:
            assert kept[place] == event, f"{event} is replayed as {kept[place]}"
        else:
            assert event.is_delta, f"{event} was seen and is gone"


def _check_deltas(messages: list[dict[str, Any]], replay: Sequence[Event]) -> None:
    """The deltas of each message make its text."""
    pieces: dict[str, list[str]] = defaultdict(list)
    for event in replay:
        if event.name == "thread.message.delta":
            delta = event.object
            pieces[delta["id"]] += [one["text"]["value"] for one in delta["delta"]["content"]]
    for message in messages:
        if message["run_id"]:
            assert "".join(pieces[message["id"]]) == _text(message), message


def _check_sdk(
    sdk: openai.OpenAI,
    replay: Sequence[Event],
    run: dict[str, Any],
    messages: list[dict[str, Any]],
) -> None:
    """The official client accumulates the replay to what the objects say."""
    body = b"".join(b"event: %b\ndata: %b\n\n" % (e.name.encode(), e.data) for e in replay)
    answer = httpx2.Response(
        200,
        content=body + b"event: done\ndata: [DONE]\n\n",
        request=httpx2.Request("GET", "http://replay"),
    )
    handler = AssistantEventHandler()
    handler._init(
        openai.Stream(cast_to=AssistantStreamEvent, response=answer, client=sdk)  # type: ignore[arg-type]
    )
    handler.until_done()
    final = handler.current_run
    assert final is not None
    assert final.status == run["status"]
    texts = {m["id"]: _text(m) for m in messages if m["run_id"]}
    for snapshot in handler.get_final_messages() if texts else []:
        got = "".join(part.text.value for part in snapshot.content if part.type == "text")
        assert texts[snapshot.id] == got


async def _check_unlocked(client: Client, life: Life) -> None:
    """The thread takes a new message and a new run."""
    path = f"/threads/{life.thread_id}"
    try:
        await client.post(f"{path}/messages", {"role": "user", "content": "And now?"})
        body = {"assistant_id": life.assistant_id}
        run = await client.post(f"{path}/runs", body)
    except Refused as refused:
        raise AssertionError(f"the thread of {life.run_id} stays locked: {refused}") from refused
    last = ""
    async for event in client.stream("GET", f"{path}/runs/{run['id']}/events", None, None):
        last = event.name
    assert last == "thread.run.completed"


def check_places(places: Sequence[tuple[int, int]]) -> None:
    """Fences rise; within each, sequences begin at 1 and have no gap."""
    before = (0, 0)
    for place in places:
        is_next = place == (before[0], before[1] + 1)
        assert is_next or (place[0] > before[0] and place[1] == 1), f"{place} follows {before}"
        before = place


def check_order(events: Iterable[Event]) -> None:
    """Lifecycle events come as strict clients demand (SPEC 9.4): one open step, one open
    message, nothing of a part outside its life, and a run that walks its table."""
    opened: dict[str, str] = {}  # Kind of part → id of the open one.
    known: set[str] = set()
    run = ""
    for event in events:
        noun = event.name.removeprefix("thread.").rpartition(".")[0]
        if noun == "run":
            status = event.name.rpartition(".")[2]
            assert status == "created" if not run else status in _NEXT[run], (run, status)
            run = status
            assert not _RUN_END.match(event.name) or not opened, f"{event.name} before {opened}"
        elif event.name.endswith(".created"):
            id = event.object["id"]
            assert noun not in opened, f"{noun} {id} begins inside {opened[noun]}"
            assert id not in known, f"{id} begins twice"
            opened[noun] = id
            known.add(id)
        else:
            id = event.object["id"]
            assert opened.get(noun) == id, f"{event.name} of {id} while {opened} are open"
            if _PART_END.match(event.name):
                del opened[noun]
    assert run in TERMINAL, run


def check_calls(calls: Sequence[dict[str, Any]], record: Record) -> None:
    """Every call that the provider saw was journalled, and no two share a line."""
    ids = [call["call_id"] for call in calls]
    twice = [id for id, count in Counter(ids).items() if count > 1]
    assert twice == [], f"calls without a journal line of their own: {twice}"
    lines = {
        f"{run_id}:{key}:{attempt}"
        for run_id, key, attempt in rows(record, "select run_id, key, attempt from journal")
    }
    missing = [id for id in ids if id not in lines]
    assert missing == [], f"calls that no journal line tells of: {missing}"


def check_record(record: Record) -> Counter[int]:
    """The log of every run in a stopped server's record: places without a gap, one terminal
    event, no job left. How many runs ended in each fence."""
    fences: Counter[int] = Counter()
    assert rows(record, "select id, kind from jobs where kind = 'run'") == []
    places: dict[str, list[tuple[int, int]]] = defaultdict(list)
    ends: Counter[str] = Counter()
    for run_id, fence, first, last, frames in rows(
        record,
        "select run_id, fence, seq_from, seq_to, frames from events "
        "order by run_id, fence, seq_from",
    ):
        names = [name_of(frame) for frame in split(bytes(frames))]
        assert len(names) == last - first + 1, (run_id, fence, first, last)
        places[run_id] += [(fence, seq) for seq in range(first, last + 1)]
        ends[run_id] += sum(1 for name in names if _RUN_END.match(name))
    for id, body in rows(record, "select id, body from objects where kind = 'run'"):
        status = msgspec.json.decode(body)["status"]
        assert status in TERMINAL, (id, status)
        assert ends[id] == 1, f"{id} has {ends[id]} terminal events"
        check_places(places[id])
        fences[places[id][-1][0]] += 1
    return fences


def rows(record: Record, sql: str) -> list[tuple[Any, ...]]:
    """What a record answers: of a file, or of a PostgreSQL database."""
    if isinstance(record, str):
        return fetch(record, sql)
    connection = reading(record)
    try:
        return list(connection.execute(sql))
    finally:
        connection.close()


def reading(record: Path) -> "apsw.Connection":
    """The record of a server, to be looked at only."""
    connection = apsw.Connection(str(record), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(2_000)  # The writer of a killed server may be finishing.
    return connection


def _text(message: dict[str, Any]) -> str:
    return "".join(part["text"]["value"] for part in message["content"])
