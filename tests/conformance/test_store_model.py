"""Random commits on every Database against a model made of dictionaries."""

import asyncio
import tempfile
from collections.abc import Sequence
from functools import partial
from itertools import combinations, permutations
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.conformance.databases import DATABASES
from tests.conformance.shapes import PROJECT, job
from understudy.store import Conflict, Database, Statement, changes
from understudy.store.store import Store

Changes: TypeAlias = list[tuple[str, str, int]]  # Those of one commit.

THREADS = ["thread_0", "thread_1", "thread_2"]
CHANGES = st.tuples(
    st.sampled_from(["insert", "update", "delete", "grow", "start", "stop"]),
    st.sampled_from(THREADS),
    st.integers(0, 3),
)
LIMIT = 4
# What a commit must not do, as the seam says.
REPLACING = {("delete", "insert"), ("stop", "start")}


def replaces(commit: Sequence[tuple[str, str, int]]) -> bool:
    """Whether a row is removed, and one with the same id is made in its place."""
    pairs = combinations(commit, 2)
    return any(one[1] == two[1] and (one[0], two[0]) in REPLACING for one, two in pairs)


COMMITS = st.lists(CHANGES, min_size=1, max_size=4).filter(lambda commit: not replaces(commit))


class Refused(Exception):
    """The model refuses a commit."""


class Model:
    """What the store should hold: bodies, versions and children of threads, and their runs."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[int, int, int]] = {}  # id → (value, version, children)
        self.runs: dict[str, str] = {}  # thread → run

    def apply(self, name: str, thread: str, n: int) -> None:
        """One change, or Refused."""
        known = self.objects.get(thread)
        if name == "insert":
            self._demand(known is None)
            self.objects[thread] = (n, 1, 0)
        elif name == "start":
            self._demand(thread not in self.runs)
            self.runs[thread] = f"run of {thread}"
        elif name == "stop":
            self._demand(thread in self.runs)
            del self.runs[thread]
        else:
            self._demand(known is not None)
            assert known is not None
            self._change(name, thread, n, known)

    def _change(self, name: str, thread: str, n: int, known: tuple[int, int, int]) -> None:
        value, version, children = known
        if name == "delete":
            del self.objects[thread]
        elif name == "update":
            self._demand(n in (0, version))
            self.objects[thread] = (n, version + 1, children)
        else:
            self._demand(children + n <= LIMIT)
            self.objects[thread] = (value, version, children + n)

    @staticmethod
    def _demand(is_so: bool) -> None:
        if not is_so:
            raise Refused

    def copy(self) -> "Model":
        """The same, apart."""
        copy = Model()
        copy.objects, copy.runs = dict(self.objects), dict(self.runs)
        return copy


def statements(name: str, thread: str, n: int) -> Statement | tuple[Statement, ...]:
    """The same change, for the store."""
    body = str(n).encode()
    match name:
        case "insert":
            return changes.insert_object(
                "thread", id=thread, project=PROJECT, parent=None, created_at=1.0, body=body
            )
        case "update":
            return changes.update_object(
                thread, project=PROJECT, body=body, private=None, version=n or None
            )
        case "delete":
            return changes.delete_object(thread, kind="thread", project=PROJECT)
        case "grow":
            return changes.grow(thread, project=PROJECT, by=n, limit=LIMIT)
        case "start":
            return job(f"run of {thread}", thread_id=thread)
        case _:
            return changes.delete_job(f"run of {thread}", fence=0)


class Commits(RuleBasedStateMachine):
    """Batches of commits; each is applied whole or not at all."""

    database = "sqlite-memory"

    @initialize()
    def open(self) -> None:
        """An empty store and an empty model."""
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.store = Store(self.runner.run(self._opened()))
        self.model = Model()

    async def _opened(self) -> Database:
        return await DATABASES[self.database](Path(self.folder.name))

    @rule(commits=st.lists(COMMITS, min_size=1, max_size=5))
    def commit(self, commits: list[Changes]) -> None:
        """Several callers at once: what they hear, and what the store holds, is as if they had come
        one after the other. Only what two of them made at the same time may be listed in turns: a
        place in the list is given before the commit (a sequence, in PostgreSQL)."""
        outcomes = self.runner.run(self._send(commits))
        for outcome in outcomes:
            assert isinstance(outcome, list | Conflict), outcome
        heard = [
            (commit, isinstance(one, list)) for commit, one in zip(commits, outcomes, strict=True)
        ]
        found, listed, runs = self.runner.run(self._held())
        for order in permutations(heard):
            model = self._after(order)
            if model is None or (model.objects, model.runs) != (found, runs):
                continue
            if self._may_be_listed(listed, list(model.objects), order):
                model.objects = {thread: found[thread] for thread in listed}
                self.model = model
                return
        raise AssertionError(f"{heard} cannot lead to {(listed, found, runs)}")

    def _after(self, order: Sequence[tuple[Changes, bool]]) -> Model | None:
        """The model after these commits in this order; None when it would answer otherwise."""
        model = self.model
        for commit, is_applied in order:
            attempt = model.copy()
            try:
                for change in commit:
                    attempt.apply(*change)
            except Refused:
                if is_applied:
                    return None
            else:
                if not is_applied:
                    return None
                model = attempt
        return model

    def _may_be_listed(
        self, listed: list[str], serially: list[str], order: Sequence[tuple[Changes, bool]]
    ) -> bool:
        """Whether what was there is first, and what a commit made is in the order it made it."""
        makers = {
            thread: number
            for number, (commit, is_applied) in enumerate(order, 1)
            for name, thread, _ in commit
            if is_applied and name == "insert"
        }
        before = [thread for thread in serially if thread not in makers]
        by_maker = partial(sorted, key=lambda thread: makers.get(thread, 0))  # Stable.
        return listed[: len(before)] == before and by_maker(listed) == by_maker(serially)

    async def _send(self, commits: list[Changes]) -> list[object]:
        calls = [
            self.store.commit(*[statements(*change) for change in commit]) for commit in commits
        ]
        return list(await asyncio.gather(*calls, return_exceptions=True))

    @invariant()
    def the_store_holds_what_the_model_holds(self) -> None:
        """Bodies, versions, children, order and thread locks."""
        if hasattr(self, "store"):
            model = self.model
            held = self.runner.run(self._held())
            assert held == (model.objects, list(model.objects), model.runs)

    async def _held(self) -> tuple[dict[str, tuple[int, int, int]], list[str], dict[str, str]]:
        """What the store holds, as a model has it, and in what order."""
        page, _ = await self.store.list(
            "thread", PROJECT, None, limit=9, order="asc", after=None, before=None
        )
        found = {}
        for listed in page:
            record = await self.store.get("thread", PROJECT, listed.id)
            assert record and (record.body, record.version) == (listed.body, listed.version)
            found[record.id] = (int(record.body), record.version, record.children)
        active = {thread: await self.store.active_run(thread) for thread in THREADS}
        return found, list(found), {thread: job.id for thread, job in active.items() if job}

    def teardown(self) -> None:
        """Close what was opened."""
        if hasattr(self, "store"):
            self.runner.run(self.store.close())
            self.runner.close()
            self.folder.cleanup()


@pytest.mark.parametrize("database", sorted(DATABASES))
def test_random_commits_agree_with_a_model(database: str) -> None:
    """The stateful test, on this database."""
    machine = type("CommitsHere", (Commits,), {"database": database})
    machine.TestCase.settings = settings(  # type: ignore[attr-defined]
        max_examples=30,
        stateful_step_count=15,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    machine.TestCase().runTest()  # type: ignore[attr-defined]
