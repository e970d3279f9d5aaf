"""The choice of an embedder: named, none, or what a provider turns out to have."""

import asyncio
from collections.abc import Sequence

import pytest

from understudy import limits
from understudy.search import Embedded, EmbedderError
from understudy.search.choice import Embedders, at_provider
from understudy.search.embed_hash import HashEmbedder


class Provider:
    """A provider that lists models and embeds with those that it has."""

    def __init__(self, *models: str, embeds: Sequence[str] = ()) -> None:
        self.models = list(models)
        self.embeds = set(embeds)
        self.lists = True
        self.asked: list[str] = []
        self.closed: list[str] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self.now = 1_000.0

    async def listed(self) -> Sequence[str]:
        """The models, unless it cannot list."""
        if not self.lists:
            raise OSError("Connection refused.")
        return self.models

    def at(self, name: str) -> "AtProvider":
        """An embedder of one model."""
        return AtProvider(self, name)

    def embedders(self) -> Embedders:
        """What `auto` makes of it."""
        find = at_provider(self.listed, self.at)
        return Embedders(find=find, at=self.at, monotonic=lambda: self.now)

    async def found(self) -> str | None:
        """The model that `auto` finds."""
        embedder = await self.embedders().current()
        return None if embedder is None else embedder.name


class AtProvider(HashEmbedder):
    """One model of a provider."""

    def __init__(self, provider: Provider, name: str) -> None:
        super().__init__(8)
        self.name = name
        self._provider = provider

    async def embed(self, texts: Sequence[str], *, is_query: bool) -> Embedded:
        """Vectors, if the provider has this model."""
        self._provider.asked.append(self.name)
        await self._provider.answers.wait()
        if self.name not in self._provider.embeds:
            raise EmbedderError(f"There is no model {self.name}.")
        return await super().embed(texts, is_query=is_query)

    async def close(self) -> None:
        """Remember it."""
        self._provider.closed.append(self.name)


@pytest.mark.parametrize(
    ("models", "embeds", "expected"),
    [
        (
            ["gpt-4o", "text-embedding-3-large"],
            ["text-embedding-3-large"],
            "text-embedding-3-large",
        ),
        (
            ["nomic-embed-text", "text-embedding-3-small"],
            ["nomic-embed-text", "text-embedding-3-small"],
            "text-embedding-3-small",
        ),
        (["llama3", "all-minilm:22m"], ["all-minilm:22m"], "all-minilm:22m"),
        (["llama3", "bge-m3"], ["bge-m3"], "bge-m3"),
        (["gpt-4o"], ["text-embedding-3-small"], None),
        ([], ["text-embedding-3-small"], "text-embedding-3-small"),
        ([], [], None),
        (["nomic-embed-text"], [], None),
    ],
)
async def test_auto_takes_the_model_whose_name_says_that_it_embeds(
    models: list[str], embeds: list[str], expected: str | None
) -> None:
    assert await Provider(*models, embeds=embeds).found() == expected


async def test_a_provider_that_cannot_list_is_asked_for_the_usual_model() -> None:
    provider = Provider(embeds=["text-embedding-3-small"])
    provider.lists = False
    assert await provider.found() == "text-embedding-3-small"


async def test_rehearsed_vectors_are_not_taken_by_themselves() -> None:
    provider = Provider("rehearsal", "rehearsal-embedding", embeds=["rehearsal-embedding"])
    assert await provider.found() is None
    assert "rehearsal-embedding" not in provider.asked


async def test_a_provider_that_comes_back_is_found_after_a_while() -> None:
    provider = Provider("nomic-embed-text")
    embedders = provider.embedders()
    assert "if the provider has" in embedders.state
    assert await embedders.current() is None
    assert provider.closed == ["nomic-embed-text"]
    assert "no embedding model that answers" in embedders.state
    provider.embeds.add("nomic-embed-text")
    provider.now += limits.EMBEDDER_PAUSE_S - 1
    assert await embedders.current() is None
    assert len(provider.asked) == 1
    provider.now += 1
    found = await embedders.current()
    assert found is not None
    assert embedders.state == "keywords and vectors of nomic-embed-text"
    provider.now += 10 * limits.EMBEDDER_PAUSE_S
    assert await embedders.current() is found
    assert len(provider.asked) == 2
    await embedders.close()
    assert provider.closed == ["nomic-embed-text"] * 2


async def test_who_asks_while_the_provider_is_asked_waits_for_its_answer() -> None:
    provider = Provider("nomic-embed-text", embeds=["nomic-embed-text"])
    provider.answers.clear()
    embedders = provider.embedders()
    asking = [asyncio.create_task(embedders.current()) for _ in range(3)]
    await asyncio.sleep(0)
    provider.answers.set()
    found = await asyncio.gather(*asking)
    assert found[0] is not None
    assert found == [found[0]] * 3
    assert len(provider.asked) == 1


async def test_a_question_that_is_given_up_is_asked_again() -> None:
    provider = Provider("nomic-embed-text", embeds=["nomic-embed-text"])
    provider.answers.clear()
    embedders = provider.embedders()
    asking = asyncio.create_task(embedders.current())
    await asyncio.sleep(0.01)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    provider.answers.set()
    assert await embedders.current() is not None


async def test_a_named_embedder_is_used_without_a_question() -> None:
    named = HashEmbedder(8)
    embedders = Embedders(named, monotonic=lambda: 0.0)
    assert await embedders.current() is named
    assert embedders.state == "keywords and vectors of hash-8"
    await embedders.close()


async def test_without_an_embedder_searches_are_by_keywords() -> None:
    embedders = Embedders(monotonic=lambda: 0.0)
    assert await embedders.current() is None
    assert embedders.state == "keywords only"
    await embedders.close()


async def test_a_store_of_a_model_waits_for_a_provider_that_is_away() -> None:
    """It must not be told that the server has no model: its files would fail for good."""
    provider = Provider("nomic-embed-text")
    embedders = provider.embedders()
    assert await embedders.current() is None
    away = await embedders.of("nomic-embed-text")
    assert away is not None
    with pytest.raises(EmbedderError):
        await away.embed(["A text."], is_query=False)
    provider.embeds.add("nomic-embed-text")
    assert len((await away.embed(["A text."], is_query=False)).vectors) == 1


async def test_a_model_that_was_found_is_not_passed_off_as_another() -> None:
    provider = Provider("nomic-embed-text", embeds=["nomic-embed-text"])
    found = await provider.embedders().of("bge-m3")
    assert found is not None
    assert found.name == "nomic-embed-text"
