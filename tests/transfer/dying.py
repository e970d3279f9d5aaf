"""A copier that kills itself (-9) at one change: `python -m tests.transfer.dying CHANGE N WHEN`.

It does what `understudy migrate` does with the settings of its environment: all goes to MOVE_TO,
and the blobs to MOVE_BLOBS_TO.
"""

import asyncio
import os
import sys

from tests.transfer.mortal import Fate, kill, mortal, mortal_blobs
from tests.transfer.places import tell
from understudy.settings import load, object_store_options
from understudy.transfer.moving import Sides, move, opened
from understudy.transfer.plan import Options, plan_of


async def main(of: str, at: int, when: str) -> None:
    """Copy until the change comes."""
    options = Options(target=os.environ["MOVE_TO"], blobs_target=os.environ["MOVE_BLOBS_TO"])
    fate = Fate(at, of=of, is_applied=when == "after", die=kill)
    async with opened(plan_of(options, load().settings), object_store_options()) as sides:
        assert sides.target is not None
        assert sides.blobs is not None
        blobs = sides.blobs[0], mortal_blobs(sides.blobs[1], fate)
        await move(Sides(sides.source, mortal(sides.target, fate), blobs), tell)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
