"""The provider's list of models, kept for a while and served old while the provider fails."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from understudy import limits
from understudy.model import ModelError
from understudy.model.failures import failed
from understudy.wire.base import Wire
from understudy.wire.models import Model
from understudy.world import World


class _Listed(Wire, frozen=True, kw_only=True):
    """A model as a provider lists it."""

    id: str
    created: float | None = None
    owned_by: str | None = None


class _Answer(Wire, frozen=True, kw_only=True):
    """A provider's list; Ollama sends null for an empty one."""

    data: list[_Listed] | None = None


def read_models(answer: bytes) -> list[Model]:
    """The models of a provider's answer."""
    try:
        try:
            found = msgspec.json.decode(answer, type=_Answer).data or []
        except msgspec.ValidationError:  # Together lists without the envelope.
            found = msgspec.json.decode(answer, type=list[_Listed])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise failed("The model provider's list of models cannot be read.") from None
    return [
        Model(id=model.id, created=int(model.created or 0), owned_by=model.owned_by or "upstream")
        for model in found
    ]


class Listing:
    """One list, at most one request for it at a time."""

    def __init__(self, fetch: Callable[[], Awaitable[list[Model]]], world: World) -> None:
        self._fetch = fetch
        self._world = world
        self._models: list[Model] | None = None
        self._fresh_until = 0.0
        self._failure: ModelError | None = None
        self._refresh: asyncio.Task[None] | None = None

    async def models(self) -> list[Model]:
        """The list; an old one is served when a fresh one fails or is slow."""
        if self._world.monotonic() >= self._fresh_until:
            if self._refresh is None:
                self._refresh = asyncio.create_task(self._renew(), name="list models")
            timeout = None if self._models is None else limits.MODEL_LIST_WAIT_S
            # Not awaited itself: a caller that is cancelled must not end it for the others.
            await asyncio.wait([self._refresh], timeout=timeout)
        if self._models is None:
            raise self._failure or failed("The model provider's list of models is not known.")
        return self._models

    async def close(self) -> None:
        """End a request that is under way."""
        if self._refresh is not None:
            self._refresh.cancel()
            await asyncio.wait([self._refresh])

    async def _renew(self) -> None:
        """Ask once; a failure is remembered for a moment, so that callers do not queue for it."""
        try:
            self._models = await self._fetch()
            self._failure = None
            self._fresh_until = self._world.monotonic() + limits.MODEL_LIST_TTL_S
        except ModelError as error:
            self._failure = error
            self._fresh_until = self._world.monotonic() + limits.MODEL_LIST_PAUSE_S
        finally:
            self._refresh = None


def is_listed(name: str, models: list[Model]) -> bool:
    """Whether the provider has this model; Ollama adds a tag to names, Gemini a folder."""
    ids = {model.id for model in models}
    return not ids.isdisjoint((name, f"{name}:latest", f"models/{name}"))
