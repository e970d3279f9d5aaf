"""Plan: how much of everything a run measures."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Sample sizes; a quick plan is for development only."""

    pairs: int = 7
    load_s: float = 1.0
    cycle_s: float = 2.0
    deltas: int = 40_000  # Of one run of streams.
    first_deltas: int = 1_000
    cancels: int = 100
    delay_pairs: int = 5  # Of all that takes a long run each.
    delay_streams: int = 250
    delay_deltas: int = 100  # Of each of them.
    most_streams: int = 1_000  # The search for the largest number ends here.
    memory_streams: int = 250
    memory_deltas: int = 200  # Of each of them.
    polled_runs: int = 24
    curve_samples: int = 100  # Of each point, unless it is said otherwise.
    thread_lengths: tuple[int, ...] = (10, 100, 1_000, 10_000, 99_000)  # 100,000 is full.
    live_streams: tuple[int, ...] = (10, 100, 300, 1_000)
    live_samples: int = 40
    assistants: tuple[int, ...] = (1, 10, 100, 1_000, 10_000)
    message_kb: tuple[int, ...] = (1, 4, 16, 64, 250)  # 256,000 characters are the most.
    database_mb: tuple[int, ...] = (10, 250, 5_000)
    database_reads: int = 20_000
    database_writes: int = 2_000
    probe_s: float = 2.0  # One of its steps: so long all streams are live together.
    first_events: int = 40  # Of one run; all pairs together make the percentile.
    starts: int = 5
    retrieval_queries: int = 0  # Of each set, by keywords only; 0: all of them, and hybrid too.
    ingestions: int = 3  # Of each size.
    searching_runs: int = 60
    searches: int = 100  # Pairs of one search and one bare query.
    dispatches: int = 300
    worker_pairs: int = 3
    workers_s: float = 8.0
    sessions: int = 20  # Of the sandbox, for each figure of time.


QUICK = Plan(
    pairs=3,
    load_s=0.4,
    cycle_s=1.0,
    deltas=8_000,
    first_deltas=40,
    cancels=20,
    delay_pairs=1,
    delay_streams=50,
    delay_deltas=40,
    most_streams=128,
    memory_streams=50,
    memory_deltas=60,
    polled_runs=4,
    curve_samples=20,
    thread_lengths=(10, 100, 1_000),
    live_streams=(50, 100),
    live_samples=10,
    assistants=(1, 100, 1_000),
    message_kb=(1, 64),
    database_mb=(5, 50),
    database_reads=300,
    database_writes=50,
    probe_s=1.0,
    first_events=20,
    starts=2,
    retrieval_queries=40,
    ingestions=1,
    searching_runs=15,
    searches=20,
    dispatches=60,
    worker_pairs=1,
    workers_s=4.0,
    sessions=5,
)
