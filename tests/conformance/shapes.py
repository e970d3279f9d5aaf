"""The changes that the suite makes, with everything filled in that a test does not care about."""

from understudy.store import Statement, changes

PROJECT = "proj_a"
OTHER = "proj_b"


def thread(id: str = "thread_1", *, project: str = PROJECT) -> Statement:
    """A thread."""
    return changes.insert_object(
        "thread", id=id, project=project, parent=None, created_at=100.0, body=b"{}"
    )


def message(
    id: str,
    *,
    at: float = 100.0,
    parent: str = "thread_1",
    project: str = PROJECT,
    run_id: str | None = None,
) -> Statement:
    """A message of a thread."""
    value = "null" if run_id is None else f'"{run_id}"'
    body = f'{{"id":"{id}","run_id":{value}}}'.encode()
    return changes.insert_object(
        "message", id=id, project=project, parent=parent, created_at=at, body=body
    )


def job(
    id: str,
    *,
    kind: str = "run",
    project: str = PROJECT,
    thread_id: str | None = None,
    due_at: float = 100.0,
    expires_at: float | None = None,
    fence: int = 0,
    owner: str | None = None,
    until: float | None = None,
    next_call: str | None = None,
) -> Statement:
    """A job; a thread of its own when none is named."""
    return changes.insert_job(
        id,
        kind=kind,
        project=project,
        thread_id=thread_id or f"thread of {id}",
        due_at=due_at,
        expires_at=expires_at,
        fence=fence,
        lease_owner=owner,
        lease_until=until,
        next_call=next_call,
    )
