"""Ranking: keywords, vectors, both together, and passages."""

import math
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy import limits
from understudy.search import rank
from understudy.search.embed_hash import HashEmbedder
from understudy.search.part import POSTING, parts
from understudy.search.question import asked
from understudy.search.rank import Block, Numbers, Passage, Ranked, Scores
from understudy.search.vectors import normalised
from understudy.search.words import words

Row = tuple[str, int, bytes]


class Shelf:
    """Some documents, one chunk each, as a store holds them."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts
        self.rows: list[Row] = []
        for number, text in enumerate(texts):
            for part in parts(text, 800, 400):
                entries = zip(part.terms, part.postings, strict=True)
                self.rows += [(term, number, data) for term, data in entries]
        self.chunks = len(texts)
        self.words = sum(len(words(text)) for text in texts)

    def search(
        self, query: str, *, gone: tuple[int, ...] = (), allowed: Numbers | None = None
    ) -> Ranked:
        """What the query finds."""
        terms = asked(query)
        return rank.keyword(
            [row for row in self.rows if row[0] in terms],
            chunks=self.chunks,
            words=self.words,
            documents=np.array([n for n in range(self.chunks) if n not in gone], np.int64),
            allowed=allowed,
            terms=terms,
        )


def documents(ranked: Ranked) -> list[int]:
    """The documents found, best first."""
    return [int(key) >> rank.ORDINAL_BITS for key in ranked.keys]


def ranked(*pairs: tuple[int, float]) -> Ranked:
    """A ranking from keys and scores."""
    return Ranked(
        np.array([key for key, _ in pairs], np.int64),
        np.array([score for _, score in pairs], np.float32),
    )


SHELF = Shelf(
    "the cat sat on the mat",
    "the dog chased the cat around the garden until the dog was tired",
    "a treatise on gardens and their flowers",
    "nothing of interest",
)


def test_the_chunk_with_the_rare_words_is_first() -> None:
    assert documents(SHELF.search("cat on a mat"))[0] == 0
    assert documents(SHELF.search("tired dogs"))[0] == 1
    assert documents(SHELF.search("garden flowers"))[0] == 2


def test_scores_are_bm25_as_in_the_books() -> None:
    found = SHELF.search("dog cat")
    lengths = [len(words(text)) for text in SHELF.texts]
    average = sum(lengths) / 4

    def gain(term: str, frequency: int, document: int) -> float:
        count = Counter(words(SHELF.texts[document]))[term]
        length = 1 - rank.B + rank.B * lengths[document] / average
        return math.log(1 + (4 - frequency + 0.5) / (frequency + 0.5)) * (
            count / (count + rank.K1 * length)
        )

    ceiling = math.log(1 + 3.5 / 1.5) + math.log(1 + 2.5 / 2.5)
    expected = {1: gain("dog", 1, 1) + gain("cat", 2, 1), 0: gain("cat", 2, 0)}
    whole, part = expected[1] / ceiling, expected[0] / ceiling
    assert documents(found) == [1, 0]
    assert found.scores.tolist() == pytest.approx([whole + rank.QUOTED * (1 - whole), part])


def test_a_quotation_is_found_in_a_long_chunk() -> None:
    """Its many other words must not put it behind short chunks that have half of the words."""
    long = "the heron of zorvalka waits for the ferry " + "of many other words and of more " * 40
    shelf = Shelf("the heron waits for the ferry of many", long, "the ferry waits", "other words")
    assert documents(shelf.search("the heron of Zorvalka waits for the ferry"))[0] == 1


def test_a_word_that_every_chunk_has_still_counts_a_little() -> None:
    found = Shelf("same", "same other").search("same")
    assert (found.scores > 0).all()


def test_words_that_nobody_has_lower_the_score() -> None:
    known = SHELF.search("cat").scores[0]
    assert SHELF.search("cat zeppelin").scores[0] < known / 2


def test_a_document_that_is_gone_is_not_found_and_not_counted() -> None:
    assert documents(SHELF.search("cat", gone=(0,))) == [1]
    assert SHELF.search("cat dog", gone=(0,)).scores[0] != SHELF.search("cat dog").scores[0]


def test_a_filter_hides_chunks_and_leaves_scores() -> None:
    whole = SHELF.search("cat dog")
    only = SHELF.search("cat dog", allowed=np.array([0], np.int64))
    assert documents(only) == [0]
    assert only.scores[0] == whole.scores[documents(whole).index(0)]


@pytest.mark.parametrize("allowed", [np.empty(0, np.int64), np.array([99], np.int64)])
def test_a_filter_that_nothing_passes_finds_nothing(allowed: Numbers) -> None:
    assert documents(SHELF.search("cat", allowed=allowed)) == []


def test_a_query_without_rows_finds_nothing() -> None:
    assert documents(SHELF.search("zeppelin")) == []
    assert documents(SHELF.search("")) == []


def test_equal_scores_come_in_the_order_of_their_keys() -> None:
    shelf = Shelf(*["same words here"] * 300)
    assert documents(shelf.search("words")) == list(range(limits.CANDIDATES))


def test_few_postings_are_all_read() -> None:
    assert set(rank.pruned({"the": 1_000, "cat": 3, "sat": 0}, 1_000)) == {"the", "cat", "sat"}


def test_common_terms_are_left_out_when_there_is_too_much_to_read() -> None:
    frequencies = {"the": 90_000, "of": 80_000, "cat": 12_000, "mat": 30, "sat": 20, "hat": 10}
    assert rank.pruned(frequencies, 100_000) == ["hat", "sat", "mat", "cat"]


def test_a_term_that_is_not_common_is_never_left_out() -> None:
    frequencies = {f"term{n}": 29_000 for n in range(6)}
    assert len(rank.pruned(frequencies, 100_000)) == 6


def test_the_rarest_terms_are_never_left_out() -> None:
    frequencies = {"a": 90_000, "b": 91_000, "c": 92_000, "d": 93_000}
    assert rank.pruned(frequencies, 100_000) == ["a", "b", "c"]


def _vectors(count: int, seed: int = 1) -> Scores:
    found = np.random.default_rng(seed).standard_normal((count, 32)).astype(np.float32)
    return normalised(found)


def test_the_nearest_chunks_are_found_exactly() -> None:
    matrix, queries = _vectors(3_000), _vectors(2, seed=2)
    keys = np.arange(3_000, dtype=np.int64) << rank.ORDINAL_BITS
    for query, found in zip(queries, rank.dense(Block(matrix, keys), queries), strict=True):
        order = np.argsort(-(matrix @ query), kind="stable")[: limits.CANDIDATES]
        assert documents(found) == order.tolist()
        assert found.scores.tolist() == pytest.approx((matrix @ query)[order].tolist())


def test_a_chunk_of_several_windows_has_the_score_of_its_best() -> None:
    vectors = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32)
    block = Block(vectors, np.array([5, 5, 6], np.int64))
    (found,) = rank.dense(block, np.array([[0, 1]], np.float32))
    assert found.keys.tolist() == [5, 6]
    assert found.scores.tolist() == pytest.approx([1.0, 0.8])


@pytest.mark.parametrize("share", [2, 50])
def test_vectors_of_hidden_documents_are_not_found(share: int) -> None:
    matrix, query = _vectors(1_000), _vectors(1, seed=3)
    numbers = np.repeat(np.arange(500, dtype=np.int64), 2)
    keys = numbers << rank.ORDINAL_BITS | np.tile([0, 1], 500)
    seen = np.arange(0, 500, share, dtype=np.int64)
    (found,) = rank.dense(Block(matrix, keys), query, documents=seen, allowed=np.arange(400))
    scores = matrix @ query[0]
    scores[(numbers % share != 0) | (numbers >= 400)] = -2
    order = np.argsort(-scores, kind="stable")[: min(limits.CANDIDATES, int((scores > -2).sum()))]
    assert found.keys.tolist() == keys[order].tolist()


def test_no_vectors_or_none_allowed_find_nothing() -> None:
    nothing = np.empty(0, np.int64)
    query = _vectors(1)
    (found,) = rank.dense(Block(np.empty((0, 32), np.float32), nothing), query)
    assert not len(found.keys)
    (found,) = rank.dense(Block(_vectors(5), np.arange(5)), query, documents=nothing)
    assert not len(found.keys)


def test_the_best_of_both_sides_has_one() -> None:
    both = rank.fuse(ranked((7, 0.4), (8, 0.2)), ranked((7, 0.9), (9, 0.5)))
    assert both.keys[0] == 7
    assert both.scores[0] == 1.0
    assert both.scores[-1] >= 0.0


def test_a_side_without_trust_changes_nothing() -> None:
    words_side = ranked((7, 0.4), (8, 0.2))
    assert rank.fuse(words_side, ranked((8, 0.9)), 0.0) is words_side
    assert rank.fuse(words_side, None) is words_side
    assert rank.fuse(words_side, rank.NOTHING) is words_side


def test_the_less_trusted_side_gives_way() -> None:
    words_side, meaning = ranked((1, 0.5), (2, 0.3)), ranked((2, 0.8), (1, 0.1))
    assert rank.fuse(words_side, meaning, 1.0).keys[0] == 2
    assert rank.fuse(words_side, meaning, 0.2).keys[0] == 1


def test_cosines_that_hardly_differ_decide_nothing() -> None:
    both = rank.fuse(ranked((1, 0.5), (2, 0.45)), ranked((2, 0.701), (1, 0.7)))
    assert both.keys[0] == 1


@given(
    st.dictionaries(st.integers(0, 400), st.floats(0, 1, width=16), max_size=250),
    st.dictionaries(st.integers(0, 400), st.floats(-1, 1, width=16), max_size=250),
    st.floats(0, 1.5),
)
def test_fused_scores_are_in_order_and_between_0_and_1(
    one: dict[int, float], other: dict[int, float], weight: float
) -> None:
    sides = [
        ranked(*sorted(side.items(), key=lambda pair: (-pair[1], pair[0]))[: limits.CANDIDATES])
        for side in (one, other)
    ]
    found = rank.fuse(sides[0], sides[1], weight)
    scores = found.scores.tolist()
    assert scores == sorted(scores, reverse=True)
    assert all(0.0 <= score <= 1.0 + 1e-6 for score in scores)
    assert len(set(found.keys.tolist())) == len(scores)


def test_of_several_queries_a_chunk_has_its_best_score() -> None:
    found = rank.together([ranked((1, 0.9), (2, 0.4)), ranked((2, 0.6), (3, 0.5))])
    assert found.keys.tolist() == [1, 2, 3]
    assert found.scores.tolist() == pytest.approx([0.9, 0.6, 0.5])
    assert not len(rank.together([]).keys)


SPANS = {key: (key * 10, key * 10 + 15) for key in range(100)}


def test_overlapping_neighbours_are_one_passage() -> None:
    assert rank.merge(ranked((5, 0.75), (40, 0.625), (6, 0.5)), SPANS) == [
        Passage(0, 5, 6, 0.75),
        Passage(0, 40, 40, 0.625),
    ]


def test_a_chunk_between_two_passages_joins_them() -> None:
    assert rank.merge(ranked((5, 0.75), (7, 0.625), (6, 0.5)), SPANS) == [Passage(0, 5, 7, 0.75)]


def test_passages_do_not_grow_without_end() -> None:
    found = rank.merge(ranked(*((key, 0.5) for key in range(9))), SPANS)
    assert [(passage.first, passage.last) for passage in found] == [(0, 2), (3, 5), (6, 8)]


def test_a_neighbour_that_is_much_worse_stays_alone() -> None:
    assert len(rank.merge(ranked((5, 0.75), (6, 0.25)), SPANS)) == 2


def test_neighbours_that_share_no_character_stay_apart() -> None:
    assert len(rank.merge(ranked((5, 0.5), (6, 0.5)), {5: (0, 10), 6: (10, 20)})) == 2


def test_chunks_of_two_documents_stay_apart() -> None:
    last, first = (1 << rank.ORDINAL_BITS) - 1, 1 << rank.ORDINAL_BITS
    found = rank.merge(ranked((last, 0.5), (first, 0.5)), {last: (0, 10), first: (0, 10)})
    assert [passage.document for passage in found] == [0, 1]


def test_chunks_that_are_not_looked_at_are_left_out() -> None:
    assert rank.merge(ranked((5, 0.5), (200, 0.5)), SPANS) == [Passage(0, 5, 5, 0.5)]


async def test_both_sides_together_find_what_is_asked() -> None:
    embedder = HashEmbedder()
    texts = await embedder.embed(SHELF.texts, is_query=False)
    query = await embedder.embed(["flowers of the garden"], is_query=True)
    (meaning,) = rank.dense(Block(texts.vectors, texts.owners << rank.ORDINAL_BITS), query.vectors)
    assert documents(rank.fuse(SHELF.search("flowers of the garden"), meaning))[0] == 2


def test_many_postings_are_ranked_quickly() -> None:
    entries = np.zeros(200_000, POSTING)
    entries["ordinal"] = np.arange(200_000)
    entries["count"], entries["words"] = 1, 100
    rows = [("term", 3, entries.tobytes()), ("other", 3, entries.tobytes())]
    begun = time.monotonic()
    found = rank.keyword(rows, chunks=200_000, words=20_000_000, documents=np.array([3]))
    assert len(found.keys) == limits.CANDIDATES
    assert time.monotonic() - begun < 5
