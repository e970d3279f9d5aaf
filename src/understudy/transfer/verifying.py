"""Verifying: all rows of both sides, read again and compared, with a checksum of each side.

The source is read in its order, and of each page the same rows are asked of the target by their
keys, for two databases do not sort texts alike. So both checksums go over the same encoding of the
same keys in the same order. What only the target has shows in its count.
"""

import hashlib
from contextlib import aclosing
from dataclasses import dataclass, field

from understudy.store import Row
from understudy.store.tables import Table, Tables
from understudy.transfer.progress import Tell
from understudy.transfer.rows import at_rest, by_key, encode, keys_of, pages

_DIGEST_BYTES = 16


@dataclass(frozen=True)
class Difference:
    """What is not the same on both sides: of which table (or of the blobs), at which key, how."""

    name: str
    key: str
    how: str

    def __str__(self) -> str:
        return f"{self.name} {self.key} {self.how}"


def _new_sum() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=_DIGEST_BYTES)


@dataclass
class Verified:
    """What was found of a table. `first` is the first difference in the source's order."""

    rows: int = 0
    size_bytes: int = 0
    missing: int = 0
    differing: int = 0
    first: Difference | None = None
    _source_sum: hashlib.blake2b = field(default_factory=_new_sum)
    _target_sum: hashlib.blake2b = field(default_factory=_new_sum)

    @property
    def checksums(self) -> tuple[str, str]:
        """Of the source and of the target."""
        return self._source_sum.hexdigest(), self._target_sum.hexdigest()

    def compare(self, table: Table, key: Row, row: Row, found: Row | None) -> None:
        """A row of the source with that of the target."""
        encoded = encode(row)
        self.rows += 1
        self.size_bytes += len(encoded)
        self._source_sum.update(encoded)
        if found is None:
            self.missing += 1
            self.differ(table, key, "is not at the target")
            return
        there = encode(found)
        self._target_sum.update(there)
        if there != encoded:
            pairs = zip(table.columns, row, found, strict=True)
            columns = ", ".join(name for name, one, other in pairs if encode(one) != encode(other))
            self.differ(table, key, f"differs in {columns}")

    def differ(self, table: Table, key: Row, how: str, count: int = 1) -> None:
        """So many rows are not the same, of which this is the first."""
        self.differing += count
        if self.first is None:
            self.first = Difference(table.name, "/".join(map(str, key)), how)


async def verify_table(
    source: Tables, target: Tables, table: Table, total: int, tell: Tell
) -> Verified:
    """Compare a table. Changes nothing."""
    verified = Verified()
    async with aclosing(pages(source, table)) as found:
        async for rows in found:
            kept = target.storable(table, at_rest(table, rows))
            keys = keys_of(table, kept)
            there = by_key(table, at_rest(table, await target.find(table, keys)))
            for key, row in zip(keys, kept, strict=True):
                verified.compare(table, key, row, there.get(key))
            tell(f"verifying {table.name}", verified.rows, total, verified.size_bytes)
    extra = await target.count(table) - (verified.rows - verified.missing)
    if extra > 0:
        key = await _first_extra(source, target, table)
        verified.differ(table, key, "is only at the target", extra)
    if table.counter and await target.last_number(table) < await source.last_number(table):
        verified.differ(table, (table.counter,), "would be given twice")
    return verified


async def _first_extra(source: Tables, target: Tables, table: Table) -> Row:
    """The key of the first row, in the target's order, that the source does not have."""
    async with aclosing(pages(target, table)) as found:
        async for rows in found:
            keys = keys_of(table, rows)
            known = by_key(table, await source.find(table, keys))
            for key in keys:
                if key not in known:
                    return key
    raise AssertionError("the target has more rows than the source")
