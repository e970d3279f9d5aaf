"""Which embedder a server has: one that was named, none, or (auto) the provider's, once it answers.

With auto the provider is asked when an embedder is first needed. It is asked for one vector; the
model is the first it lists whose name says that it embeds. While it has none, searches are by
keywords, and it is asked again after a while.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence

import structlog

from understudy import limits
from understudy.search import Embedder, EmbedderError

_log = structlog.get_logger("search")

# Model name → an embedder that asks the provider for it.
AtProvider = Callable[[str], Embedder]
Listed = Callable[[], Awaitable[Sequence[str]]]

# The rehearsal provider's hashes know nothing of meaning: they are used only when named.
_NOT_AUTOMATIC = "rehearsal-embedding"
_USUAL = "text-embedding-3-small"
# How models that embed are called.
_EMBEDS = re.compile(r"embed|minilm|\b(bge|e5|gte|jina)\b", re.IGNORECASE)


class Embedders:
    """The choice of an embedder; `named` or, without one, whatever `find` finds."""

    def __init__(
        self,
        named: Embedder | None = None,
        *,
        find: Callable[[], Awaitable[Embedder | None]] | None = None,
        at: AtProvider | None = None,
        monotonic: Callable[[], float],
    ) -> None:
        self._chosen = named
        self._find = find if named is None else None
        self._at = at
        self._monotonic = monotonic
        self._ask_at = float("-inf")
        self._asking = asyncio.Lock()

    async def current(self) -> Embedder | None:
        """The embedder, or None where searches are by keywords alone. Who asks while the provider
        is being asked waits for its answer."""
        if self._is_due():
            async with self._asking:
                if self._is_due():
                    await self._ask()
        return self._chosen

    def _is_due(self) -> bool:
        is_open = self._find is not None and self._chosen is None
        return is_open and self._monotonic() >= self._ask_at

    async def _ask(self) -> None:
        assert self._find is not None, "it is due"
        self._chosen = await self._find()
        self._ask_at = self._monotonic() + limits.EMBEDDER_PAUSE_S
        if self._chosen is not None:
            _log.info("embedder_found", model=self._chosen.name)

    async def of(self, model: str) -> Embedder | None:
        """The embedder for vectors of this model: the current one, which may be of another. While
        auto finds none the provider is asked for it by its name: it may be away just now."""
        chosen = await self.current()
        return self._at(model) if chosen is None and self._at is not None else chosen

    @property
    def state(self) -> str:
        """What searches stand on, in words."""
        if self._chosen is not None:
            return f"keywords and vectors of {self._chosen.name}"
        if self._find is None:
            return "keywords only"
        if self._ask_at == float("-inf"):
            return "keywords, and vectors if the provider has an embedding model"
        return "keywords only: the provider has no embedding model that answers"

    async def close(self) -> None:
        """Let go of the embedder."""
        if self._chosen is not None:
            await self._chosen.close()


def at_provider(listed: Listed, embedder: AtProvider) -> Callable[[], Awaitable[Embedder | None]]:
    """How `auto` finds an embedder: ask the provider which models it has, and for one vector."""

    async def find() -> Embedder | None:
        try:
            names = [name for name in await listed() if name != _NOT_AUTOMATIC]
        except Exception as error:  # noqa: BLE001 -- a provider that cannot list may yet embed.
            _log.info("models_not_listed", reason=str(error))
            names = []
        embedding = [name for name in names if _EMBEDS.search(name)]
        if names and not embedding:
            return None
        name = _USUAL if _USUAL in embedding or not embedding else embedding[0]
        found = embedder(name)
        try:
            await found.embed(["A first question."], is_query=True)
        except EmbedderError as error:
            _log.info("embedder_not_found", model=name, reason=error.message)
            await found.close()
            return None
        return found

    return find
