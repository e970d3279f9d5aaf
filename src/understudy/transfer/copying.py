"""Copying tables, batch by batch, from where an earlier copy stopped."""

from collections.abc import Sequence
from contextlib import aclosing

from understudy.store import Row
from understudy.store.tables import Progress, Table, Tables
from understudy.transfer.progress import Tell
from understudy.transfer.rows import at_rest, encode, pages


async def copy_table(
    source: Tables, target: Tables, progress: Progress, table: Table, total: int, tell: Tell
) -> Progress:
    """Copy what is not there yet. Dying at any await, the target has the rows of whole batches and
    knows which was the last."""
    if progress.is_done:
        return progress
    async with aclosing(pages(source, table, progress.place)) as found:
        async for rows in found:
            kept = target.storable(table, at_rest(table, rows))
            progress = Progress(
                table.name,
                place=source.place(table, rows[-1]),
                rows=progress.rows + len(rows),
                size_bytes=progress.size_bytes + sum(len(encode(row)) for row in kept),
                replaced=progress.replaced + _replaced(table, rows, kept),
            )
            await target.write(table, kept, progress)
            tell(f"copying {table.name}", progress.rows, total, progress.size_bytes)
    done = Progress(
        table.name, progress.place, progress.rows, progress.size_bytes, progress.replaced, True
    )
    await target.write(table, [], done)
    return done


def _replaced(table: Table, rows: Sequence[Row], kept: Sequence[Row]) -> int:
    """How many texts the target cannot hold as they are."""
    if kept is rows:
        return 0
    return sum(
        before[place] != after[place]
        for before, after in zip(rows, kept, strict=True)
        for place in table.text_places
    )
