"""Files of every type, good and hostile, through a real server and the official SDK.

The good ones are a corpus whose sentences are known: each is found by a search, and each file is
cited by a run. The hostile ones are put into a store of their own first, and are at work meanwhile.
"""

import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import openai
import psutil
import pytest
from openai.types import VectorStore
from openai.types.vector_stores import VectorStoreFile

from tests.acceptance.processes import KEY, Running, serving
from tests.search.corpus import Made, make_corpus
from tests.search.hostile import HOSTILE, Hostile

FILES = 220
MEMORY_BYTES = 600 * 1024 * 1024
SETTLED_S = 150.0

# The API refuses an empty file at its upload.
UPLOADED = [one for one in HOSTILE if one.name != "empty.txt"]


class Memory:
    """The most memory that a process and its children had together, looked at all the time."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.peak_bytes = 0

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            total = 0
            for process in [self._process, *self._process.children(recursive=True)]:
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.peak_bytes = max(self.peak_bytes, total)


@dataclass
class Scene:
    """A server with a store of good files and a store of hostile ones."""

    server: Running
    client: openai.OpenAI
    memory: Memory
    made: dict[str, Made] = field(default_factory=dict)  # By file id.
    hostile: dict[str, Hostile] = field(default_factory=dict)
    good_store: str = ""
    hostile_store: str = ""

    def upload(self, name: str, path: Path) -> str:
        """Its id."""
        with path.open("rb") as content:
            return self.client.files.create(file=(name, content), purpose="assistants").id

    def settled(self, store_id: str) -> VectorStore:
        """The store when no file is in progress any more."""
        give_up_at = time.monotonic() + SETTLED_S
        while (store := self.client.vector_stores.retrieve(store_id)).file_counts.in_progress:
            assert time.monotonic() < give_up_at, store
            time.sleep(0.1)
        return store

    def places(self, store_id: str) -> dict[str, VectorStoreFile]:
        """The store's files by id; listed page by page."""
        return {one.id: one for one in self.client.vector_stores.files.list(store_id, limit=100)}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Both stores; the hostile one is still at work."""
    folder = tmp_path_factory.mktemp("files")
    with (
        serving(tmp_path_factory.mktemp("data")) as server,
        openai.OpenAI(base_url=server.url, api_key=KEY, max_retries=0) as client,
        Memory(server.process.pid) as memory,
    ):
        scene = Scene(server, client, memory)
        for number, hostile in enumerate(UPLOADED):
            path = folder / str(number)
            hostile.make(path)
            scene.hostile[scene.upload(hostile.name, path)] = hostile
            path.unlink()
        scene.hostile_store = client.vector_stores.create(file_ids=list(scene.hostile)).id
        corpus = folder / "corpus"
        corpus.mkdir()
        for made in make_corpus(corpus, FILES):
            scene.made[scene.upload(made.path.name, made.path)] = made
        scene.good_store = client.vector_stores.create().id
        client.vector_stores.file_batches.create(scene.good_store, file_ids=list(scene.made))
        yield scene


@pytest.mark.assertion(178, 184, 202)
@pytest.mark.timeout(300)
def test_every_file_of_the_corpus_is_completed(scene: Scene) -> None:
    counts = scene.settled(scene.good_store).file_counts
    failed = {
        scene.made[one.id].path.name: one.last_error
        for one in scene.places(scene.good_store).values()
        if one.status != "completed"
    }
    assert not failed
    assert (counts.completed, counts.total) == (FILES, FILES)


@pytest.mark.timeout(300)
def test_every_known_sentence_is_found(scene: Scene) -> None:
    scene.settled(scene.good_store)

    def lost(pair: tuple[str, str]) -> str | None:
        file_id, sentence = pair
        [first, *_] = scene.client.vector_stores.search(scene.good_store, query=sentence)
        text = " ".join(piece.text for piece in first.content)
        is_found = first.file_id == file_id and squeezed(sentence) in squeezed(text)
        return None if is_found else f"{scene.made[file_id].path.name}: {sentence}"

    asked = [(id, sentence) for id, made in scene.made.items() for sentence in made.sentences]
    assert len(asked) > FILES
    with ThreadPoolExecutor(4) as pool:
        assert [one for one in pool.map(lost, asked) if one is not None] == []


@pytest.mark.assertion(200, 201)
@pytest.mark.timeout(300)
def test_every_file_is_cited_by_a_run(scene: Scene) -> None:
    scene.settled(scene.good_store)
    assistant = scene.client.beta.assistants.create(
        model="gpt-4o",
        tools=[{"type": "file_search"}],
        tool_resources={"file_search": {"vector_store_ids": [scene.good_store]}},
    )

    def wrong(pair: tuple[str, Made]) -> str | None:
        file_id, made = pair
        sentence = made.sentences[-1]
        search = {"call": {"name": "file_search", "arguments": {"queries": [sentence]}}}
        answer = {"text": f"„{sentence}“ 青鷺 🦢【4:0†source】 and 【9:9†source】more."}
        script = json.dumps({"turns": [[search], [answer]]})
        run = scene.client.beta.threads.create_and_run_poll(
            assistant_id=assistant.id,
            thread={"messages": [{"role": "user", "content": f"Please rehearse: {script}"}]},
        )
        if run.status != "completed":
            return f"{made.path.name}: {run.status} {run.last_error}"
        [message] = scene.client.beta.threads.messages.list(run.thread_id, run_id=run.id)
        [part] = message.content
        assert part.type == "text"
        [note] = part.text.annotations
        assert note.type == "file_citation"
        at = part.text.value[note.start_index : note.end_index]
        is_right = at == note.text == "【4:0†source】" and note.file_citation.file_id == file_id
        is_clean = "9:9" not in part.text.value
        return None if is_right and is_clean else f"{made.path.name}: {message.content}"

    with ThreadPoolExecutor(4) as pool:
        assert [one for one in pool.map(wrong, scene.made.items()) if one is not None] == []


@pytest.mark.assertion(190)
@pytest.mark.timeout(300)
def test_hostile_files_end_as_they_should_and_harm_nobody(scene: Scene) -> None:
    store = scene.settled(scene.hostile_store)
    assert store.status == "completed"
    places = scene.places(scene.hostile_store)
    assert len(places) == len(UPLOADED)
    wrong = []
    for id, hostile in scene.hostile.items():
        place = places[id]
        error = place.last_error
        said = error.message if error else ""
        if (place.status, error and error.code) != (hostile.status, hostile.code) or (
            error and not all(word in said for word in hostile.words)
        ):
            wrong.append((hostile.name, place.status, error))
        if place.status == "completed":
            [piece] = scene.client.vector_stores.files.content(
                id, vector_store_id=scene.hostile_store
            )
            if not all(squeezed(word) in squeezed(piece.text or "") for word in hostile.words):
                wrong.append((hostile.name, "completed", None))
    assert not wrong
    assert scene.server.process.poll() is None
    assert scene.memory.peak_bytes < MEMORY_BYTES, f"{scene.memory.peak_bytes >> 20} MiB"


def squeezed(text: str) -> str:
    """Readers may break lines and set spaces as they like."""
    return re.sub(r"\s+", "", text)
