"""Search: what vector stores have to say to some queries.

Each query is answered by keywords and, where the stores have vectors, by meaning; both sides are
made one (search/rank.py), and of several queries each chunk keeps its best score. Several stores
are searched as if they were one. Long arithmetic runs in a thread, so that the loop goes on.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray

from understudy import limits
from understudy.engine import halves
from understudy.engine.app import App
from understudy.engine.embedding import embedded_queries
from understudy.engine.index import View
from understudy.machine.vector_store import Predicate, predicate
from understudy.search import Embedded, rank
from understudy.search.part import POSTING
from understudy.search.question import asked
from understudy.search.rank import ORDINAL_BITS, Passage, Ranked
from understudy.search.rerank import Reranker
from understudy.store.records import ChunkRow
from understudy.wire.vector_stores import Attribute, Filter

Numbers = NDArray[np.int64]
Terms = Mapping[str, float]  # Of a query, with the weight of each.

# Neighbours share at most half of a chunk, so a chunk ends in the second row behind its own.
_BEHIND = 2
_COSINE_DIGITS = 5  # Fewer than a float has.


@dataclass(frozen=True)
class Found:
    """A passage of a file that fits a search."""

    file_id: str
    file_name: str
    score: float
    text: str
    attributes: Mapping[str, Attribute]


async def found(
    app: App,
    project: str,
    store_ids: Sequence[str],
    queries: Sequence[str],
    *,
    limit: int,
    score_threshold: float = 0.0,
    filters: Filter | None = None,
) -> list[Found]:
    """The passages that fit the queries best, best first, at most `limit`.

    Stores that do not exist are empty. Raises EmbedderError where the queries cannot be embedded.
    """
    views = await app.index.views(project, store_ids)
    documents = _sorted([view.documents.numbers for view in views])
    if not len(documents):
        return []
    allowed = None if filters is None else _allowed(views, predicate(filters))
    by_words = await _by_words(app, views, queries, documents, allowed)
    by_meaning = await _by_meaning(app, views, queries, allowed)
    await halves.ask(app)
    rankings = [
        rank.fuse(keyword, dense, weight)
        for keyword, (dense, weight) in zip(by_words, by_meaning, strict=True)
    ]
    ranked = rank.together(rankings)
    if app.reranker is None:
        return await _passages(app, views, ranked, limit, score_threshold)
    first = await _passages(app, views, ranked, max(limit, limits.RERANKED), 0.0)
    return await _reranked(app.reranker, queries, first, limit, score_threshold)


async def _reranked(
    reranker: Reranker,
    queries: Sequence[str],
    first: Sequence[Found],
    limit: int,
    score_threshold: float,
) -> list[Found]:
    """The passages in the reranker's order, with its scores."""
    if not first:
        return []
    scores = await reranker.scores("\n".join(queries), [one.text for one in first])
    found = [replace(one, score=score) for one, score in zip(first, scores, strict=True)]
    found.sort(key=lambda one: -one.score)
    return [one for one in found[:limit] if one.score >= score_threshold]


def _sorted(arrays: Sequence[Numbers]) -> Numbers:
    return np.sort(np.concatenate(arrays)) if arrays else np.empty(0, np.int64)


def _allowed(views: Sequence[View], keeps: Predicate) -> Numbers:
    """The documents that a filter keeps."""
    return _sorted(
        [
            documents.numbers[[keeps(attributes) for attributes in documents.attributes]]
            for documents in (view.documents for view in views)
            if documents.rows
        ]
    )


async def _by_words(
    app: App,
    views: Sequence[View],
    queries: Sequence[str],
    documents: Numbers,
    allowed: Numbers | None,
) -> list[Ranked]:
    """Of each query the ranking by its words."""
    stores = [view.row.number for view in views]
    chunks = sum(view.row.chunks for view in views)
    length = sum(view.row.words for view in views)
    questions = await _worth_reading(app, stores, [asked(query) for query in queries], chunks)
    rows = await app.store.postings(stores, sorted({term for one in questions for term in one}))

    def ranked() -> list[Ranked]:
        return [
            rank.keyword(
                [row for row in rows if row[0] in terms] if len(questions) > 1 else rows,
                chunks=chunks,
                words=length,
                documents=documents,
                allowed=allowed,
                terms=terms,
            )
            for terms in questions
        ]

    return await asyncio.to_thread(ranked)


async def _worth_reading(
    app: App, stores: Sequence[int], questions: Sequence[Terms], chunks: int
) -> Sequence[Terms]:
    """The terms of each query, without common ones where there would be too much to read."""
    distinct = sorted({term for terms in questions for term in terms})
    if chunks * len(distinct) <= limits.POSTINGS_READ:
        return questions
    sizes = await app.store.count_postings(stores, distinct)
    counts = {term: size // POSTING.itemsize for term, size in sizes.items()}
    kept = []
    for terms in questions:
        known = {term: counts[term] for term in terms if term in counts}
        dropped = set(known) - set(rank.pruned(known, chunks))
        kept.append({term: weight for term, weight in terms.items() if term not in dropped})
    return kept


async def _by_meaning(
    app: App,
    views: Sequence[View],
    queries: Sequence[str],
    allowed: Numbers | None,
) -> list[tuple[Ranked | None, float]]:
    """Of each query the ranking by meaning, and how much it weighs beside the words.

    The index gives the vectors of no other documents than a view has.
    """
    rankings: list[tuple[Ranked | None, float]] = [(None, 0.0) for _ in queries]
    by_model: dict[str | None, Embedded | None] = {}  # Stores of one model share the vectors.
    for view in views:
        model = view.row.embedding_model
        if model not in by_model:
            by_model[model] = await embedded_queries(app, view.row, queries)
        embedded = by_model[model]
        if embedded is None:
            continue
        corpus = view.row.trust / max(view.row.chunks, 1)
        weights = [float(trust) * corpus for trust in embedded.trust]
        async for block in app.index.vectors(view, allowed, embedded.vectors):
            product = partial(rank.dense, block, embedded.vectors, allowed=allowed)
            is_short = block.vectors.size * len(queries) <= limits.SHORT_PRODUCT
            parts = product() if is_short else await asyncio.to_thread(product)
            rankings = [
                (_joined(old, _steady(new)), max(weight, old_weight))
                for (old, old_weight), new, weight in zip(rankings, parts, weights, strict=True)
            ]
    return rankings


def _steady(ranked: Ranked) -> Ranked:
    """The last digits of a product depend on where in its matrix a row is: without them, equals
    come in the order of their keys, however the vectors lie."""
    scores = ranked.scores.round(_COSINE_DIGITS)
    order = np.lexsort((ranked.keys, -scores))
    return Ranked(ranked.keys[order], scores[order])


def _joined(old: Ranked | None, new: Ranked) -> Ranked:
    """The best of two blocks of vectors, which have no chunk in common; cosines may be negative."""
    if old is None:
        return new
    keys, scores = np.concatenate([old.keys, new.keys]), np.concatenate([old.scores, new.scores])
    order = np.lexsort((keys, -scores))[: limits.CANDIDATES]
    return Ranked(keys[order], scores[order])


async def _passages(
    app: App, views: Sequence[View], ranked: Ranked, limit: int, score_threshold: float
) -> list[Found]:
    """The best passages with their texts; neighbours that overlap are one."""
    enough = ranked.scores >= score_threshold
    ranked = Ranked(ranked.keys[enough], ranked.scores[enough])
    places = [divmod(key, 1 << ORDINAL_BITS) for key in ranked.keys.tolist()]
    spans = {
        document << ORDINAL_BITS | ordinal: (start, stop)
        for document, ordinal, start, stop in await app.store.chunk_spans(places)
    }
    passages = rank.merge(ranked, spans)[:limit]
    rows = await app.store.chunk_texts(
        [(one.document, one.first, one.last + _BEHIND) for one in passages]
    )
    return _texts(views, passages, rows)


def _texts(
    views: Sequence[View], passages: Sequence[Passage], rows: Sequence[ChunkRow]
) -> list[Found]:
    """Passages whose document went meanwhile are left out."""
    by_place = {(row.document, row.ordinal): row for row in rows}
    results = []
    for passage in passages:
        document = next(
            view.documents.by_number[passage.document]
            for view in views
            if passage.document in view.documents.by_number
        )
        text = _text(passage, by_place)
        if text is not None:
            attributes = msgspec.json.decode(document.attributes, type=dict[str, Attribute])
            results.append(
                Found(document.file_id, document.filename, passage.score, text, attributes)
            )
    return results


def _text(passage: Passage, by_place: Mapping[tuple[int, int], ChunkRow]) -> str | None:
    """The text from the first chunk's start to the last one's stop: a row ends where the next
    chunk starts, so the last chunk may go on in the rows behind it."""
    first = by_place.get((passage.document, passage.first))
    last = by_place.get((passage.document, passage.last))
    if first is None or last is None:
        return None
    pieces = []
    for ordinal in range(passage.first, passage.last + 1 + _BEHIND):
        row = by_place.get((passage.document, ordinal))
        if row is None or row.start >= last.stop:
            break
        pieces.append(row.text)
    return "".join(pieces)[: last.stop - first.start]
