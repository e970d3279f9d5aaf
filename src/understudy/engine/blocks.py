"""Blocks: the vectors of a vector store in memory, kept in order while documents come and go.

Apart from index.py because all of it is arithmetic: numpy is loaded with the first search.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from understudy import limits
from understudy.engine.index import Documents
from understudy.search.rank import ORDINAL_BITS, Block, Numbers, visible

# A block that is at most so many times larger than what came after it is made one with that: each
# vector is copied a few times in all, and a search has a few products.
_LIKE = 2


@dataclass(frozen=True)
class Held:
    """The vectors of exactly these documents in memory."""

    documents: Documents
    blocks: tuple[Block, ...] = ()

    @property
    def size_bytes(self) -> int:
        """What they take in memory."""
        return sum(block.size_bytes for block in self.blocks)

    def moved(self, documents: Documents, new: Sequence[Block]) -> "Held":
        """With new vectors, and without those of documents that are no more."""
        blocks = [_of(block, documents.numbers) for block in self.blocks]
        blocks = [block for block in [*blocks, *new] if len(block.keys)]
        while len(blocks) > 1 and _are_alike(*blocks[-2:]):
            blocks[-2:] = [_one(blocks[-2:])]
        return Held(documents, tuple(blocks))


def _of(block: Block, alive: Numbers) -> Block:
    """The block without documents that are no more."""
    kept = visible(block.keys, alive)
    return block if kept is None else block.only(kept)


def _are_alike(older: Block, newer: Block) -> bool:
    """Whether to make two blocks one."""
    is_small = older.vectors.nbytes + newer.vectors.nbytes <= limits.VECTOR_BLOCK_BYTES
    return is_small and len(older.keys) <= _LIKE * len(newer.keys)


def _one(blocks: Sequence[Block]) -> Block:
    """Some blocks as one."""
    one = Block(
        np.concatenate([block.vectors for block in blocks]),
        np.concatenate([block.keys for block in blocks]),
    )
    is_sorted = (np.diff(one.keys) >= 0).all()
    return one if is_sorted else one.only(np.argsort(one.keys, kind="stable"))


def as_block(rows: Sequence[tuple[int, bytes, bytes]], dimensions: int) -> Block:
    """Rows of the record (document, ordinals of chunks, vectors) as one block."""
    # In numpy's own memory, which has larger pages: products are a sixth quicker than over bytes.
    data = np.concatenate([np.frombuffer(vectors, "<f4") for _, _, vectors in rows])
    keys = [
        np.frombuffer(owners, "<u4").astype(np.int64) | (document << ORDINAL_BITS)
        for document, owners, _ in rows
    ]
    return Block(data.reshape(-1, dimensions), np.concatenate(keys))
