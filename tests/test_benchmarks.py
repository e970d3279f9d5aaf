"""The benchmarks measure what they say: ratios of pairs, void figures, and every request a 200."""

import itertools
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import packages_distributions, requires

import pytest

from benchmarks import host, report
from benchmarks.connection import BadAnswer, Heard
from benchmarks.curve import Curve, Point
from benchmarks.delays import largest
from benchmarks.figures import Figure, alternate, p95, rates
from benchmarks.jobs import Done
from benchmarks.retrieval import ndcg_at, recall_at
from benchmarks.stage import Run
from benchmarks.stamps import delays, stamps
from benchmarks.start import LIBRARIES


def run(per_second: float, *, client: float = 0.1, upstream: float = 0.1) -> Run:
    """A run of one second."""
    return Run(Done(count=int(per_second), seconds=1.0), 0.5, client, upstream)


def test_pairs_alternate_so_that_a_drift_favours_nobody() -> None:
    """Ours first, then theirs first; a pair is always ours and theirs."""
    order: list[str] = []

    def take(name: str) -> str:
        order.append(name)
        return name

    pairs = alternate(3, lambda: take("ours"), lambda: take("theirs"))
    assert order == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert pairs == [("ours", "theirs")] * 3


def test_a_ratio_is_the_median_of_the_pairs_ratios() -> None:
    """Not the ratio of medians: a pair shares its moment."""
    pairs = [(run(10), run(100)), (run(50), run(100)), (run(400), run(1000))]
    rate, cpu = rates("figure", "times", pairs, at_least=0.4)
    assert (rate.result, rate.met, rate.ours, rate.baseline) == (
        "0.40 of it",
        True,
        "50 times/s",
        "100 times/s",
    )
    assert cpu.result == "2.5 times"


@pytest.mark.parametrize("busy", [{"client": 0.9}, {"upstream": 0.9}])
def test_a_figure_whose_bottleneck_was_not_the_server_is_void(busy: dict[str, float]) -> None:
    """It says so, and neither meets nor misses a target."""
    rate, _ = rates("figure", "times", [(run(50), run(100, **busy))], at_least=0.4)
    assert (rate.result, rate.met) == ("void", None)


def test_a_start_is_measured_against_all_run_time_dependencies() -> None:
    """Those that pyproject.toml declares: no more and no fewer, but for those that a start on
    SQLite does not load."""
    imported = {name.partition(".")[0] for name in LIBRARIES.split(", ")}
    provided = {one for name in imported for one in packages_distributions()[name]}
    declared = {re.split(r"\W*[<>=;\[ ]", one)[0] for one in requires("understudy") or ()}
    optional = {"asyncpg", "huggingface-hub", "nats-py", "onnxruntime", "openai", "tokenizers"}
    assert {_plain(one) for one in provided} == {_plain(one) for one in declared - optional}


def _plain(distribution: str) -> str:
    return distribution.lower().replace("_", "-")


def test_the_95th_percentile_of_a_hundred_has_five_above() -> None:
    """And that of one is itself."""
    assert p95(list(range(1, 101))) == 95
    assert p95([7.0]) == 7.0


def _stealing(monkeypatch: pytest.MonkeyPatch, shares: list[float]) -> Callable[[], int]:
    """A measurement of one second per block, and a host that takes these shares of them."""
    now, stolen_s, blocks = [0.0], [0.0], itertools.count()
    monkeypatch.setattr(host, "monotonic", lambda: now[0])
    monkeypatch.setattr(host, "_stolen_s", lambda: stolen_s[0])
    monkeypatch.setattr(host, "cpu_count", lambda: 2)

    def measure() -> int:
        number = next(blocks)
        now[0] += 1
        stolen_s[0] += 2 * shares[number]
        return number

    return measure


def test_blocks_that_the_host_disturbed_are_measured_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, note = host.calm(_stealing(monkeypatch, [0.0, 0.3, 0.0, 0.02, 0.008]), 3)
    assert (found, note) == ([0, 2, 4], "3 of 5 blocks, others on the host took at most 0.8%")


def test_a_host_that_is_never_calm_ends_the_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = [0.2, 0.1, 0.3, 0.2, 0.4, 0.05, 0.2, 0.2]
    found, note = host.calm(_stealing(monkeypatch, shares), 2)
    assert (found, note) == ([5, 1], "2 of 8 blocks, others on the host took at most 10.0%")


def test_the_table_names_a_missed_target() -> None:
    """Readable as it is, and Markdown."""
    figure = Figure("measure", "5 ms", "1 ms", "4 ms added", "<= 3 ms", met=False)
    assert "| <= 3 ms (missed) |" in report.table([figure])


def test_a_ranking_is_judged_by_the_places_of_what_answers() -> None:
    """1 for the best order that is possible; nothing counts behind the tenth place."""
    relevant = {"a": 1.0, "b": 1.0}
    assert ndcg_at(10, ["a", "b", "c"], relevant) == 1.0
    assert ndcg_at(10, ["c", "a"], {"a": 1.0}) == pytest.approx(0.6309, abs=1e-4)
    assert ndcg_at(10, [*"cdefghijkl", "a"], {"a": 1.0}) == 0.0
    assert recall_at(5, ["a", *"cdefg", "b"], relevant) == 0.5


def test_a_quick_measure_starts_everything_and_ends_it() -> None:
    """The real thing with few samples: processes start, answer and end."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "start"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "idle memory" in done.stdout


@pytest.mark.parametrize("true", [0, 1, 7, 31, 32, 33, 100, 255, 256, 400])
@pytest.mark.parametrize("guess", [0, 40, 256])
def test_the_largest_number_is_found_to_a_tenth(true: int, guess: int) -> None:
    """Whatever is guessed, and never a number that is not fine."""
    asked: list[int] = []

    def is_fine(number: int) -> bool:
        asked.append(number)
        return number <= true

    found = largest(is_fine, guess=guess, bound=256)
    reachable = min(true, 256)
    assert found <= reachable <= found + max(1, found // 10)
    assert len(asked) <= 12


def _heard(*numbers: int, split: int = 1_000) -> Heard:
    """A relay's stream of these deltas; each read brings so many bytes, one a second."""
    raw = b"HTTP/1.1 200 OK\r\n\r\n"
    for number in numbers:
        data = b'data: {"delta":{"content":"%06d@%014.6f "}}\n\n' % (number, number / 4)
        raw += b"%x\r\n%b\r\n" % (len(data), data)
    raw += b"0\r\n\r\n"
    pieces = [raw[at : at + split] for at in range(0, len(raw), split)]
    return Heard(pieces=pieces, times=[float(at) for at in range(len(pieces))])


@pytest.mark.parametrize("split", [1, 7, 64, 1_000])
def test_a_delta_is_late_by_the_read_that_had_its_end(split: int) -> None:
    """However the reads cut the stream."""
    heard = _heard(0, 1, 2, split=split)
    found = stamps(heard, 3, is_ours=False)
    assert [stamp.written_at for stamp in found] == [0.0, 0.25, 0.5]
    raw = b"".join(heard.pieces)
    ends = [match.end() - 1 for match in re.finditer(rb"\n\n", raw)]
    assert [stamp.heard_at for stamp in found] == [end // split for end in ends]
    every, amid = delays([found])
    assert every == amid == [one.heard_at - one.written_at for one in found]


@pytest.mark.parametrize("numbers", [(0, 2), (0, 1, 1), (1, 0, 2), (0, 1, 2, 3)])
def test_a_delta_that_is_missing_doubled_or_out_of_order_is_no_figure(
    numbers: tuple[int, ...],
) -> None:
    """It is a failure of the whole measure."""
    with pytest.raises(BadAnswer):
        stamps(_heard(*numbers), 3, is_ours=False)


def test_the_steepest_part_of_a_curve_is_its_exponent() -> None:
    """Flat, then linear, then square."""
    amounts = [(1, 5.0), (10, 5.0), (100, 50.0), (1_000, 5_000.0)]
    points = [Point(amount, cost, 2 * cost) for amount, cost in amounts]
    curve = Curve("cost", "work", "ms", points)
    assert curve.steepest == pytest.approx(2)
    assert (curve.growth, curve.growth_p99) == (1_000, 1_000)
    assert curve.since(100).growth == 100
    assert Curve("cost", "work", "ms", points[:2]).steepest == 0
