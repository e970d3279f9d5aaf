"""Embedders: what each does beyond what all must do."""

import asyncio
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.search import tiny_model
from tests.search.provider import Failed, Provider, failure
from understudy import limits
from understudy.machine import tokens
from understudy.search import EmbedderError
from understudy.search.embed_api import ApiEmbedder
from understudy.search.embed_onnx import OnnxEmbedder, open_onnx

TEXTS = [f"text number {n}" for n in range(150)]


def api(provider: Provider, *, dimensions: int | None = None) -> ApiEmbedder:
    """The embedder of a provider."""
    return ApiEmbedder(provider.ask, "words", failure=failure, dimensions=dimensions)


async def test_texts_go_to_the_provider_in_batches() -> None:
    provider = Provider()
    await api(provider).embed(TEXTS, is_query=False)
    assert [len(call) for call in provider.calls] == [64, 64, 22]
    assert [text for call in provider.calls for text in call] == TEXTS


async def test_a_batch_has_a_bounded_number_of_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EMBEDDED_BATCH_TOKENS", 1_000)
    provider = Provider()
    await api(provider).embed(["word " * 400] * 5, is_query=False)
    assert [len(call) for call in provider.calls] == [2, 2, 1]


@pytest.mark.parametrize(
    "trouble",
    [
        Failed("busy", status=429, retryable=True, retry_after_s=0.001),
        Failed("broken", status=503, retryable=True, retry_after_s=0.001),
        Failed("no connection", retryable=True, retry_after_s=0.001),
    ],
)
async def test_a_provider_that_is_busy_or_away_is_asked_again(trouble: Failed) -> None:
    provider = Provider(failures=[trouble, trouble])
    await api(provider).embed(["cat"], is_query=False)
    assert len(provider.calls) == 3


async def test_it_is_not_asked_without_end() -> None:
    trouble = Failed("busy", status=429, retryable=True, retry_after_s=0.001)
    provider = Provider(failures=[trouble] * 100)
    with pytest.raises(EmbedderError, match="busy") as raised:
        await api(provider).embed(["cat"], is_query=False)
    assert raised.value.retryable
    assert len(provider.calls) == limits.EMBEDDING_ATTEMPTS


async def test_a_provider_that_asks_for_a_long_wait_has_failed_for_now() -> None:
    provider = Provider(
        failures=[Failed("tomorrow", status=429, retryable=True, retry_after_s=1e5)]
    )
    with pytest.raises(EmbedderError, match="tomorrow"):
        await api(provider).embed(["cat"], is_query=False)


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_failure_that_stays_is_told_at_once(status: int) -> None:
    provider = Provider(failures=[Failed("no such model", status=status)])
    with pytest.raises(EmbedderError, match="no such model") as raised:
        await api(provider).embed(["cat"], is_query=False)
    assert not raised.value.retryable
    assert len(provider.calls) == 1


async def test_what_is_no_failure_of_the_provider_passes() -> None:
    provider = Provider(failures=[ZeroDivisionError()])
    with pytest.raises(ZeroDivisionError):
        await api(provider).embed(["cat"], is_query=False)


@pytest.mark.parametrize(
    "refusal",
    [
        Failed("This model's maximum context length is 8192 tokens", status=400),
        Failed("inputs must have less than 512 tokens", status=413),
        Failed("input is too large to process. increase the physical batch size", status=500),
    ],
)
async def test_texts_that_are_too_long_are_cut_and_the_limit_is_remembered(
    refusal: Failed,
) -> None:
    provider = Provider(longest=300, refusal=refusal)
    embedder = api(provider)
    texts = ["cat " * 1_000, "dog", "owl " * 900]
    found = await embedder.embed(texts, is_query=False)
    assert set(found.owners.tolist()) == {0, 1, 2}
    assert (np.diff(found.owners) >= 0).all()
    provider.calls.clear()
    await embedder.embed(texts, is_query=False)
    assert len(provider.calls) == 1
    assert "".join(provider.calls[0]) == "".join(texts)
    assert max(tokens.count(text) for text in provider.calls[0]) <= 300


async def test_a_batch_of_too_many_texts_is_halved_and_the_limit_is_remembered() -> None:
    provider = Provider(most=20, refusal=Failed("batch size 64 > 20", status=422))
    embedder = api(provider)
    await embedder.embed(TEXTS, is_query=False)
    provider.calls.clear()
    await embedder.embed(TEXTS, is_query=False)
    assert max(len(call) for call in provider.calls) <= 20


async def test_a_text_that_is_refused_at_any_length_is_an_error() -> None:
    provider = Provider(longest=0, refusal=Failed("not this", status=400))
    with pytest.raises(EmbedderError, match="not this"):
        await api(provider).embed(["cat " * 1_000], is_query=False)
    assert len(provider.calls) < 20


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("none", lambda vectors: []),
        ("one too few", lambda vectors: vectors[1:]),
        ("one too many", lambda vectors: [*vectors, vectors[0]]),
        ("not a number", lambda vectors: [[float("nan"), *row[1:]] for row in vectors]),
        ("infinite", lambda vectors: [[float("inf"), *row[1:]] for row in vectors]),
        ("empty", lambda vectors: [[] for _ in vectors]),
        ("of two lengths", lambda vectors: [vectors[0][1:], *vectors[1:]]),
    ],
)
async def test_vectors_that_are_none_are_refused(name: str, change: object) -> None:
    provider = Provider(change=change)  # type: ignore[arg-type]
    with pytest.raises(EmbedderError, match="embedding model gave"):
        await api(provider).embed(["cat", "dog"], is_query=False)


async def test_a_vector_of_zeros_is_like_nothing() -> None:
    provider = Provider(change=lambda vectors: [[0.0 for _ in row] for row in vectors])
    found = await api(provider).embed([" "], is_query=False)
    assert not found.vectors.any()


async def test_dimensions_that_change_are_refused() -> None:
    provider = Provider()
    embedder = api(provider)
    await embedder.embed(["cat"], is_query=False)
    provider.change = lambda vectors: [row[:32] for row in vectors]
    with pytest.raises(EmbedderError, match="64"):
        await embedder.embed(["cat"], is_query=False)


async def test_dimensions_other_than_asked_are_refused() -> None:
    provider = Provider(change=lambda vectors: [row[:10] for row in vectors])
    with pytest.raises(EmbedderError, match="12"):
        await api(provider, dimensions=12).embed(["cat"], is_query=False)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The folder of a tiny model."""
    return tiny_model.build(tmp_path / "tiny")


@pytest.mark.parametrize("missing", ["model.onnx", "tokenizer.json"])
def test_a_folder_without_a_model_is_refused(tiny: Path, missing: str) -> None:
    (tiny / missing).unlink()
    with pytest.raises(EmbedderError, match=f"no {missing}"):
        open_onnx(tiny)


@pytest.mark.parametrize("broken", ["model.onnx", "tokenizer.json"])
async def test_a_model_that_cannot_be_read_is_refused(tiny: Path, broken: str) -> None:
    (tiny / broken).write_bytes(b"no model")
    with pytest.raises(EmbedderError, match="cannot be read"):
        await open_onnx(tiny).embed(["cat"], is_query=False)


@pytest.mark.parametrize("library", ["onnxruntime", "tokenizers"])
def test_missing_libraries_are_named_with_their_extra(
    tiny: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(EmbedderError, match=r"pip install 'understudy\[local\]'"):
        open_onnx(tiny)


def test_another_model_has_another_name(tmp_path: Path) -> None:
    one = open_onnx(tiny_model.build(tmp_path / "one" / "tiny"))
    same = open_onnx(tiny_model.build(tmp_path / "same" / "tiny"))
    other = open_onnx(tiny_model.build(tmp_path / "other" / "tiny", seed=1))
    assert one.name == same.name != other.name
    assert one.name.startswith("tiny-")


async def test_a_long_text_has_windows_of_equal_length_that_the_model_can_read(tiny: Path) -> None:
    found = await open_onnx(tiny).embed(["cat " * 70, "cat " * 30], is_query=False)
    assert found.owners.tolist() == [0, 0, 0, 1]  # 32 positions, two of them special.


async def test_an_embedder_is_opened_again_after_it_was_closed(tiny: Path) -> None:
    embedder = open_onnx(tiny)
    before = await embedder.embed(["cat"], is_query=False)
    await embedder.close()
    after = await embedder.embed(["cat"], is_query=False)
    assert (before.vectors == after.vectors).all()


async def test_several_callers_are_served_at_once(tiny: Path) -> None:
    embedder = open_onnx(tiny)
    found = await asyncio.gather(
        *(embedder.embed(["cat", "dog " * n], is_query=False) for n in range(1, 20))
    )
    assert all((one.vectors[0] == found[0].vectors[0]).all() for one in found)


async def test_words_known_to_the_tokenizer_are_trusted_and_foreign_ones_are_not(
    tiny: Path,
) -> None:
    known, pieces, unknown = (
        await open_onnx(tiny).embed(
            ["the garden of the cat", "zum beispiel gehen", "猫は庭で寝る、犬は走る"], is_query=True
        )
    ).trust
    assert known == 1.0
    assert pieces < 0.3
    assert unknown == 0.0


async def test_one_strange_name_is_no_foreign_language(tiny: Path) -> None:
    (trust,) = (
        await open_onnx(tiny).embed(["the garden of the garden of zqx"], is_query=True)
    ).trust
    assert trust > 0.6


async def test_a_models_own_prefixes_and_pooling_are_obeyed(tiny: Path) -> None:
    plain: OnnxEmbedder = open_onnx(tiny)
    first = await plain.embed(["garden cat"], is_query=True)
    prompts = {"prompts": {"query": "dog ", "document": ""}}
    (tiny / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    prefixed = open_onnx(tiny)
    query = await prefixed.embed(["garden cat"], is_query=True)
    text = await prefixed.embed(["dog garden cat"], is_query=False)
    assert not (query.vectors == first.vectors).all()
    assert query.vectors == pytest.approx(text.vectors)
    (tiny / "1_Pooling").mkdir()
    (tiny / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    classes = await open_onnx(tiny).embed(["cat", "garden"], is_query=False)
    assert (classes.vectors[0] == classes.vectors[1]).all()  # A look-up: both begin alike.
