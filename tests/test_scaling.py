"""docs/scaling.md against the code and the model behind its tables, and that model's properties."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import costs as measured
from benchmarks import looks
from benchmarks.capacity import Asked, Mix, Nodes, asked
from benchmarks.day import MINUTES, PEAK, arrivals, curve, replay
from benchmarks.plans import BUSY, TooMuch, most, plan, sized
from benchmarks.simulate import BELLS, PAGE, shown, with_shown
from tests.fleet.clusters import schema
from tests.fleet.statements import fetch
from understudy import limits
from understudy.store.postgres_apply import Apply
from understudy.store.postgres_migrations import migrate
from understudy.store.statements import load_queries

COSTS = measured.load()
MIX = Mix()
BELL = st.sampled_from(sorted(BELLS))
COUNT = st.integers(1, 40)
RUNS_S = st.floats(0.01, 2_000)


def test_the_tables_of_the_page_are_what_the_script_prints() -> None:
    """`python -m benchmarks.simulate --write` after a new measure, or a change of the model."""
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_shown(page, shown(COSTS))


async def test_the_statements_of_the_page_are_understood_by_a_record() -> None:
    """An operator pastes them."""
    blocks = re.findall(r"^```sql\n(.*?)^```", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    statements = [one for block in blocks for one in block.split(";\n") if one.strip()]
    assert len(statements) >= 6
    with schema() as url:
        await migrate(url)
        for one in statements:
            fetch(url, one)


def test_the_limits_of_the_page_are_those_of_the_code() -> None:
    """It has them for people; limits.py has the truth."""
    page = " ".join(PAGE.read_text().split())
    patience_s = limits.LEASE_S - limits.LEASE_MARGIN_S
    said = [
        f"connections of one process, {limits.CONNECTIONS};",
        f"runs at once in one process, {limits.RUNS_AT_ONCE:,}.",
        f"some {limits.DELTA_TICK_S * 1000:.0f} ms later",
        f"{limits.LEASE_S:.0f} s after the last heartbeat",
        f"which comes every {limits.HEARTBEAT_S} s",
        f"try again for up to {patience_s:.0f} s",
        f"live ones have {limits.DRAIN_S:.0f} s to end",
        f"more than some {limits.RUNS_PER_PROJECT} runs live on workers",
        f"at most {limits.DELTA_ROWS_S} rows a second",
        f"up to {1 / limits.BELL_GAP_S:.0f} messages a second through PostgreSQL",
        f"with NATS up to {1 / limits.NATS_GAP_S:.0f}.",
    ]
    assert [one for one in said if one not in page] == []
    assert (limits.RECLAIMS, limits.PIN_WAIT_S, limits.INGESTS_AT_ONCE) == (3, 2.0, 2)
    assert (limits.DELTAS_UNSURE_S, limits.DELTAS_KEPT_S, limits.NODE_ALIVE_S) == (3.0, 3_600, 10.0)


def test_statements_are_told_apart_by_their_beginnings() -> None:
    """What counts ticks, claims and commits knows those that there are."""
    queries = load_queries("postgres")
    assert looks.kind_of(queries["save_deltas"]) == "tick"
    assert looks.kind_of(queries["claim_jobs"]) == "claim"
    assert looks.kind_of(Apply(queries).call) == "commit"
    assert looks.kind_of(queries["next_due"]) == "other"


# The model.


@given(COUNT, COUNT, BELL, RUNS_S)
def test_twice_the_runs_on_twice_the_nodes_are_twice_the_commits(
    api: int, worker: int, bell: str, runs_s: float
) -> None:
    """And twice the rows; what each node does for runs is the same, what all hear is more."""
    one = asked(COSTS, MIX, Nodes(api, worker, bell), runs_s)
    two = asked(COSTS, MIX, Nodes(2 * api, 2 * worker, bell), 2 * runs_s)
    assert two.commits == pytest.approx(2 * one.commits)
    assert two.rows == pytest.approx(2 * one.rows)
    assert two.wal_bytes == pytest.approx(2 * one.wal_bytes)
    assert two.live == pytest.approx(2 * one.live)
    assert two.worker_cpu >= one.worker_cpu
    assert two.postgres_cpu >= 2 * one.postgres_cpu * 0.999


@given(COUNT, COUNT, BELL, RUNS_S, st.floats(1.01, 4))
def test_more_runs_never_ask_less(
    api: int, worker: int, bell: str, runs_s: float, times: float
) -> None:
    """Of anything, on the same nodes."""
    nodes = Nodes(api, worker, bell)
    less, more = asked(COSTS, MIX, nodes, runs_s), asked(COSTS, MIX, nodes, times * runs_s)
    for name in Asked.__dataclass_fields__:
        assert getattr(more, name) >= getattr(less, name) * 0.999, name


@given(COUNT, BELL, RUNS_S)
def test_a_worker_never_saves_more_rows_than_it_may(worker: int, bell: str, runs_s: float) -> None:
    found = asked(COSTS, MIX, Nodes(2, worker, bell), runs_s)
    assert 0 <= found.delta_rows <= worker * limits.DELTA_ROWS_S
    assert found.delta_rows <= runs_s * MIX.streaming_s / limits.DELTA_TICK_S * 1.001


@given(st.integers(1, 4), BELL, st.lists(st.integers(0, 30_000), min_size=1, max_size=180))
def test_runs_that_find_no_worker_wait_and_none_is_lost(
    worker: int, bell: str, came: list[int]
) -> None:
    """No queue is negative, and nothing begins before it came."""
    day = replay(COSTS, MIX, Nodes(1, worker, bell, max_runs=100), came)
    queued = 0.0
    for minute, count in zip(day.minutes, came, strict=True):
        assert minute.came == count
        assert 0 <= minute.begun <= queued + count
        assert minute.queued == pytest.approx(queued + count - minute.begun, abs=1e-6)
        assert minute.queued >= 0
        assert minute.delta_rows >= 0
        assert minute.asked.live <= 100.1 * worker
        queued = minute.queued
        assert queued < 1e-6 or minute.asked.live >= 99 * worker  # Only full workers let wait.


def test_old_deltas_go_as_fast_as_they_come() -> None:
    """After three hours of the same there is an hour of them, whatever the load."""
    day = replay(COSTS, MIX, Nodes(1, 1, "postgres"), [1_500] * 240)
    hour = sum(60 * minute.asked.delta_rows for minute in day.minutes[-61:])
    assert day.minutes[-1].delta_rows == pytest.approx(hour, rel=0.02)
    assert day.minutes[-1].delta_rows == pytest.approx(day.minutes[-60].delta_rows, rel=0.02)


def test_a_day_has_its_runs_and_its_peak() -> None:
    """By chance, which is the same each time."""
    shares = curve()
    assert len(shares) == MINUTES
    assert sum(shares) == pytest.approx(MINUTES)
    assert max(shares) == pytest.approx(PEAK, rel=0.02)
    came = arrivals(1_000_000)
    assert came == arrivals(1_000_000)
    assert sum(came) == pytest.approx(1_000_000, rel=0.01)
    assert max(came) == pytest.approx(PEAK * 1_000_000 / MINUTES, rel=0.1)


@pytest.mark.parametrize("bell", BELLS)
@pytest.mark.parametrize("runs", [50_000, 2_000_000, 3_000_000, 4_000_000, 30_000_000])
def test_a_plan_keeps_everything_below_its_end(bell: str, runs: int) -> None:
    """Nobody waits for a worker, and one node less would be too few."""
    found = plan(COSTS, MIX, runs, bell)
    assert max(found.busy.values()) <= BUSY * 1.01
    assert max(minute.queued for minute in found.day.minutes) == 0
    if found.nodes.worker > 2:
        fewer = replace(found.nodes, worker=found.nodes.worker - 1)
        now = asked(COSTS, MIX, fewer, max(arrivals(runs / found.shards)) / 60)
        assert now.worker_cpu > BUSY or now.live > BUSY * fewer.worker * fewer.max_runs


@pytest.mark.parametrize("bell", BELLS)
def test_a_larger_postgresql_takes_more_runs(bell: str) -> None:
    """And more is too much for it, whatever the nodes."""
    small, large = (most(COSTS, MIX, bell, cores) for cores in (4, 16))
    assert small[0] < large[0]
    with pytest.raises(TooMuch):
        sized(COSTS, MIX, 1.03 * large[0], bell, 16)
