"""The benchmarks measure what they say: ratios of pairs, void figures, and every request a 200."""

import re
import subprocess
import sys
from importlib.metadata import packages_distributions, requires

import pytest

from benchmarks import report
from benchmarks.figures import Figure, alternate, p95, rates
from benchmarks.jobs import Done
from benchmarks.retrieval import ndcg_at, recall_at
from benchmarks.stage import Run
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
    """Those that pyproject.toml declares: no more and no fewer."""
    imported = {name.partition(".")[0] for name in LIBRARIES.split(", ")}
    provided = {one for name in imported for one in packages_distributions()[name]}
    declared = {re.split(r"\W*[<>=;\[ ]", one)[0] for one in requires("understudy") or ()}
    optional = {"huggingface-hub", "onnxruntime", "openai", "tokenizers"}
    assert {_plain(one) for one in provided} == {_plain(one) for one in declared - optional}


def _plain(distribution: str) -> str:
    return distribution.lower().replace("_", "-")


def test_the_95th_percentile_of_a_hundred_has_five_above() -> None:
    """And that of one is itself."""
    assert p95(list(range(1, 101))) == 95
    assert p95([7.0]) == 7.0


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
