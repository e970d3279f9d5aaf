"""Deletions: blobs are removed, and while their store is away hardly anybody asks for it."""

from collections.abc import Sequence

from understudy.blobs import Blobs, BlobsUnavailable


class Deletions:
    """What the jobs of one process delete blobs through.

    A job that waits for a store that hangs holds a slot that a run could have. So once a store is
    found away, one job at a time looks whether it is back, and all others are told at once.
    """

    def __init__(self) -> None:
        self._is_away = False
        self._is_looking = False

    async def delete(self, blobs: Blobs, keys: Sequence[str]) -> None:
        """Remove these blobs. Raises BlobsUnavailable."""
        if self._is_away and self._is_looking:
            raise BlobsUnavailable("they were not there a moment ago")
        self._is_looking = True
        try:
            for key in keys:
                await blobs.delete(key)
        except BlobsUnavailable:
            self._is_away = True
            raise
        else:
            self._is_away = False
        finally:
            self._is_looking = False
