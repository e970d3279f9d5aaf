"""Operations: what random operations have in common: bundles of paths, and what fits any object.

An object is named by its path, `/threads/thread_abc/messages/msg_def`, in the first server's ids. A
path stays in its bundle when its object is gone, so that whatever asks for it asks for nothing.
"""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, multiple, rule
from hypothesis.strategies import SearchStrategy

from tests.api.conversation import Json
from tests.api.serving import Running
from tests.fuzz import odd
from tests.fuzz.twins import Answered, Twins

Path = str  # Of an object.
Made = str | MultipleResults[str]  # A path for a bundle, or none.


def id_of(path: Path) -> str:
    """The id in a path."""
    return path.rpartition("/")[2]


def parent_of(path: Path) -> Path:
    """The path of what an object is in."""
    return path.rsplit("/", 2)[0]


def some(**strategies: SearchStrategy[Any]) -> SearchStrategy[Json]:
    """A body in which any of these may be absent."""
    return st.fixed_dictionaries({}, optional=strategies)


def _nobodys() -> SearchStrategy[Path]:
    """Paths of objects that nobody has."""
    prefixes = {
        "assistants": "asst_",
        "threads": "thread_",
        "files": "file-",
        "uploads": "upload_",
        "vector_stores": "vs_",
    }
    paths = st.sampled_from(sorted(prefixes)).flatmap(
        lambda kind: odd.ids(prefixes[kind]).map(lambda id: f"/{kind}/{odd.quoted(id)}")
    )
    return st.one_of(paths, st.sampled_from(["/", "/nothing", "/threads/a/b/c", "/files//content"]))


class Operations(RuleBasedStateMachine):
    """A project on both servers, and the paths of what was made in it."""

    servers: tuple[Running, Running]

    assistants = Bundle("assistants")
    threads = Bundle("threads")
    messages = Bundle("messages")
    runs = Bundle("runs")
    steps = Bundle("steps")
    files = Bundle("files")
    uploads = Bundle("uploads")
    parts = Bundle("parts")
    stores = Bundle("stores")
    batches = Bundle("batches")

    anything = st.one_of(
        assistants, threads, messages, runs, steps, files, uploads, stores, batches
    )
    keys = odd.mostly(
        st.sampled_from([None, None, None, "key", "Key"]), st.sampled_from(["k" * 512, "k" * 513])
    )
    file_ids = odd.or_odd(files.map(id_of), "file-")
    strangers = st.sampled_from([False, False, False, True])

    def __init__(self) -> None:
        super().__init__()
        self.twins = Twins(self.servers)

    def teardown(self) -> None:
        """Leave nothing running."""
        self.twins.close()

    def make(self, kind: Path, body: object, key: str | None = None) -> Made:
        """POST something, maybe under an idempotency key."""
        headers = {} if key is None else {"Idempotency-Key": key}
        return self.made(kind, self.twins.ask("POST", kind, body, headers=headers))

    def made(self, kind: Path, answer: Answered) -> Made:
        """The path of what was made, if anything was."""
        return multiple() if answer.id is None else f"{kind}/{answer.id}"

    def page(self, path: Path, query: dict[str, str]) -> list[Json]:
        """A page of a list."""
        answer = self.twins.ask("GET", path + odd.query(query))
        found: list[Json] = answer.object.get("data", [])
        return found

    def settle(self, thread: Path) -> None:
        """Wait for the files of a thread's store."""
        resources = self.twins.ask("GET", thread).object.get("tool_resources", {})
        for store_id in resources.get("file_search", {}).get("vector_store_ids", []):
            self.twins.indexed(f"/vector_stores/{store_id}")

    # Any object.

    @rule(path=anything, stranger=strangers)
    def look(self, path: Path, stranger: bool) -> None:
        """GET."""
        self.twins.ask("GET", path, is_strangers=stranger)

    @rule(path=anything, metadata=odd.metadata)
    def label(self, path: Path, metadata: Json) -> None:
        """New metadata, of whatever has any."""
        self.twins.ask("POST", path, {"metadata": metadata})

    @rule(path=anything, stranger=strangers)
    def remove(self, path: Path, stranger: bool) -> None:
        """DELETE."""
        self.twins.ask("DELETE", path, is_strangers=stranger)

    @rule(path=st.one_of(threads, runs, stores), other=st.one_of(messages, runs, steps, batches))
    def look_elsewhere(self, path: Path, other: Path) -> None:
        """An object as if it were in another one."""
        self.twins.ask("GET", "/".join([path, *other.rsplit("/", 2)[1:]]))

    @rule(
        path=st.one_of(_nobodys(), anything),
        method=st.sampled_from(["GET", "POST", "DELETE", "PUT"]),
        key=odd.mostly(
            st.none(), st.sampled_from(["", "Bearer sk-wrong", "Basic sk", "Bearer %00"])
        ),
    )
    def ask_in_vain(self, path: Path, method: str, key: str | None) -> None:
        """What nobody has, in a way that nobody answers, or for nobody."""
        headers = {} if key is None else {"Authorization": key}
        body = {"metadata": None} if method == "POST" else None
        self.twins.ask(method, path, body, headers=headers)

    @rule(
        path=st.sampled_from(["/assistants", "/threads", "/vector_stores", "/files"]),
        query=some(
            limit=odd.limits,
            order=odd.orders,
            after=odd.or_odd(st.one_of(assistants, threads, stores, files).map(id_of), ""),
            before=st.one_of(assistants, threads, stores, files).map(id_of),
            purpose=st.sampled_from(["assistants", "vision", "nothing", "\0", ""]),
        ),
        stranger=strangers,
    )
    def list_all(self, path: Path, query: dict[str, str], stranger: bool) -> None:
        """A page of what the project has."""
        self.twins.ask("GET", path + odd.query(query), is_strangers=stranger)
