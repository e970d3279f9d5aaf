"""Moving a record with its blobs: the tables, the blobs, then both once more to compare them.

The target is marked as unfinished from before its first row until all of it was found equal, and no
server opens it meanwhile. Whatever is interrupted is gone on with by the same command.
"""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from understudy.blobs import Blobs, BlobsUnavailable, open_blobs
from understudy.server import CannotStart
from understudy.settings import SettingsError
from understudy.store.tables import (
    TABLES,
    NoRecord,
    Progress,
    Side,
    Tables,
    open_tables,
    unknown_columns,
)
from understudy.transfer.blobs import copy_blobs, counted, verify_blobs
from understudy.transfer.copying import copy_table
from understudy.transfer.plan import Plan
from understudy.transfer.progress import Tell
from understudy.transfer.verifying import Difference, verify_table


@dataclass
class Line:
    """A table of the report, or the blobs: what there is of it and how long it took now."""

    name: str
    count: int = 0
    size_bytes: int = 0
    copied_s: float | None = None
    verified_s: float | None = None
    checksum: str = ""


@dataclass
class Report:
    """What was done, and what is not the same."""

    lines: dict[str, Line] = field(default_factory=dict)
    replaced: int = 0
    resumed_rows: int = 0
    differences: list[Difference] = field(default_factory=list)
    differing: int = 0

    def line(self, name: str) -> Line:
        """That of a table."""
        return self.lines.setdefault(name, Line(name))


@dataclass(frozen=True)
class Sides:
    """All that takes part, open. Without a target only blobs are moved."""

    source: Tables
    target: Tables | None
    blobs: tuple[Blobs, Blobs] | None


async def move(sides: Sides, tell: Tell, *, verify_only: bool = False) -> Report:
    """Copy and verify, or only verify. CannotStart when a server is at work, or the target holds
    something else. Dying at any await, the target is marked as unfinished and can be gone on with.
    """
    source, target, report = sides.source, sides.target, Report()
    await _require_rest(sides)
    totals = {table.name: await source.count(table) for table in TABLES}
    if target is not None and not verify_only:
        await _copy(source, target, totals, report, tell)
    if sides.blobs is not None:
        await _move_blobs(source, sides.blobs, report, tell, verify_only=verify_only)
    if target is not None:
        await _verify(source, target, totals, report, tell)
    await _require_rest(sides)
    if target is not None and not verify_only and not report.differing:
        await target.finish()
    return report


async def _copy(
    source: Tables, target: Tables, totals: Mapping[str, int], report: Report, tell: Tell
) -> None:
    begun = await _begun(source, target)
    report.resumed_rows = sum(progress.rows for progress in begun.values())
    for table in TABLES:
        started_at = time.monotonic()
        progress = begun.get(table.name, Progress(table.name))
        progress = await copy_table(source, target, progress, table, totals[table.name], tell)
        report.line(table.name).copied_s = time.monotonic() - started_at
        report.replaced += progress.replaced
    counters = [table for table in TABLES if table.counter]
    await target.settle({table.name: await source.last_number(table) for table in counters})


async def _begun(source: Tables, target: Tables) -> Mapping[str, Progress]:
    """How far the copy is that the target holds; a new one is begun where nothing is."""
    identity = await source.identity()
    copying = await target.copying()
    if copying is not None:
        if copying.source != identity:
            raise CannotStart(
                "The target holds an unfinished copy of another record. Finish that one, or take "
                "an empty database."
            )
        return copying.progress
    for table in TABLES:
        if await target.read(table, None, 1, 1):
            raise CannotStart(
                f"The target is not empty: its table {table.name} has rows. Take an empty "
                "database, or an empty schema of one; --verify-only compares what is there."
            )
    await target.begin(identity)
    return {}


async def _verify(
    source: Tables, target: Tables, totals: Mapping[str, int], report: Report, tell: Tell
) -> None:
    for table in TABLES:
        started_at = time.monotonic()
        verified = await verify_table(source, target, table, totals[table.name], tell)
        line = report.line(table.name)
        line.count, line.size_bytes = verified.rows, verified.size_bytes
        line.verified_s = time.monotonic() - started_at
        line.checksum = verified.checksums[0]
        report.differing += verified.differing
        if verified.first is not None:
            report.differences.append(verified.first)


async def _move_blobs(
    record: Tables, blobs: tuple[Blobs, Blobs], report: Report, tell: Tell, *, verify_only: bool
) -> None:
    total = (await counted(record)).count
    line = report.line("blobs")
    if not verify_only:
        started_at = time.monotonic()
        await copy_blobs(record, *blobs, total, tell)
        line.copied_s = time.monotonic() - started_at
    started_at = time.monotonic()
    moved = await verify_blobs(record, *blobs, total, tell)
    line.count, line.size_bytes = moved.count, moved.size_bytes
    line.verified_s = time.monotonic() - started_at
    report.differing += moved.differing
    report.differences += moved.differences


async def _require_rest(sides: Sides) -> None:
    """No server is at work on either side, neither before it begins nor when it has ended: what one
    did meanwhile may be missing."""
    for name, side in (("source", sides.source), ("target", sides.target)):
        if side is not None and (servers := await side.servers()):
            raise CannotStart(
                f"A server is at work on the {name}: {', '.join(servers)}. Stop it first; one "
                "that was killed counts for half a minute."
            )


# Opening.


@asynccontextmanager
async def opened(plan: Plan, options: Mapping[str, str]) -> AsyncIterator[Sides]:
    """All sides of a plan, closed in the end; `options` are those of remote blobs."""
    async with AsyncExitStack() as stack:
        source = await _opened_tables("--from", plan.source, "source", stack)
        if not plan.verify_only and await source.copying() is not None:
            raise CannotStart("The source is itself a copy that is not finished.")
        target = None
        if plan.target is not None:
            side: Side = "source" if plan.verify_only else "target"
            target = await _opened_tables("--to", plan.target, side, stack)
        blobs = None
        if plan.blobs is not None:
            first, second = (_opened_blobs(url, options, stack) for url in plan.blobs)
            blobs = (first, second)
        yield Sides(source, target, blobs)


async def _opened_tables(flag: str, url: str, side: Side, stack: AsyncExitStack) -> Tables:
    """A record. Errors name its flag: a URL that cannot be read may show its password."""
    try:
        tables = await open_tables(url, side)
    except NoRecord as error:
        raise CannotStart(str(error)) from error
    except ValueError as error:
        raise SettingsError(f"{flag}: {error}") from error
    stack.push_async_callback(tables.close)
    unknown = unknown_columns(await tables.columns())
    if unknown:
        raise CannotStart(
            f"{flag}: this record was made by a newer version, for it has "
            f"{', '.join(unknown)}. Move it with that one."
        )
    return tables


def _opened_blobs(url: str, options: Mapping[str, str], stack: AsyncExitStack) -> Blobs:
    try:
        blobs = open_blobs(url, options)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    except BlobsUnavailable as error:
        raise CannotStart(f"Cannot open a place for files: {error}") from error
    stack.push_async_callback(blobs.close)
    return blobs
