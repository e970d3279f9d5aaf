"""Keys: which credentials a request carries, whose they are, and how a key is made."""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from contextlib import suppress

from understudy import limits
from understudy.errors import ApiError
from understudy.store import Conflict, Statement, changes
from understudy.store.records import KeyRow
from understudy.store.store import Store
from understudy.world import World

DEFAULT_PROJECT = "default"


def hash_of(key: str) -> str:
    """What is stored of a key. Keys of ours carry 256 bits, so that a plain hash is enough."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def new_key(world: World, key: str, *, project: str, name: str) -> Statement:
    """The statement that makes a key valid."""
    return changes.insert_key(
        world.new_id("key"),
        project=project,
        hash=hash_of(key),
        prefix=key[:7],
        name=name,
        created_at=world.now(),
    )


async def ensure_key(store: Store, world: World, key: str) -> None:
    """Make the operator's own key valid, now and after restarts."""
    if await store.key(hash_of(key)) is not None:
        return
    # Conflict: another process of the same deployment was quicker, or the key was revoked.
    with suppress(Conflict):
        await store.commit(new_key(world, key, project=DEFAULT_PROJECT, name="UNDERSTUDY_API_KEY"))


def credentials(headers: Mapping[str, str]) -> list[str]:
    """All keys in a request, in the order in which they are tried (SPEC 2.2, 2.5)."""
    found = [
        _authorization(headers.get("authorization", "")),
        headers.get("api-key", "").strip(),
        headers.get("x-portkey-api-key", "").strip(),
    ]
    return [key for key in found if key]


def _authorization(value: str) -> str:
    """The key of a Bearer or Basic header; of another scheme, the whole value."""
    scheme, _, rest = value.strip().partition(" ")
    match scheme.lower():
        case "bearer":
            return rest.strip()
        case "basic":
            return _basic_password(rest.strip())
        case _:
            return value.strip()


def _basic_password(encoded: str) -> str:
    """The password; a key that was given as the user name counts too."""
    try:
        user, _, password = base64.b64decode(encoded).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return encoded
    return password or user


class Keys:
    """Finds the key of a request. A key that was seen is trusted for a while without a read."""

    def __init__(self, store: Store, world: World) -> None:
        self._store = store
        self._world = world
        self._seen: dict[str, tuple[float, KeyRow]] = {}

    async def key_of(self, headers: Mapping[str, str]) -> KeyRow:
        """The first credential that is a key, or the 401."""
        given = credentials(headers)
        for credential in given:
            row = await self._find(credential)
            if row is not None:
                return row
        raise ApiError.bad_key(given[0]) if given else ApiError.no_key()

    async def _find(self, credential: str) -> KeyRow | None:
        hash = hash_of(credential)
        now = self._world.monotonic()
        seen = self._seen.get(hash)
        if seen is not None and now < seen[0]:
            return seen[1]
        self._seen.pop(hash, None)
        row = await self._store.key(hash)
        if row is not None:
            if len(self._seen) >= limits.KEYS_CACHED:
                self._seen.clear()
            self._seen[hash] = (now + limits.KEY_CACHE_S, row)
        return row
