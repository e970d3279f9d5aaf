"""Random changes of vector stores on every Database against a model made of dictionaries."""

import asyncio
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.conformance.databases import DATABASES
from tests.conformance.indexing import begun, cleaned, moved, part, place, vector_store
from tests.conformance.shapes import PROJECT
from understudy.store import Conflict, Database, Statement, changes, index_changes
from understudy.store.store import Store

STORES = ["vs_1", "vs_2"]
FILES = ["file-1", "file-2", "file-3"]
Place = tuple[str, str]


@dataclass
class Building:
    """A document that is being built."""

    number: int
    chunks: list[int] = field(default_factory=list)  # Of each part.


@dataclass
class Model:
    """What the record should hold."""

    stores: dict[str, int] = field(default_factory=dict)  # Store → its version.
    places: dict[Place, str] = field(default_factory=dict)  # File in a store → its status.
    building: dict[Place, Building] = field(default_factory=dict)
    ready: dict[Place, Building] = field(default_factory=dict)

    def drop(self, place: Place) -> None:
        """The document of a place goes."""
        self.building.pop(place, None)
        if self.ready.pop(place, None) is not None:
            self.stores[place[0]] += 1

    def forget(self, place: Place) -> None:
        """The place goes, with its document."""
        del self.places[place]
        self.drop(place)


PLACES = st.tuples(st.sampled_from(STORES), st.sampled_from(FILES))


class Stores(RuleBasedStateMachine):
    """Files come into stores, are indexed, and leave them again, in any order."""

    database = "sqlite-memory"

    @initialize()
    def open(self) -> None:
        """An empty record and an empty model."""
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.store = Store(self.runner.run(self._opened()))
        self.model = Model()
        self.numbers: dict[str, int] = {}

    async def _opened(self) -> Database:
        return await DATABASES[self.database](Path(self.folder.name))

    @rule(id=st.sampled_from(STORES))
    def make(self, id: str) -> None:
        """A store, if it is not there."""
        if id not in self.model.stores:
            self.runner.run(self.store.commit(vector_store(id)))
            [row] = self.runner.run(self.store.indexes(PROJECT, [id]))
            assert row.number not in self.numbers.values(), "a number is never used again"
            self.numbers[id] = row.number
            self.model.stores[id] = 0

    @rule(at=PLACES)
    def attach(self, at: Place) -> None:
        """A file comes into a store, or is processed anew."""
        status = self.model.places.get(at)
        if at[0] not in self.model.stores or status in ("in_progress", "completed"):
            return
        if status is None:
            self.runner.run(self.store.commit(place(*at)))
        else:
            drop = index_changes.drop_document(*at, project=PROJECT, now=1.0)
            self.runner.run(self.store.commit(moved(*at, "in_progress"), drop))
            self.model.drop(at)
        self.model.places[at] = "in_progress"

    @rule(at=PLACES, chunks=st.integers(1, 3))
    def index(self, at: Place, chunks: int) -> None:
        """The next part of a file; who works on it does not know what happened meanwhile."""
        if at[0] not in self.model.stores:
            return
        waits = index_changes.require_store_file("/".join(at), project=PROJECT)
        known = self.model.building.get(at)
        is_fine = self.model.places.get(at) == "in_progress"
        if known is None:
            if is_fine:
                number = self.runner.run(begun(self.store, at[1], at[0]))
                self.model.building[at] = Building(number)
            return
        add = part(self.numbers[at[0]], known.number, len(known.chunks), chunks=chunks)
        assert self._commits(waits, *add) == is_fine
        if is_fine:
            known.chunks.append(chunks)

    @rule(at=PLACES)
    def complete(self, at: Place) -> None:
        """The document of a file is complete."""
        known = self.model.building.get(at)
        if known is not None and self.model.places.get(at) == "in_progress":
            ready = index_changes.ready_document(known.number, attributes=b"{}")
            assert self._commits(moved(*at, "completed"), *ready)
            self.model.places[at] = "completed"
            self.model.ready[at] = self.model.building.pop(at)
            self.model.stores[at[0]] += 1

    @rule(at=PLACES)
    def fail(self, at: Place) -> None:
        """A file cannot be indexed."""
        if self.model.places.get(at) == "in_progress":
            drop = index_changes.drop_document(*at, project=PROJECT, now=1.0)
            assert self._commits(moved(*at, "failed"), *drop)
            self.model.places[at] = "failed"
            self.model.drop(at)

    @rule(at=PLACES)
    def cancel(self, at: Place) -> None:
        """A client does not want it any more; what was begun of it stays for now."""
        if self.model.places.get(at) == "in_progress":
            assert self._commits(moved(*at, "cancelled"))
            self.model.places[at] = "cancelled"

    @rule(at=PLACES)
    def detach(self, at: Place) -> None:
        """A file leaves a store."""
        forget = index_changes.forget_store_file(*at, project=PROJECT, now=1.0)
        assert self._commits(*forget) == (at in self.model.places)
        if at in self.model.places:
            self.model.forget(at)

    @rule(file=st.sampled_from(FILES))
    def delete_file(self, file: str) -> None:
        """A file leaves all stores."""
        assert self._commits(*index_changes.forget_file(file, project=PROJECT, now=1.0))
        for at in [at for at in self.model.places if at[1] == file]:
            self.model.forget(at)

    @rule(id=st.sampled_from(STORES))
    def delete_store(self, id: str) -> None:
        """A store goes; its places are removed at once here."""
        forget = index_changes.forget_store(id, project=PROJECT, now=1.0)
        assert self._commits(*forget) == (id in self.model.stores)
        if id in self.model.stores:
            self.runner.run(self._purge(id))
            for at in [at for at in self.model.places if at[0] == id]:
                self.model.forget(at)
            del self.model.stores[id]

    @rule(id=st.sampled_from(STORES))
    def end(self, id: str) -> None:
        """The ingestion of a store ends; a finished one leaves nothing half built."""
        if id in self.model.stores:
            is_done = "in_progress" not in [
                status for at, status in self.model.places.items() if at[0] == id
            ]
            abandon = index_changes.abandon_documents(self.numbers[id])
            assert self._commits(index_changes.all_ingested(id), abandon) == is_done
            for at in [at for at in self.model.building if at[0] == id and is_done]:
                self.model.drop(at)

    @rule()
    def clean_up(self) -> None:
        """What is gone is removed."""
        self.runner.run(cleaned(self.store, chunks=2))

    @invariant()
    def the_record_holds_what_the_model_holds(self) -> None:
        """Counts, sums, versions, documents and what searches read of them."""
        if hasattr(self, "store"):
            for id in STORES:
                self.runner.run(self._compare(id))

    def _commits(self, *statements: Statement) -> bool:
        try:
            self.runner.run(self.store.commit(*statements))
        except Conflict:
            return False
        return True

    async def _purge(self, id: str) -> None:
        while any(await self.store.commit(changes.purge_children(id, limit=2))):
            pass

    async def _compare(self, id: str) -> None:
        rows = await self.store.indexes(PROJECT, [id])
        facts = (await self.store.store_facts([id])).get(id)
        if id not in self.model.stores:
            assert rows == []
            assert facts is None
            return
        statuses = [status for at, status in self.model.places.items() if at[0] == id]
        assert facts is not None
        assert facts.files == {status: statuses.count(status) for status in set(statuses)}
        ready = {at[1]: built for at, built in self.model.ready.items() if at[0] == id}
        chunks = sum(sum(built.chunks) for built in ready.values())
        [row] = rows
        assert (row.chunks, row.words, row.trust) == (chunks, 3 * chunks, 0.5 * chunks)
        assert (row.size_bytes, row.version) == (10 * chunks, self.model.stores[id])
        documents = await self.store.ready_documents(row.number)
        assert {one.file_id: one.number for one in documents} == {
            file: built.number for file, built in ready.items()
        }
        for file, built in ready.items():
            texts = await self.store.text(built.number, start=0, limit=99)
            assert len(texts) == sum(built.chunks), file
        names, total = await self.store.file_names(PROJECT, [id], limit=1)
        assert (len(names), total) == (min(1, len(ready)), len(ready))
        await self._compare_postings(row.number, id)

    async def _compare_postings(self, store: int, id: str) -> None:
        """Each part has its postings once; what is gone may still have some."""
        expected = [
            built.number
            for built in [*self.model.ready.values(), *self.model.building.values()]
            for _ in built.chunks
        ]
        found = [document for _, document, _ in await self.store.postings([store], ["apple"])]
        alive = {
            built.number
            for known in (self.model.ready, self.model.building)
            for at, built in known.items()
            if at[0] == id
        }
        assert sorted(one for one in found if one in alive) == sorted(
            one for one in expected if one in alive
        )

    def teardown(self) -> None:
        """Everything goes: nothing is left, whatever happened before."""
        if hasattr(self, "store"):
            self.runner.run(self._empty())
            self.runner.run(self.store.close())
            self.runner.close()
            self.folder.cleanup()

    async def _empty(self) -> None:
        for id in self.model.stores:
            await self.store.commit(index_changes.forget_store(id, project=PROJECT, now=1.0))
        await cleaned(self.store, chunks=3)
        assert await self.store.postings(list(self.numbers.values()), ["apple", "pear"]) == []
        for number in range(1, 200):
            assert await self.store.text(number, start=0, limit=1) == []


@pytest.mark.parametrize("database", sorted(DATABASES))
def test_random_lives_of_files_agree_with_a_model(database: str) -> None:
    """The stateful test, on this database."""
    machine = type("StoresHere", (Stores,), {"database": database})
    machine.TestCase.settings = settings(  # type: ignore[attr-defined]
        max_examples=20,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    machine.TestCase().runTest()  # type: ignore[attr-defined]
