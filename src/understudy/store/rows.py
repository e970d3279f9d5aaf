"""Records from the rows that statements give."""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from itertools import groupby
from operator import itemgetter

from understudy.store import Row
from understudy.store.records import Begun, Claimed, Job, Listed, Record

_JOB_COLUMNS = len(fields(Job))


def listed(row: Row) -> Listed:
    """An object on a page."""
    id, version, body, private = row
    return Listed(id, version, body.encode(), None if private is None else private.encode())


def record(row: Row) -> Record:
    """An object with its place."""
    id, kind, project, parent, created_at, seq, version, children, body, private = row
    return Record(
        id,
        version,
        body.encode(),
        None if private is None else private.encode(),
        kind,
        project,
        parent or None,
        created_at,
        seq,
        children,
    )


def claims(rows: Sequence[Row]) -> Iterator[Claimed]:
    """From the rows of a claim: of each job one, or one for each of what was read along."""
    for _, of_job in groupby(rows, itemgetter(0)):
        first, *others = of_job
        along = [row[_JOB_COLUMNS:] for row in (first, *others)]
        has_any = len(along[0]) > 0 and along[0][0] is not None
        yield Claimed(job(first[:_JOB_COLUMNS]), begun(along) if has_any else None)


def begun(rows: Sequence[Row]) -> Begun:
    """The run has place 0, the messages of its thread are counted from 1."""
    of_run = [row[1:] for row in rows if row[0] == 0]
    newest = [row[1:] for row in rows if row[0] > 0]
    return Begun(listed(of_run[0]) if of_run else None, newest)


def job(row: Row) -> Job:
    """A job; SQLite has no booleans, and the last column but one is one."""
    return Job(*(*row[:-2], bool(row[-2]), row[-1]))


def has_body(row: Row) -> bool:
    """Whether the body of an object on a page was read."""
    _, _, body, _ = row
    return body is not None
