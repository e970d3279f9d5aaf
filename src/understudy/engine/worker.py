"""Worker: claims jobs, keeps their leases alive, and shuts down gracefully.

The bell wakes it; a poll is the safety net. Four things that a prototype got wrong are tests
(SCALE section 4): a task removes only its own entry; a heartbeat's answer is compared with the
snapshot it was asked for; a task that is cancelled before it began still lets go; and no write
is repeated blindly.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Literal, TypeAlias

import structlog

from understudy import __version__, limits
from understudy.engine.app import App
from understudy.engine.beginning import Beginning
from understudy.engine.deletions import Deletions
from understudy.engine.drive import drive
from understudy.engine.files import clean_upload, delete_blob, expire_file
from understudy.engine.ingest import clean_up, ingest
from understudy.engine.lease import Lease, Reason
from understudy.engine.live_log import LiveLog
from understudy.store import Unavailable, changes
from understudy.store.records import Begun, Claimed

# What a server does: everything, only the API, or only the jobs.
Role: TypeAlias = Literal["serve", "api", "worker"]

_log = structlog.get_logger()


async def _purge(app: App, lease: Lease) -> None:
    """Removes the children of a deleted thread or vector store, a batch per commit."""
    app.index.forget(lease.id)
    for _ in range(limits.PURGE_BATCHES):
        removed = await app.store.commit(
            changes.purge_children(lease.id, limit=limits.DELETE_BATCH)
        )
        if not any(removed):
            await app.store.commit(changes.delete_job(lease.id, fence=lease.fence))
            return
    again = app.world.now()
    await app.store.commit(changes.rest_job(lease.id, fence=lease.fence, due_at=again))


# Job kind → what a worker does with it; a run is driven.
JOBS: dict[str, Callable[[App, Lease], Coroutine[Any, Any, None]]] = {
    "purge": _purge,
    "blob": delete_blob,
    "expire": expire_file,
    "upload": clean_upload,
    "ingest": ingest,
    "clean_up": clean_up,
}

# The loops that claim, and what wakes them.
_CLAIMS = {"claim": "jobs", "ingest": "ingest"}


class Worker:
    """Works on jobs from `start` to `drain`. It gets its App at the start, which holds it too."""

    def __init__(
        self, boot_id: str, *, runs_at_once: int, is_alone: bool, role: Role = "serve"
    ) -> None:
        self._boot_id = boot_id
        self._role = role
        self._runs_at_once = 0 if role == "api" else runs_at_once
        self._is_alone = is_alone  # The only process on this record: other leases are dead.
        self._held: dict[str, Lease] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._used: Counter[str] = Counter()  # Slots by project: held, or reserved by a door.
        self._ingesting = 0  # Stores whose files are being indexed; they have slots of their own.
        self._has_backlog = False  # Due jobs wait for a slot, so a new run must not overtake.
        self._is_draining = False
        self._app: App | None = None
        self.context_tokens: dict[str, int] = {}  # Windows that providers named, by model.
        self.deletions = Deletions()

    @property
    def app(self) -> App:
        """The App this worker was started with."""
        assert self._app is not None, "the worker was started"
        return self._app

    @property
    def is_alone(self) -> bool:
        """Whether no other server shares the record."""
        return self._is_alone

    @property
    def is_draining(self) -> bool:
        """Whether this process is about to stop."""
        return self._is_draining

    @property
    def live_runs(self) -> int:
        """How many jobs are being worked on."""
        return len(self._held)

    async def start(self, app: App) -> None:
        """Begin to work."""
        self._app = app
        now = app.world.now()
        if self._is_alone:
            await app.store.free_leases(owner=self._boot_id, now=now)
        loops: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {}
        if self._role != "api":
            loops |= {
                "claim": self._claim_loop,
                "ingest": self._ingest_loop,
                "heartbeat": self._heartbeat_loop,
                "janitor": self._janitor_loop,
            }
            if not self._is_alone:
                loops["sessions"] = self._sessions_loop
        if not self._is_alone:
            _log.info("node started", node=self._boot_id, role=self._role)
            loops |= {"presence": self._presence_loop, "cancels": self._cancel_loop}
        self._loops = [
            asyncio.create_task(self._kept_up(name, loop), name=name)
            for name, loop in loops.items()
        ]

    async def drain(self, timeout_s: float = limits.DRAIN_S) -> None:
        """Claim nothing more, let live runs finish for a while, hand over the rest."""
        self._is_draining = True
        clock = self.app.world.monotonic
        over_at = clock() + timeout_s
        await self._end_claims(timeout_s)
        for lease in self._held.values():
            if lease.job.kind == "ingest":
                lease.interrupt("drain")  # It may take hours, and goes on where it stopped.
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=max(0.0, over_at - clock()))
        for lease in list(self._held.values()):
            lease.interrupt("drain")
        for loop in self._loops:
            loop.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1.0)
        await asyncio.gather(*self._loops, return_exceptions=True)
        if not self._is_alone:
            with suppress(Unavailable):
                await self.app.store.commit(changes.drop_node(self._boot_id))

    async def _end_claims(self, timeout_s: float) -> None:
        """What a claim on its way has leased is known then: it is worked on, or handed over."""
        claims = [loop for loop in self._loops if loop.get_name() in _CLAIMS]
        for topic in _CLAIMS.values():
            self.app.bell.ring_here(topic)
        if claims:
            await asyncio.wait(claims, timeout=timeout_s)

    # Slots and leases that a door makes for a run it creates.

    def reserve(self, project: str) -> bool:
        """Take a slot for a run that is about to be committed with its lease.

        False when it has to wait its turn: no slot is free, the project has its share, or others
        wait already.
        """
        is_closed = self._is_draining or self._has_backlog or self._free <= 0
        if is_closed or self._used[project] >= limits.RUNS_PER_PROJECT:
            return False
        self._used[project] += 1
        return True

    def release(self, project: str) -> None:
        """The reserved slot is not needed, or `adopt` takes it over in the same moment."""
        self._used[project] -= 1
        if not self._used[project]:
            del self._used[project]
        if self._has_backlog:
            self.app.bell.ring_here("jobs")  # The others would look in vain: the slot is ours.

    def adopt(self, lease: Lease, live: LiveLog, beginning: Beginning) -> None:
        """Drive a run that is committed already leased."""
        self._work(lease, drive(self.app, lease, live, beginning))

    def goes_on_with(self, id: str) -> bool:
        """Whether the job is worked on here, or still may be before the server stops."""
        lease = self._held.get(id)
        return not self._is_draining or (lease is not None and lease.reason != "drain")

    def interrupt(self, id: str, reason: Reason) -> Lease | None:
        """Interrupt the work on a job, if it is done here; its lease, to wait for."""
        lease = self._held.get(id)
        if lease is not None:
            lease.interrupt(reason)
        return lease

    @property
    def _free(self) -> int:
        return self._runs_at_once - self._used.total()

    def _work(self, lease: Lease, work: Coroutine[Any, Any, None]) -> None:
        self._held[lease.id] = lease
        if lease.job.kind == "ingest":
            self._ingesting += 1
        else:
            self._used[lease.project] += 1
        task = asyncio.create_task(work, name=f"job {lease.id}")
        self._tasks.add(task)
        # A callback, because a task that is cancelled before it begins runs no `finally`.
        task.add_done_callback(lambda done: self._let_go(lease, done))

    def _let_go(self, lease: Lease, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._held.get(lease.id) is lease:
            del self._held[lease.id]
        if lease.job.kind == "ingest":
            self._ingesting -= 1
            self.app.bell.ring_here("ingest")
        else:
            self.release(lease.project)
        lease.done.set()
        if not task.cancelled() and task.exception() is not None:
            _log.error("job crashed", job_id=lease.id, exc_info=task.exception())

    # The loops.

    async def _kept_up(self, name: str, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """A loop until it is over. A bug of ours is logged and the loop begun again: without it
        the server would look healthy while its runs wait, or are lost, for ever."""
        while True:
            try:
                await loop()
            except Exception as bug:  # noqa: BLE001 (whatever it is, the loop must go on)
                _log.error("worker loop crashed", loop=name, exc_info=bug)
                await asyncio.sleep(limits.POLL_JOBS_S)
            else:
                return

    async def _claim_loop(self) -> None:
        """Whoever is told of one run looks for that one alone, which is the shortest way to it; all
        that waits is looked at no later for that. No ring tells of leases that ran out."""
        clock, looks_at, lost_at = self.app.world.monotonic, 0.0, 0.0
        rung: set[str] = set()
        with self.app.bell.subscribe("jobs") as rings:
            while not self._is_draining:
                try:
                    run_id = self._only_one(rung)
                    if rung and self._free <= 0 and clock() < looks_at:
                        self._has_backlog = True  # A slot that becomes free rings for it.
                    elif run_id is not None and clock() < looks_at:
                        await self._claim_run(run_id)
                    else:
                        with_lost = not rung or clock() >= lost_at
                        if with_lost:
                            lost_at = clock() + limits.POLL_JOBS_S
                        looks_at = clock() + await self._claim_all(with_lost=with_lost)
                except Unavailable as away:
                    looks_at = clock() + away.retry_after_s
                rung = await rings.wait(max(0.0, looks_at - clock()))

    def _only_one(self, rung: set[str]) -> str | None:
        """The run that this is about, if it is one and does not overtake others that wait."""
        if len(rung) != 1 or self._has_backlog:
            return None
        return next(iter(rung)).partition("#")[2] or None

    async def _claim_run(self, run_id: str) -> None:
        """Take this run, unless a server has it by now."""
        if run_id in self._held:
            return
        now = self.app.world.now()
        claimed = await self.app.store.claim_run(
            run_id,
            owner=self._boot_id,
            now=now,
            lease_until=now + limits.LEASE_S,
            per_project=limits.RUNS_PER_PROJECT,
        )
        if claimed is not None:
            await self._work_on([claimed])

    async def _claim_all(self, *, with_lost: bool) -> float:
        """Take what is due, as far as slots are free; when to look again."""
        free = self._free
        taken = await self._claim(with_lost=with_lost)
        if 0 < taken < free:  # All that was due; what will be, a poll finds in time.
            self._has_backlog = False
            return limits.POLL_JOBS_S
        return await self._next_look_s()

    async def _claim(self, *, with_lost: bool) -> int:
        """Take what is due, as far as slots are free; how many jobs came."""
        now = self.app.world.now()
        claims = await self.app.store.claim(
            owner=self._boot_id,
            now=now,
            lease_until=now + limits.LEASE_S,
            free=self._free,
            per_project=limits.RUNS_PER_PROJECT,
            with_lost=with_lost,
        )
        await self._work_on(claims)
        return len(claims)

    async def _work_on(self, claims: Sequence[Claimed]) -> None:
        """What a claim took. One that looked up what it took may have found what is at work."""
        found: list[tuple[Lease, Begun | None]] = []
        for claimed in claims:
            held = self._held.get(claimed.job.id)
            if held is None or held.fence != claimed.job.fence:
                found.append((Lease(claimed.job, self._boot_id), claimed.begun))
        await self.prolong_late(*[lease for lease, _ in found])
        for lease, begun in found:
            if lease.reason != "lost":
                self._work(lease, self._work_of(lease, begun))

    async def prolong_late(self, *leases: Lease) -> None:
        """Those that would end before a heartbeat is sure to come: the store took its time over
        the commit that made them. Raises Unavailable."""
        soon = self.app.world.now() + limits.HEARTBEAT_S + limits.LEASE_MARGIN_S
        late = [one for one in leases if one.job.lease_until and one.job.lease_until < soon]
        await self._renew({lease.id: lease for lease in late})

    def _work_of(self, lease: Lease, begun: Begun | None) -> Coroutine[Any, Any, None]:
        """The work on a job."""
        if lease.job.kind == "run":
            return drive(self.app, lease, self.app.log.open(lease), None, begun)
        return JOBS[lease.job.kind](self.app, lease)

    async def _ingest_loop(self) -> None:
        with self.app.bell.subscribe("ingest") as rings:
            while not self._is_draining:
                try:
                    wait_s = await self._claim_ingest()
                except Unavailable as away:
                    wait_s = away.retry_after_s
                await rings.wait(wait_s)

    async def _claim_ingest(self) -> float:
        """Take stores to index as far as slots are free; when to look again."""
        free = limits.INGESTS_AT_ONCE - self._ingesting
        if free <= 0:
            return limits.POLL_JOBS_S  # A slot that becomes free rings.
        now = self.app.world.now()
        due = await self.app.store.next_ingest(now)
        if due is None or due > now:
            return limits.POLL_JOBS_S if due is None else min(limits.POLL_JOBS_S, due - now)
        claims = await self.app.store.claim_ingest(
            owner=self._boot_id, now=now, lease_until=now + limits.LEASE_S, free=free
        )
        await self._work_on(claims)
        return limits.POLL_LEAST_S

    async def _next_look_s(self) -> float:
        """Until the next job is due, at most a poll's period; a moment when the due one may not be
        taken yet, though there is a slot."""
        if self._free <= 0:
            self._has_backlog = True  # Perhaps: the slot that becomes free rings for it.
            return limits.POLL_JOBS_S
        now = self.app.world.now()
        due = await self.app.store.next_due()
        self._has_backlog = due is not None and due <= now
        if due is None:
            return limits.POLL_JOBS_S
        return min(limits.POLL_JOBS_S, max(limits.POLL_LEAST_S, due - now))

    async def _heartbeat_loop(self) -> None:
        """Without the store nobody knows whose the runs are: they stop before others may start, and
        a store that does not answer is waited for no longer than that."""
        clock = self.app.world.monotonic
        ours_until = clock() + limits.LEASE_S - limits.LEASE_MARGIN_S
        wait_s = limits.HEARTBEAT_S
        while True:
            await asyncio.sleep(wait_s)
            held, asked_at = self._taken, clock()
            wait_s = limits.HEARTBEAT_S
            try:
                async with asyncio.timeout(max(ours_until - asked_at, limits.POLL_LEAST_S)):
                    await self._renew(held)
                ours_until = asked_at + limits.LEASE_S - limits.LEASE_MARGIN_S
            except (Unavailable, TimeoutError):
                left_s = ours_until - clock()
                if left_s > 0:
                    wait_s = min(wait_s, left_s)
                else:
                    for lease in held.values():
                        lease.interrupt("lost")
                    # What was taken since then is ours for as long as that.
                    ours_until = asked_at + limits.LEASE_S - limits.LEASE_MARGIN_S

    async def _cancel_loop(self) -> None:
        """A cancel, or a deletion, of a run that may be driven here was asked for elsewhere. Only
        what was rung for is looked at: all servers hear of each, and to renew all leases of all of
        them writes as many rows."""
        with self.app.bell.subscribe("cancels") as rings:
            while True:
                rung = {ring.partition("#")[2] for ring in await rings.wait(None)}
                held = self._taken
                if "" not in rung:  # Else it may be any of them.
                    held = {id: lease for id, lease in held.items() if id in rung}
                with suppress(Unavailable):  # The next heartbeat tells it, too.
                    await self._renew(held)

    async def _sessions_loop(self) -> None:
        """A thread was deleted elsewhere whose code may have a session here. If nobody hears of it,
        that ends like all that are not used."""
        with self.app.bell.subscribe("sessions") as rings:
            while True:
                for ring in await rings.wait(None):
                    await self.app.sandbox.forget(ring.partition("#")[2])

    async def _presence_loop(self) -> None:
        """Other servers, and their operator, see that this one is alive."""
        while True:
            kept = changes.keep_node(
                self._boot_id,
                role=self._role,
                version=__version__,
                live_runs=self.live_runs,
                now=self.app.world.now(),
            )
            with suppress(Unavailable):
                await self.app.store.commit(kept)
            await asyncio.sleep(limits.HEARTBEAT_S)

    @property
    def _taken(self) -> dict[str, Lease]:
        """The leases held, without those whose commit is on its way."""
        return {id: lease for id, lease in self._held.items() if lease.is_taken}

    async def _renew(self, held: dict[str, Lease]) -> None:
        """Prolong the leases of this snapshot; what did not survive is lost, what was cancelled
        elsewhere is interrupted."""
        if not held:
            return
        now = self.app.world.now()
        survivors = await self.app.store.renew(
            owner=self._boot_id,
            now=now,
            lease_until=now + limits.LEASE_S,
            held=[(lease.id, lease.fence) for lease in held.values()],
        )
        cancelled_at = {(id, fence): at for id, fence, at in survivors}
        for lease in held.values():
            place = (lease.id, lease.fence)
            if place not in cancelled_at:
                lease.interrupt("lost")
            elif cancelled_at[place] is not None:
                lease.interrupt("cancel")

    async def _janitor_loop(self) -> None:
        """Forgets what is kept for a time only."""
        while True:
            now = self.app.world.now()
            try:
                await self._prune(before=now - limits.DELTAS_KEPT_S)
                await self._forget_answers(before=now - limits.IDEMPOTENCY_S)
                if not self._is_alone:
                    before = now - limits.NODE_KEPT_S
                    await self.app.store.commit(changes.forget_nodes(before=before, now=now))
            except Unavailable as away:
                _log.warning("janitor waits for the store", retry_after_s=away.retry_after_s)
            await asyncio.sleep(limits.JANITOR_S)

    async def _prune(self, before: float) -> None:
        """Removes old deltas, batch by batch, as others' commits wait for each."""
        for _ in range(limits.PRUNE_ROUNDS):
            removed = await self.app.store.prune_deltas(before=before, limit=limits.PRUNE_BATCH)
            if removed < limits.PRUNE_BATCH:
                return

    async def _forget_answers(self, before: float) -> None:
        """Removes old answers in the same way; every request may have left one."""
        for _ in range(limits.FORGET_ROUNDS):
            [removed] = await self.app.store.commit(changes.forget_answers(before=before))
            if len(removed) < limits.DELETE_BATCH:
                return
