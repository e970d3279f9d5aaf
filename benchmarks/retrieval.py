"""Retrieval: whether searches find what people marked as the answer, on public labelled sets.

The sets lie beside the checkout (../shared/retrieval-dev) and are no part of it. Everything goes
through the API of a real server: one file per document, one batch per set, default chunking. A
document's rank is that of its best chunk among the 50 results that a search can have. Each set is
searched by keywords only, and by keywords and the vectors of a small local model.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figure, judged, median
from benchmarks.plan import QUICK, Plan
from benchmarks.shelf import Shelf
from benchmarks.stage import Stage, understudy

SHARED = Path(__file__).parents[2] / "shared"
SETS = SHARED / "retrieval-dev"
MODEL = SHARED / "models" / "minilm-l6-v2-int8"
RESULTS = 50  # Of a search: as many as it may have.
_NOBODY = "http://127.0.0.1:9"  # No provider is asked.
_SAY_S = 10.0


@dataclass(frozen=True)
class Labelled:
    """Documents, queries, and of each query the documents that answer it."""

    name: str
    documents: Mapping[str, str]
    queries: Mapping[str, str]
    relevant: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Mode:
    """How a server searches, and what its nDCG@10 must not be below."""

    name: str
    embedding_model: str
    floors: Mapping[str, float]


@dataclass(frozen=True)
class Quality:
    """How good the rankings of one set are, over all queries, and what a search took."""

    ndcg_at_10: float
    recall_at_5: float
    search_s: float
    ingest_s: float


KEYWORDS = Mode("keywords only", "off", {"product_docs": 0.70, "xquad_en": 0.96, "xquad_zh": 0.95})
HYBRID = Mode("hybrid", str(MODEL), {"product_docs": 0.78})
# What others reach on the same files (README of the sets).
_OTHERS = {
    "product_docs": "FTS5 porter .702, MiniLM .715, both .779",
    "xquad_en": "FTS5 .964, MiniLM .940, both .971",
    "xquad_zh": "FTS5 .114, with bigrams .964",
}


def measure(_stage: Stage | None, plan: Plan) -> Iterator[Figure]:
    """A figure for each set and mode; none without the folder."""
    yield from figures(plan)


def figures(plan: Plan, database_url: str = "") -> Iterator[Figure]:
    """The same; each mode has a server of its own, on its own SQLite unless a database is named."""
    if not SETS.is_dir():
        _say(f"no retrieval figures: there is no folder {SETS}")
        return
    modes = [KEYWORDS] if plan.retrieval_queries else [KEYWORDS, HYBRID]
    if not MODEL.is_dir():
        _say(f"no hybrid figures: there is no folder {MODEL}")
        modes = [KEYWORDS]
    floors: dict[str, float] = {}
    for mode in modes:
        with (
            tempfile.TemporaryDirectory(prefix="understudy-bench-") as data,
            understudy(
                Path(data),
                _NOBODY,
                embedding_model=mode.embedding_model,
                database_url=database_url,
            ) as server,
            closing(Shelf(server.port)) as shelf,
        ):
            for name in _OTHERS:
                quality = _quality(shelf, _labelled(name), mode, plan.retrieval_queries)
                # Vectors must not make worse what words find.
                floor = mode.floors.get(name, floors.get(name))
                floors[name] = round(quality.ndcg_at_10, 3)
                yield _figure(name, mode, quality, floor)


def _figure(name: str, mode: Mode, quality: Quality, floor: float | None) -> Figure:
    return judged(
        Figure(
            name=f"nDCG@10 of {name}, {mode.name}",
            ours=f"{quality.ndcg_at_10:.3f}",
            baseline=_OTHERS[name],
            result=f"{quality.ndcg_at_10:.3f}",
            note=f"recall@5 {quality.recall_at_5:.3f}; {1000 * quality.search_s:.1f} ms a search, "
            f"{quality.ingest_s:.0f} s to index",
        ),
        round(quality.ndcg_at_10, 3),
        at_least=floor,
    )


def _quality(shelf: Shelf, labelled: Labelled, mode: Mode, at_most: int) -> Quality:
    """Index a set and ask all its queries, or `at_most` so many."""
    title = f"{labelled.name}, {mode.name}"
    started = time.monotonic()
    store_id, by_file = _indexed(shelf, labelled, title)
    ingest_s = time.monotonic() - started
    queries = list(labelled.queries.items())[: at_most or None]
    ndcg, recall, taken = [], [], []
    for number, (query_id, query) in enumerate(queries):
        asked = time.monotonic()
        found = shelf.search(store_id, query, RESULTS)
        taken.append(time.monotonic() - asked)
        ranked = list(dict.fromkeys(by_file[one["file_id"]] for one in found))
        ndcg.append(ndcg_at(10, ranked, labelled.relevant[query_id]))
        recall.append(recall_at(5, ranked, labelled.relevant[query_id]))
        if number % 500 == 499:
            _say(f"{title}: {number + 1} of {len(queries)} queries")
    return Quality(sum(ndcg) / len(ndcg), sum(recall) / len(recall), median(taken), ingest_s)


def _indexed(shelf: Shelf, labelled: Labelled, title: str) -> tuple[str, dict[str, str]]:
    """A store with a file for each document; its id, and file id → document id."""
    by_file = {}
    for number, (id, text) in enumerate(labelled.documents.items()):
        by_file[shelf.file(f"{number}.txt", text.encode())] = id
    store_id = shelf.store(list(by_file))
    say_at = time.monotonic() + _SAY_S
    while (counts := shelf.counts(store_id))["in_progress"]:
        if time.monotonic() >= say_at:
            say_at += _SAY_S
            _say(f"{title}: {counts['completed']} of {counts['total']} files")
        time.sleep(0.2)
    assert counts["completed"] == len(by_file), counts
    return store_id, by_file


def ndcg_at(count: int, ranked: Sequence[str], relevant: Mapping[str, float]) -> float:
    """Discounted gain of the first `count`, as a share of the best that is possible."""
    gains = [relevant.get(id, 0.0) for id in ranked[:count]]
    best = sorted(relevant.values(), reverse=True)[:count]
    return _discounted(gains) / _discounted(best)


def recall_at(count: int, ranked: Sequence[str], relevant: Mapping[str, float]) -> float:
    """The share of the relevant documents that is among the first `count`."""
    wanted = {id for id, gain in relevant.items() if gain > 0}
    return len(wanted & set(ranked[:count])) / len(wanted)


def _discounted(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(place + 2) for place, gain in enumerate(gains))


def _labelled(name: str) -> Labelled:
    """A set, from its files."""
    folder = SETS / name
    relevant: dict[str, dict[str, float]] = {}
    for row in _rows(folder / "qrels.jsonl"):
        relevant.setdefault(str(row["query_id"]), {})[str(row["doc_id"])] = float(row["relevance"])
    return Labelled(
        name=name,
        documents={str(row["doc_id"]): str(row["text"]) for row in _rows(folder / "docs.jsonl")},
        queries={
            str(row["query_id"]): str(row["text"])
            for row in _rows(folder / "queries.jsonl")
            if row["query_id"] in relevant
        },
        relevant=relevant,
    )


def _rows(path: Path) -> Iterator[dict[str, str | float]]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Measure, and print each figure as it comes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrieval")
    parser.add_argument("--quick", action="store_true", help="few queries, by keywords only")
    parser.add_argument("--database", default="", help="a URL; SQLite when there is none")
    given = parser.parse_args()
    for one in figures(QUICK if given.quick else Plan(), given.database):
        print(f"{one.name}: {one.ours} ({one.target or 'no floor'}); {one.note}", flush=True)


if __name__ == "__main__":
    main()
