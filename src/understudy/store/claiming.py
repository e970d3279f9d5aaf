"""Claiming: what a claim took is known, also when its answer was lost on the way."""

from collections.abc import Sequence

from understudy.store import Database, Row, Statement, Unavailable


async def claimed(database: Database, claim: Statement) -> Sequence[Row]:
    """The jobs that a claim leased. Of one whose answer was lost its moment tells them, else nobody
    would work on these until their leases are over; one that took nothing is made once more."""
    for is_last in (False, True):
        try:
            [rows] = await database.commit([claim])
        except Unavailable:
            place = {name: claim.args[name] for name in ("owner", "lease_until")}
            if rows := await database.fetch("claimed", place):
                return rows
            if is_last:
                raise
        else:
            return rows
    raise AssertionError("the last attempt returns or raises")
