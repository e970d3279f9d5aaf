"""A server whose embedder is instant, so that figures are about searching, not about a model.

As a program it takes the arguments of `understudy serve`, as far as the stage gives them.
"""

import asyncio
import gc
import sys
import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from benchmarks import texts
from understudy.engine.app import App
from understudy.search import Embedded
from understudy.search.choice import Embedders

NAME = "instant"
SERVER = "from benchmarks.instant import main; main()"  # For the stage.
_POOL = 4_096


class Instant:
    """One of some vectors that are ready, chosen by the text."""

    name = NAME

    def __init__(self) -> None:
        self._pool = texts.vectors(np.random.default_rng(7), _POOL)

    async def embed(self, texts: Sequence[str], *, is_query: bool) -> Embedded:
        """A vector for each text."""
        places = [zlib.crc32(text.encode()) % _POOL for text in texts]
        count = len(texts)
        return Embedded(self._pool[places], np.arange(count), np.ones(count, np.float32))

    async def close(self) -> None:
        """Nothing was opened."""


def with_instant(app: App) -> App:
    """The same App with this embedder."""
    return replace(app, embedders=Embedders(Instant(), monotonic=app.world.monotonic))


async def _serve(folder: str) -> None:
    """As assembly.serve."""
    from understudy.api.app import Api
    from understudy.assembly import first_key, opened_app
    from understudy.logs import configure
    from understudy.machine import tokens
    from understudy.server import Server, base_url, listen
    from understudy.settings import load

    settings = load(config=None, flags={"port": 0, "data": folder}).settings
    configure(settings.log_level)
    async with opened_app(settings) as app:
        with listen(settings.host, settings.port) as listener:
            url = base_url(settings.host, listener.getsockname()[1])
            await first_key(app)

            def ready() -> None:
                print(f"API base URL {url}", flush=True)
                tokens.load()
                gc.freeze()

            await Server(Api(with_instant(app))).run_on(listener, on_ready=ready)


def main() -> None:
    """Serve until told to stop; the data folder is the last argument."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(sys.argv[-1]))
