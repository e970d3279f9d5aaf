"""Moves of a record from and to every database: all of it, once, and found equal."""

from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.conformance.rows import BY_NAME
from tests.transfer.mortal import Dead, Fate, mortal
from tests.transfer.places import KINDS, contents, filled, moved, opened, place, tell
from understudy import limits
from understudy.server import CannotStart
from understudy.store import Clocked, Row, changes, open_database
from understudy.store.store import Store
from understudy.store.tables import TABLES
from understudy.transfer.moving import Sides, move
from understudy.transfer.moving import opened as opened_sides
from understudy.transfer.plan import Plan

T = TypeVar("T")

PAIRS = [(source, target) for source in sorted(KINDS) for target in sorted(KINDS)]
LEASE = BY_NAME["jobs"].columns.index("lease_until")


def at_rest(found: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """The rows, whose leases are over."""
    rows = [
        row if row[LEASE] is None else (*row[:LEASE], 0.0, *row[LEASE + 1 :])
        for row in found["jobs"]
    ]
    return {**found, "jobs": sorted(rows, key=repr)}


@pytest.fixture(params=PAIRS, ids="-".join)
async def pair(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, str]:
    """A record, and a place for another. Batches are small, so that there are some."""
    monkeypatch.setattr("understudy.limits.COPY_ROWS", 4)
    source, target = request.param
    return await filled(place(source, tmp_path / "from")), place(target, tmp_path / "to")


async def test_everything_moves(pair: tuple[str, str]) -> None:
    """Ids, versions, fences and numbers as they are; leases are over. The source keeps its own."""
    source, target = pair
    before = await contents(source)
    report = await moved(source, target)
    assert (report.differing, report.replaced, report.resumed_rows) == (0, 0, 0)
    assert await contents(source) == before
    assert await contents(target) == at_rest(before)
    assert sum(row[LEASE] is not None for row in before["jobs"]) > 2
    async with opened(source) as one, opened(target) as other:
        for table in TABLES:
            if table.counter:
                assert await one.last_number(table) == await other.last_number(table) == 1_000
        assert await one.identity() != await other.identity()
    assert {line.count for line in report.lines.values()} == {7}
    await (await open_database(target)).close()


async def test_a_second_move_is_refused_and_a_comparison_is_not(pair: tuple[str, str]) -> None:
    source, target = pair
    first = await moved(source, target)
    with pytest.raises(CannotStart, match="not empty: its table keys has rows"):
        await moved(source, target)
    again = await moved(source, target, verify_only=True)
    assert again.differing == 0
    checksums = [line.checksum for line in again.lines.values()]
    assert checksums == [line.checksum for line in first.lines.values()]
    assert len({*checksums}) == len(TABLES)


DEATHS = [
    *((pair, 2, True) for pair in PAIRS),
    (("sqlite", "postgres"), 1, True),
    (("sqlite", "postgres"), 2, False),
]


@pytest.mark.parametrize(("pair", "at", "is_applied"), DEATHS, indirect=["pair"])
async def test_a_move_that_dies_at_every_moment_ends_like_any_other(
    pair: tuple[str, str], at: int, is_applied: bool
) -> None:
    """Each life does a change or two more than the one before; no row is copied twice."""
    source, target = pair
    before = await contents(source)
    lives = 0
    has_settled = False  # Each life does that again, and would not get further.
    while True:
        lives += 1
        assert lives < 60
        async with opened(source) as one, opened(target) as other:
            fate = Fate(at, is_applied=is_applied, spared="settle" if has_settled else "")
            try:
                report = await move(Sides(one, mortal(other, fate), None), tell)
            except Dead:
                has_settled = has_settled or fate.last == "settle"
                continue
            except CannotStart as refused:  # It died behind its last change.
                assert "not empty" in str(refused)
                report = await move(Sides(one, other, None), tell, verify_only=True)
            else:
                assert report.resumed_rows == 7 * len(TABLES)
        break
    assert report.differing == 0
    assert lives > 15
    assert await contents(target) == at_rest(before)


async def test_a_copy_of_another_record_is_left_alone(tmp_path: Path) -> None:
    one = await filled(place("sqlite", tmp_path / "one"))
    other = await filled(place("sqlite", tmp_path / "other"))
    target = place("sqlite", tmp_path / "to")
    async with opened(one) as source, opened(target) as unfinished:
        with pytest.raises(Dead):
            await move(Sides(source, mortal(unfinished, Fate(3)), None), tell)
    with pytest.raises(CannotStart, match="unfinished copy of another record"):
        await moved(other, target)
    await moved(one, target)


async def test_a_server_on_either_side_stops_the_move(tmp_path: Path) -> None:
    """On PostgreSQL, where no lock keeps it out; also one that comes before the end."""
    source = await filled(place("postgres", tmp_path / "from"))
    target = place("postgres", tmp_path / "to")
    await seen(target)
    with pytest.raises(CannotStart, match=r"at work on the target: boot_x \(serve, seen . s ago"):
        await moved(source, target)
    await seen(target, ago_s=limits.COPY_SEEN_S)
    await moved(source, target)
    await seen(source)
    with pytest.raises(CannotStart, match="at work on the source"):
        await moved(source, target, verify_only=True)


async def test_a_server_that_comes_meanwhile_leaves_the_copy_unfinished(tmp_path: Path) -> None:
    source = await filled(place("postgres", tmp_path / "from"))
    target = place("sqlite", tmp_path / "to")

    class Visit(Fate):
        """A server comes when all rows are there."""

        async def meet(self, name: str, change: Coroutine[Any, Any, T]) -> T:
            if name == "settle":
                await seen(source)
            return await super().meet(name, change)

    async with opened(source) as one, opened(target) as other:
        with pytest.raises(CannotStart, match="at work on the source"):
            await move(Sides(one, mortal(other, Visit(999)), None), tell)
        assert await other.copying() is not None


async def seen(url: str, ago_s: float = 0.0) -> None:
    """A server has told a record that it is alive."""
    database = await open_database(url)
    assert isinstance(database, Clocked)
    at = database.now() - ago_s
    kept = changes.keep_node("boot_x", role="serve", version="1", live_runs=0, now=at)
    await Store(database).commit(kept)
    await database.close()


async def test_texts_with_a_nul_are_told_and_are_no_difference(tmp_path: Path) -> None:
    source = await filled(place("sqlite", tmp_path / "from"), count=2, text="a\0b")
    for kind, replaced in (("postgres", True), ("sqlite", False)):
        target = place(kind, tmp_path / kind)
        report = await moved(source, target)
        assert report.differing == 0
        texts = sum(len(table.text_places) for table in TABLES)
        assert report.replaced == (2 * texts if replaced else 0)
        assert "a�b" in str(await contents(target)) if replaced else "a\\x00b"
        assert (await moved(source, target, verify_only=True)).differing == 0


# Differences.


async def changed(url: str, sql: str, sqlite_sql: str | None = None) -> None:
    """Change a record behind its back."""
    async with opened(url) as record:
        connection = record._connection  # type: ignore[attr-defined]
        if url.startswith("sqlite"):
            connection.execute(sqlite_sql or sql)
        else:
            await connection.execute(sql)


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_a_byte_that_differs_is_found(kind: str, tmp_path: Path) -> None:
    """Of a text, of bytes and of a number; the first key of each table is named."""
    source = await filled(place("sqlite", tmp_path / "from"))
    target = place(kind, tmp_path / "to")
    await moved(source, target)
    await changed(target, "update objects set body = replace(body, 'body 3', 'body 8')")
    await changed(
        target,
        "update parts set owners = set_byte(owners, 0, 7) where length(owners) > 0",
        "update parts set owners = cast(x'00' || substr(owners, 2) as blob)",
    )
    await changed(target, "update stores set trust = trust + 0.00001 where number = 5")
    report = await moved(source, target, verify_only=True)
    assert list(map(str, report.differences)) == [
        "objects id é中😀 0003 differs in body",
        "stores 5 differs in trust",
        "parts 1/1 differs in owners",
    ]
    assert report.differing > 3
    assert len({*map(str, report.differences)}) == 3


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_rows_too_few_or_too_many_are_found(kind: str, tmp_path: Path) -> None:
    source = await filled(place("sqlite", tmp_path / "from"))
    target = place(kind, tmp_path / "to")
    await moved(source, target)
    await changed(target, "delete from chunks where ordinal in (2, 6)")
    await changed(target, "update events set seq_from = 99 where seq_from = 4")
    extra = "insert into keys (id, project, hash, prefix, name, created_at) values "
    await changed(
        target, extra + "('key_x', 'p', 'h', 'p', 'n', 1), ('key_y', 'p', 'i', 'p', 'n', 1)"
    )
    report = await moved(source, target, verify_only=True)
    assert list(map(str, report.differences)) == [
        "keys key_x is only at the target",
        "events run_id é中😀 0004/4/4 is not at the target",
        "chunks 2/2 is not at the target",
    ]
    assert report.differing == 2 + 2 + 2


async def test_a_number_that_would_be_given_twice_is_found(tmp_path: Path) -> None:
    source = await filled(place("sqlite", tmp_path / "from"))
    target = place("sqlite", tmp_path / "to")
    await moved(source, target)
    await changed(target, "update sqlite_sequence set seq = 7 where name = 'documents'")
    report = await moved(source, target, verify_only=True)
    assert list(map(str, report.differences)) == ["documents number would be given twice"]


async def test_a_source_that_changed_between_two_lives_is_found(tmp_path: Path) -> None:
    """A server ran on it although the copy was not finished. The copy stays marked."""
    source = await filled(place("sqlite", tmp_path / "from"))
    target = place("sqlite", tmp_path / "to")
    async with opened(source) as one, opened(target) as other:
        with pytest.raises(Dead):
            await move(Sides(one, mortal(other, Fate(6)), None), tell)
    await changed(source, "update objects set version = 99 where seq = 2")
    report = await moved(source, target)
    assert list(map(str, report.differences)) == ["objects id é中😀 0002 differs in version"]
    async with opened(target) as other:
        assert await other.copying() is not None


async def test_what_a_newer_version_has_made_is_refused(tmp_path: Path) -> None:
    """A column that nobody here knows would be left behind without a word."""
    source = await filled(place("sqlite", tmp_path / "from"))
    await changed(source, "alter table jobs add column later text")
    plan = Plan(source, place("sqlite", tmp_path / "to"), None, verify_only=False)
    with pytest.raises(CannotStart, match=r"newer version, for it has jobs\.later"):
        async with opened_sides(plan, {}):
            pass


async def test_an_unfinished_copy_is_no_source(tmp_path: Path) -> None:
    source = await filled(place("sqlite", tmp_path / "from"))
    async with opened(source) as record:
        await record.begin("x")
    plan = Plan(source, place("sqlite", tmp_path / "to"), None, verify_only=False)
    with pytest.raises(CannotStart, match="itself a copy that is not finished"):
        async with opened_sides(plan, {}):
            pass
