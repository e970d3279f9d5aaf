"""Shelving: random operations on files, uploads and vector stores, asked of two servers."""

import hashlib

from hypothesis import strategies as st
from hypothesis.stateful import initialize, multiple, rule

from tests.api.conversation import Json
from tests.fuzz import odd
from tests.fuzz.alike import Bijection
from tests.fuzz.operations import Made, Operations, Path, id_of, parent_of, some

CONTENTS = [
    "The red apple hangs in the green tree.",
    "A pear is no apple. 😀 Ünïcode, NUL \0 and \ufffd.",
    "Hôtel Zürich, İstanbul, straße; max_num_results in client.beta.threads",
    "苹果是红色的。りんごは赤い。",
    "".join(f"House {n}, number {n * n}, is {'red' if n % 3 else 'green'}.\n" for n in range(120)),
    "",
    " \n",
    "\0",
    "{}",
]
NAMES = ["a.txt", "b.md", "c.html", "d.json", "é😀.txt", "e.bin", "f", "g.pdf", "\0h.txt", "x.png"]
PURPOSES = odd.mostly(
    st.sampled_from(["assistants", "assistants", "vision", "user_data", "batch"]),
    st.sampled_from(["nothing", "\0"]),
)
QUERIES = [
    "red apple",
    "green",
    "pear \0",
    "苹果",
    "zurich",
    "numResults",
    "house 25",
    "\0",
    "of the",
]
DAYS = {"anchor": "last_active_at", "days": 1}


def _static(size: int, overlap: int) -> Json:
    sizes = {"max_chunk_size_tokens": size, "chunk_overlap_tokens": overlap}
    return {"type": "static", "static": sizes}


_chunking = odd.mostly(
    st.sampled_from([{"type": "auto"}, _static(100, 50), _static(100, 0)]),
    st.just(_static(100, 51)),
)


class Shelving(Operations):
    """Files, uploads and vector stores."""

    def __init__(self) -> None:
        super().__init__()
        self._uploaded = 0

    @initialize(target=Operations.stores)
    def first_store(self) -> Made:
        """One with a file."""
        file = self.upload(CONTENTS[1], "b.md", "assistants", None, None)
        return self.make_store({"file_ids": [id_of(str(file))]}, None)

    # Files.

    @initialize(target=Operations.files)
    def first_file(self) -> Made:
        """A text."""
        return self.upload(CONTENTS[0], "a.txt", "assistants", None, None)

    @rule(
        target=Operations.files,
        content=st.sampled_from(CONTENTS),
        name=st.sampled_from(NAMES),
        purpose=PURPOSES,
        lifetime=odd.mostly(st.sampled_from([None, "3600"]), st.sampled_from(["1", "\0"])),
        key=Operations.keys,
    )
    def upload(
        self, content: str, name: str, purpose: str, lifetime: str | None, key: str | None
    ) -> Made:
        """A file. Its name begins with a number, so that no two are the same."""
        self._uploaded += 1
        form = {"purpose": purpose}
        if lifetime is not None:
            form |= {"expires_after[anchor]": "created_at", "expires_after[seconds]": lifetime}
        answer = self.twins.ask(
            "POST",
            "/files",
            form=form,
            files={"file": (f"{self._uploaded}{name}", content.encode())},
            headers={} if key is None else {"Idempotency-Key": key},
        )
        return self.made("/files", answer)

    @rule(
        file=Operations.files,
        range=st.sampled_from([None, "bytes=0-3", "bytes=-2", "bytes=90-", "lines=1-2"]),
    )
    def download(self, file: Path, range: str | None) -> None:
        """The bytes of a file, or a part of them."""
        headers = {} if range is None else {"Range": range}
        self.twins.ask("GET", f"{file}/content", headers=headers)

    # Uploads.

    @rule(
        target=Operations.uploads,
        name=st.one_of(st.sampled_from(NAMES), odd.texts),
        purpose=PURPOSES,
        size=odd.mostly(st.sampled_from([3, 6]), st.just(0)),
        key=Operations.keys,
    )
    def begin_upload(self, name: str, purpose: str, size: int, key: str | None) -> Made:
        """An upload in parts."""
        body = {"filename": name, "purpose": purpose, "bytes": size, "mime_type": "text/plain"}
        return self.make("/uploads", body, key)

    @rule(
        target=Operations.parts,
        upload=Operations.uploads,
        data=st.sampled_from([b"abc", b"a\0c", b""]),
        key=Operations.keys,
    )
    def add_part(self, upload: Path, data: bytes, key: str | None) -> Made:
        """A part."""
        headers = {} if key is None else {"Idempotency-Key": key}
        path, files = f"{upload}/parts", {"data": ("part", data)}
        return self.made(path, self.twins.ask("POST", path, files=files, headers=headers))

    @rule(
        target=Operations.files,
        parts=st.lists(Operations.parts, min_size=1, max_size=3),
        md5=st.sampled_from([None, None, hashlib.md5(b"abcabc").hexdigest(), "\0"]),
        key=Operations.keys,
    )
    def complete(self, parts: list[Path], md5: str | None, key: str | None) -> Made:
        """A file of some parts, which may be of several uploads."""
        body: Json = {"part_ids": [id_of(part) for part in parts]}
        if md5 is not None:
            body["md5"] = md5
        headers = {} if key is None else {"Idempotency-Key": key}
        path = f"{parent_of(parts[0])}/complete"
        file = self.twins.ask("POST", path, body, headers=headers).object.get("file")
        return multiple() if file is None else f"/files/{file['id']}"

    @rule(upload=Operations.uploads)
    def cancel_upload(self, upload: Path) -> None:
        """The upload is over."""
        self.twins.ask("POST", f"{upload}/cancel")

    # Vector stores.

    @rule(
        target=Operations.stores,
        body=some(
            name=odd.mostly(odd.short_texts, odd.texts),
            description=odd.texts,
            metadata=odd.metadata,
            file_ids=st.lists(Operations.file_ids, max_size=4),
            chunking_strategy=_chunking,
            expires_after=st.sampled_from([DAYS, None]),
        ),
        key=Operations.keys,
    )
    def make_store(self, body: Json, key: str | None) -> Made:
        """A store, maybe with files."""
        store = self.make("/vector_stores", body, key)
        if isinstance(store, str):
            self.twins.indexed(store)
        return store

    @rule(target=Operations.stores, expires_after=st.sampled_from([None, DAYS]))
    def make_old_store(self, expires_after: Json | None) -> Made:
        """A store that was not used for two days; it has expired if it may."""
        return f"/vector_stores/{self.twins.unused_store(2 * 86_400, expires_after)}"

    @rule(
        store=Operations.stores,
        body=some(name=odd.short_texts, expires_after=st.sampled_from([DAYS, None])),
    )
    def change_store(self, store: Path, body: Json) -> None:
        """A new name, or another expiry, which revives an expired one."""
        self.twins.ask("POST", store, body)

    @rule(
        store=Operations.stores,
        file_id=Operations.file_ids,
        body=some(attributes=odd.attributes, chunking_strategy=_chunking),
        key=Operations.keys,
    )
    def attach(self, store: Path, file_id: str, body: Json, key: str | None) -> None:
        """A file comes into a store, or gets other attributes there."""
        self.make(f"{store}/files", {"file_id": file_id, **body}, key)
        self.twins.indexed(store)

    @rule(
        target=Operations.batches,
        store=Operations.stores,
        file_ids=st.lists(Operations.file_ids, min_size=1, max_size=3),
        attributes=odd.attributes,
        each=st.booleans(),
        is_held=st.booleans(),
    )
    def attach_batch(
        self, store: Path, file_ids: list[str], attributes: Json, each: bool, is_held: bool
    ) -> Made:
        """Files come into a store together; where they are held, the batch is cancelled."""
        files = [{"file_id": id, "attributes": attributes} for id in file_ids]
        body = {"files": files} if each else {"file_ids": file_ids, "attributes": attributes}
        is_held = is_held and self.twins.hold(store)
        batch = self.make(f"{store}/file_batches", body)
        if is_held:
            if isinstance(batch, str):
                self.twins.ask("GET", batch)
                self.page(f"{store}/files", {"filter": "in_progress"})
                self.twins.ask("POST", f"{batch}/cancel")
            self.twins.let_go(store)
        self.twins.indexed(store)
        return batch

    @rule(batch=Operations.batches)
    def cancel_batch(self, batch: Path) -> None:
        """Of a batch that is done, nothing."""
        self.twins.ask("POST", f"{batch}/cancel")

    @rule(
        path=st.one_of(Operations.stores, Operations.batches),
        query=some(
            limit=odd.limits,
            order=odd.orders,
            after=Operations.file_ids,
            before=Operations.file_ids,
            filter=st.sampled_from(["completed", "failed", "in_progress", "cancelled", "\0", ""]),
        ),
    )
    def list_store_files(self, path: Path, query: dict[str, str]) -> None:
        """A page of the files of a store or a batch."""
        self.page(f"{path}/files", query)

    @rule(
        store=Operations.stores,
        place=st.integers(0, 3),
        file_id=Operations.file_ids,
        what=st.sampled_from(["look", "read", "label", "remove"]),
        attributes=odd.attributes,
    )
    def take(self, store: Path, place: int, file_id: str, what: str, attributes: Json) -> None:
        """A file of a store by its place there, or one that is somewhere else."""
        here = [one["id"] for one in self.page(f"{store}/files", {})]
        path = f"{store}/files/{odd.quoted([*here, file_id][: place + 1][-1])}"
        match what:
            case "look":
                self.twins.ask("GET", path)
            case "read":
                self.twins.ask("GET", f"{path}/content")
            case "label":
                self.twins.ask("POST", path, {"attributes": attributes})
            case _:
                self.twins.ask("DELETE", path)

    @rule(
        store=Operations.stores,
        query=st.one_of(
            st.sampled_from(QUERIES), odd.texts, st.lists(st.sampled_from(QUERIES), max_size=3)
        ),
        body=some(
            filters=odd.filters,
            max_num_results=odd.mostly(st.sampled_from([3, 50]), st.sampled_from([51, 0])),
            ranking_options=odd.mostly(
                st.just({"score_threshold": 0.3}), st.just({"score_threshold": 1.1})
            ),
        ),
    )
    def search(self, store: Path, query: str | list[str], body: Json) -> None:
        """A search."""
        asked = {"query": query, **body}
        self.twins.ask("POST", f"{store}/search", asked, compare=Bijection.check_results)
