"""The provider's models: read, kept, served old, and the fallback for names it does not list."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.model.conftest import Rehearsal
from understudy import limits
from understudy.model import ModelError, open_model
from understudy.model.chat import ChatModel
from understudy.model.failures import failed
from understudy.model.listing import Listing, is_listed, read_models
from understudy.wire.models import Model
from understudy.world import World


@dataclass
class Provider:
    """A provider whose list and failures a test decides on."""

    names: tuple[str, ...] = ("a",)
    fails: bool = False
    asked: int = 0
    gate: asyncio.Event | None = None

    async def fetch(self) -> list[Model]:
        """One request."""
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.fails:
            raise failed("The model provider could not be reached.")
        return [Model(id=name, created=0, owned_by="x") for name in self.names]


def clock(times: list[float]) -> Callable[[], float]:
    """A clock that the test moves by changing the list's only item."""
    return lambda: times[0]


async def ids(listing: Listing) -> list[str]:
    """The names in a list."""
    return [model.id for model in await listing.models()]


async def test_a_list_is_kept_for_a_while() -> None:
    now, provider = [1.0], Provider()
    listing = Listing(provider.fetch, World(monotonic=clock(now)))
    assert await ids(listing) == await ids(listing) == ["a"]
    assert provider.asked == 1
    provider.names = ("b",)
    now[0] += limits.MODEL_LIST_TTL_S
    assert await ids(listing) == ["b"]


async def test_an_old_list_is_served_while_the_provider_fails() -> None:
    now, provider = [1.0], Provider()
    listing = Listing(provider.fetch, World(monotonic=clock(now)))
    await ids(listing)
    provider.fails = True
    now[0] += limits.MODEL_LIST_TTL_S
    assert await ids(listing) == ["a"]
    assert await ids(listing) == ["a"]
    assert provider.asked == 2


async def test_without_any_list_the_failure_is_told() -> None:
    now, provider = [1.0], Provider(fails=True)
    listing = Listing(provider.fetch, World(monotonic=clock(now)))
    for _ in range(2):
        with pytest.raises(ModelError, match="could not be reached"):
            await listing.models()
    assert provider.asked == 1
    provider.fails = False
    now[0] += limits.MODEL_LIST_PAUSE_S
    assert await ids(listing) == ["a"]


async def test_callers_share_one_request_and_may_leave() -> None:
    provider = Provider(gate=asyncio.Event())
    listing = Listing(provider.fetch, World())
    leaver, stayer = (asyncio.create_task(ids(listing)) for _ in range(2))
    await asyncio.sleep(0)
    leaver.cancel()
    assert provider.gate is not None
    provider.gate.set()
    assert await stayer == ["a"]
    assert provider.asked == 1


async def test_closing_ends_a_request_under_way() -> None:
    provider = Provider(gate=asyncio.Event())
    listing = Listing(provider.fetch, World())
    waiter = asyncio.create_task(ids(listing))
    await asyncio.sleep(0)
    await listing.close()
    with pytest.raises(ModelError):
        await waiter


@pytest.mark.parametrize(
    ("body", "ids"),
    [
        (b'{"object":"list","data":[{"id":"a","created":1.0,"owned_by":"x"}]}', ["a"]),
        (b'{"data":[{"id":"a","extra":[]},{"id":"org/b"}]}', ["a", "org/b"]),
        (b'[{"id":"a"}]', ["a"]),
        (b'{"object":"list","data":null}', []),
    ],
)
def test_lists_of_every_shape_are_read(body: bytes, ids: list[str]) -> None:
    assert [model.id for model in read_models(body)] == ids


def test_a_list_that_is_none_is_an_error() -> None:
    with pytest.raises(ModelError):
        read_models(b"<html>")


def test_names_may_have_a_tag_or_a_folder() -> None:
    models = [
        Model(id=id, created=0, owned_by="x") for id in ("llama3:latest", "models/gemini-2.5")
    ]
    assert is_listed("llama3", models)
    assert is_listed("gemini-2.5", models)
    assert not is_listed("gpt-4o", models)


async def test_the_providers_models_are_listed(model: ChatModel) -> None:
    assert [found.id for found in await model.models()] == ["rehearsal", "rehearsal-embedding"]


async def test_a_model_that_is_not_listed_falls_back(rehearsal: Rehearsal) -> None:
    model = ChatModel(rehearsal.url, fallback="rehearsal")
    assert await model.resolve("gpt-4o") == "rehearsal"
    assert await model.resolve("rehearsal-embedding") == "rehearsal-embedding"
    await model.close()


async def test_without_a_fallback_nobody_is_asked(model: ChatModel, rehearsal: Rehearsal) -> None:
    assert await model.resolve("gpt-4o") == "gpt-4o"
    assert rehearsal.calls() == []


async def test_a_provider_without_a_list_gets_the_name_as_it_is(rehearsal: Rehearsal) -> None:
    model = ChatModel(f"{rehearsal.url}/nothing/here", fallback="rehearsal")
    assert await model.resolve("gpt-4o") == "gpt-4o"
    await model.close()


def test_urls_that_name_no_provider_are_refused() -> None:
    for url in ("ftp://example.com", "gpt-4o", "http:///v1"):
        with pytest.raises(ValueError, match=r"model adapter|no host"):
            open_model(url)
