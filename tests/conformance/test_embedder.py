"""What every embedder must do."""

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from tests.search import tiny_model
from tests.search.provider import Provider, failure
from understudy.search import Embedded, Embedder
from understudy.search.embed_api import ApiEmbedder
from understudy.search.embed_hash import HashEmbedder
from understudy.search.embed_onnx import open_onnx

TEXTS = ["the cat purrs", "a garden of flowers", "the dog barks", "", "   ", "猫", "a\ud800b"]
LONG = "the cat of the garden " * 400


@pytest.fixture(params=["hash", "api", "api-small", "onnx-tokens", "onnx-pooled"])
async def embedder(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Embedder]:
    """Each embedder in turn; the local ones on a real, tiny model."""
    made = _made(request.param, tmp_path / "tiny")
    yield made
    await made.close()


def _made(name: str, folder: Path) -> Embedder:
    match name:
        case "hash":
            return HashEmbedder()
        case "api":
            return ApiEmbedder(Provider().ask, "words", failure=failure)
        case "api-small":
            provider = Provider(most=3, longest=100, as_base64=True)
            return ApiEmbedder(provider.ask, "words", failure=failure, dimensions=32)
        case _:
            return open_onnx(tiny_model.build(folder, kind=name.removeprefix("onnx-")))


def _assert_whole(found: Embedded, count: int) -> None:
    assert found.vectors.dtype == np.float32
    assert found.vectors.shape[0] == len(found.owners)
    assert found.trust.shape == (count,)
    assert ((found.trust >= 0) & (found.trust <= 1)).all()
    assert sorted(set(found.owners.tolist())) == list(range(count))
    assert (np.diff(found.owners) >= 0).all()
    assert np.linalg.norm(found.vectors, axis=1) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("is_query", [False, True])
async def test_every_text_has_vectors_of_length_one(embedder: Embedder, is_query: bool) -> None:
    _assert_whole(await embedder.embed([*TEXTS, LONG], is_query=is_query), len(TEXTS) + 1)


async def test_a_query_has_one_vector_each(embedder: Embedder) -> None:
    found = await embedder.embed([LONG, "the cat", LONG], is_query=True)
    assert found.owners.tolist() == [0, 1, 2]


async def test_no_texts_have_no_vectors(embedder: Embedder) -> None:
    for is_query in (False, True):
        found = await embedder.embed([], is_query=is_query)
        assert len(found.vectors) == len(found.owners) == len(found.trust) == 0


async def test_the_same_text_has_the_same_vector_in_any_company(embedder: Embedder) -> None:
    alone = await embedder.embed(["the cat purrs"], is_query=False)
    among = await embedder.embed([LONG, *TEXTS], is_query=False)
    row = int(np.flatnonzero(among.owners == 1)[0])
    assert among.vectors[row] == pytest.approx(alone.vectors[0], abs=1e-5)


async def test_a_text_is_most_like_itself(embedder: Embedder) -> None:
    texts = await embedder.embed(TEXTS[:3], is_query=False)
    queries = await embedder.embed(TEXTS[:3], is_query=True)
    assert (queries.vectors @ texts.vectors.T).argmax(axis=1).tolist() == [0, 1, 2]


async def test_nothing_of_a_long_text_is_lost(embedder: Embedder) -> None:
    """Its end weighs as much as its beginning, as a window of its own or in the only vector."""
    cats, dogs = "cat " * 300, "dog " * 300
    found = await embedder.embed([cats + dogs, dogs + cats], is_query=False)
    query = await embedder.embed(["dog"], is_query=True)
    likeness = found.vectors @ query.vectors[0]
    best = [float(likeness[found.owners == owner].max()) for owner in (0, 1)]
    assert best[0] == pytest.approx(best[1], abs=1e-4)
    assert best[0] > 0.4


async def test_its_name_stays(embedder: Embedder) -> None:
    before = embedder.name
    await embedder.embed(["cat"], is_query=False)
    assert embedder.name == before != ""
