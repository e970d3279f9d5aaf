"""App: the seams, the store, the engine, the world and the settings, passed by argument."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from understudy.bell import Bell
from understudy.blobs import Blobs
from understudy.model import Model
from understudy.sandbox import Sandbox
from understudy.settings import Settings
from understudy.store.store import Store
from understudy.world import World

if TYPE_CHECKING:
    from understudy.engine.index import Index
    from understudy.engine.log import Log
    from understudy.engine.worker import Worker
    from understudy.search.child import Readers
    from understudy.search.choice import Embedders
    from understudy.search.rerank import Reranker


@dataclass(frozen=True)
class App:
    """Everything a door or a driver needs. `boot_id` names this process's leases."""

    settings: Settings
    world: World
    store: Store
    blobs: Blobs
    bell: Bell
    model: Model
    embedders: "Embedders"
    readers: "Readers"
    index: "Index"
    reranker: "Reranker | None"
    sandbox: Sandbox
    log: "Log"
    worker: "Worker"
    boot_id: str
