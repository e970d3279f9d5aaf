"""`python -m benchmarks.moving`: a data folder of a gigabyte moves to PostgreSQL, killed twice.

It is no part of the other benchmarks, for it needs a PostgreSQL: `--to` names a database in which
it may make a schema. The rows are made here, in the shapes and sizes that a server's have, and are
not meant to be served. Printed is what the copies say, their memory at the most, and how fast they
were.
"""

import argparse
import asyncio
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from understudy.store import Row
from understudy.store.tables import TABLES, Progress, Table, Tables, open_tables
from understudy.world import random_id

_COMMAND = [sys.executable, "-c", "from understudy.cli import main; main()", "migrate"]
_SINCE = 1_700_000_000.0
_SHARES = {"objects": 0.45, "events": 0.1, "chunks": 0.12, "parts": 0.2, "postings": 0.13}
_TOGETHER = 5_000
_WORDS = ["the", "weather", "in", "Oslo", "is", "mild", "and", "will", "last", "until", "weekend"]


def main() -> None:
    """Fill, move, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.moving", description=__doc__)
    parser.add_argument("--to", default="postgresql://postgres@127.0.0.1:5432/postgres")
    parser.add_argument("--mb", type=int, default=1_000, help="of the database")
    parser.add_argument("--blobs-mb", type=int, default=200)
    parser.add_argument("--kills", type=float, nargs="*", default=[0.25, 0.6], help="at this share")
    parser.add_argument("--back", action="store_true", help="and then back to SQLite")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asyncio.run(_fill(folder, arguments.mb * 1_000_000, arguments.blobs_mb * 1_000_000))
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        print(f"filled: {size / 1e6:,.0f} MB in {folder}", flush=True)
        schema = f"benchmark_{secrets.token_hex(4)}"
        asyncio.run(_perform(arguments.to, f"create schema {schema}"))
        try:
            joint = "&" if "?" in arguments.to else "?"
            url = f"{arguments.to}{joint}search_path={schema}"
            _move(folder, url, arguments.kills)
            if arguments.back:
                _tell(_live(["--from", url, "--to", f"sqlite:///{folder}/back.db"], None))
        finally:
            asyncio.run(_perform(arguments.to, f"drop schema {schema} cascade"))


async def _perform(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


# Moving.


@dataclass
class Life:
    """A copier's life: how long, how it ended, and its resident memory at the most."""

    seconds: float
    code: int
    most_mb: float
    said: str


def _move(folder: Path, url: str, kills: list[float]) -> None:
    data, blobs = folder / "data", folder / "moved"
    arguments = ["--data", str(data), "--to", url, "--blobs-to", f"file://{blobs}"]
    total = asyncio.run(_rows(data))
    for share in kills:
        life = _live(arguments, int(share * total))
        print(f"killed after {life.seconds:.1f} s, {life.most_mb:.0f} MB resident at most")
    _tell(_live(arguments, None))


def _tell(life: Life) -> None:
    print(f"ended with {life.code} after {life.seconds:.1f} s, {life.most_mb:.0f} MB at most")
    print(life.said)


async def _rows(data: Path) -> int:
    tables = await open_tables(f"sqlite:///{data}/understudy.db", "source")
    try:
        return sum([await tables.count(table) for table in TABLES])
    finally:
        await tables.close()


def _live(arguments: list[str], rows: int | None) -> Life:
    """A copier that is killed (-9) when it has told of so many rows of all tables."""
    started_at = time.monotonic()
    process = subprocess.Popen(
        [*_COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    most = [0.0]
    threading.Thread(target=_watch, args=(process.pid, most), daemon=True).start()
    assert process.stderr is not None
    told: dict[str, int] = {}
    for line in process.stderr:
        found = re.match(r"understudy: copying (\w+): ([\d,]+) of", line)
        if found is None:
            if not line.startswith("understudy: verifying"):
                print(line, end="")
            continue
        told[found[1]] = int(found[2].replace(",", ""))
        if rows is not None and sum(told.values()) >= rows:
            process.kill()
    assert process.stdout is not None
    said = process.stdout.read()
    return Life(time.monotonic() - started_at, process.wait(), most[0], said)


def _watch(pid: int, most: list[float]) -> None:
    try:
        process = psutil.Process(pid)
        while True:
            most[0] = max(most[0], process.memory_info().rss / 1e6)
            time.sleep(0.05)
    except psutil.Error:
        return


# Filling.


async def _fill(folder: Path, size_bytes: int, blob_bytes: int) -> None:
    data = folder / "data"
    (data / "blobs").mkdir(parents=True)
    tables = await open_tables(f"sqlite:///{data}/understudy.db", "target")
    await tables.begin("benchmark")
    makers: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
        "objects": _objects,
        "events": _events,
        "chunks": _chunks,
        "parts": _parts,
        "postings": _postings,
    }
    for table in TABLES:
        if table.name in makers:
            budget = int(size_bytes * _SHARES[table.name])
            await _fill_table(tables, table, makers[table.name](), budget)
    table = next(table for table in TABLES if table.name == "objects")
    await _fill_table(tables, table, _files(data / "blobs", blob_bytes), blob_bytes)
    await tables.settle({"objects": 100_000_000})
    await tables.finish()
    await tables.close()


async def _fill_table(
    tables: Tables, table: Table, rows: Iterator[dict[str, Any]], size_bytes: int
) -> None:
    batch: list[Row] = []
    for row in rows:
        batch.append(tuple(row.get(column) for column in table.columns))
        size_bytes -= sum(len(value) for value in batch[-1] if isinstance(value, str | bytes)) + 40
        if len(batch) == _TOGETHER or size_bytes <= 0:
            await tables.write(table, batch, Progress(table.name))
            batch = []
        if size_bytes <= 0:
            return
    await tables.write(table, batch, Progress(table.name))


def _objects() -> Iterator[dict[str, Any]]:
    """Threads, each with its messages and its runs with their steps."""
    seq = 0
    while True:
        thread, run = random_id("thread"), random_id("run")
        for kind, id, parent, chars in (
            ("thread", thread, "", 200),
            *(("message", random_id("message"), thread, 700) for _ in range(6)),
            ("run", run, thread, 1_800),
            ("step", random_id("step"), run, 600),
        ):
            seq += 1
            body = {"id": id, "thread_id": thread, "run_id": run, "text": _text(seq, chars)}
            yield _object(seq, kind, id, parent, json.dumps(body), '{"tokens":123,"turn":null}')


def _object(seq: int, kind: str, id: str, parent: str, body: str, private: str) -> dict[str, Any]:
    return {
        "seq": seq,
        "id": id,
        "kind": kind,
        "project": "default",
        "parent": parent,
        "created_at": _SINCE + seq / 1000,
        "version": 1,
        "children": 0,
        "body": body,
        "private": private,
    }


def _files(folder: Path, size_bytes: int) -> Iterator[dict[str, Any]]:
    """Files of 5 KB to 5 MB."""
    seq = 50_000_000
    left = size_bytes
    sizes = (5_000, 50_000, 200_000, 500_000, 5_000_000)
    while left > 0:
        size = min(left, sizes[seq % len(sizes)])
        left -= size
        seq += 1
        key, id = random_id("blob"), random_id("file")
        (folder / key).write_bytes(os.urandom(size))
        private = json.dumps({"blobs": [{"key": key, "size_bytes": size}], "path": None})
        body = json.dumps({"id": id, "purpose": "assistants", "filename": f"{seq}.txt"})
        yield _object(seq, "file", id, "", body, private)


def _events() -> Iterator[dict[str, Any]]:
    while True:
        run = random_id("run")
        for place in range(8):
            yield {
                "run_id": run,
                "fence": 1,
                "seq_from": place * 3,
                "seq_to": place * 3 + 2,
                "kind": "lifecycle",
                "created_at": _SINCE,
                "frames": _text(place, 900).encode(),
            }


def _chunks() -> Iterator[dict[str, Any]]:
    ordinal = 0
    while True:
        ordinal += 1
        yield {
            "document": ordinal // 100,
            "ordinal": ordinal % 100,
            "start": ordinal * 1500,
            "stop": ordinal * 1500 + 3000,
            "text": _text(ordinal, 1_500),
        }


def _parts() -> Iterator[dict[str, Any]]:
    """Of 64 chunks, with vectors of 1,536 numbers."""
    terms = json.dumps([f"term{number}" for number in range(1_500)])
    part = 0
    while True:
        part += 1
        yield {
            "document": part // 2,
            "part": part % 2,
            "terms": terms,
            "owners": os.urandom(256),
            "vectors": os.urandom(64 * 1_536 * 4),
        }


def _postings() -> Iterator[dict[str, Any]]:
    document = 0
    while True:
        document += 1
        for term in range(1_500):
            yield {
                "store": 1,
                "term": f"{_WORDS[term % len(_WORDS)]}{term}",
                "document": document,
                "part": 0,
                "data": b"\1\2\3\4\5\6\7\10\11\12\13\14",
            }


def _text(seed: int, chars: int) -> str:
    words = (_WORDS[(seed * 7 + place * place) % len(_WORDS)] for place in range(chars // 5))
    return " ".join(words)[:chars]


if __name__ == "__main__":
    main()
