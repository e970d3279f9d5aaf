"""Blobs of any size go through little memory."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.s3_server import S3Server

ROOT = Path(__file__).resolve().parents[2]
SIZES_MB = [96, 512] if os.environ.get("SOAK") else [96]
MOST_BYTES = 50_000_000  # Four buffers of an upload, and what the allocators keep.


def haul(url: str, what: str, megabytes: int, environment: Mapping[str, str]) -> int:
    """How many bytes of memory another process needs for it."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.blobs.hauling", url, what, str(megabytes)],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        check=True,
        timeout=900,
    )
    said = json.loads(done.stdout)
    assert said["size"] == megabytes * 1_000_000
    grown: int = said["grown"]
    return grown


@pytest.mark.parametrize("megabytes", SIZES_MB)
@pytest.mark.parametrize("place", ["s3", "file"])
def test_a_large_blob_needs_little_memory(
    s3: S3Server, tmp_path: Path, place: str, megabytes: int
) -> None:
    url = s3.place() if place == "s3" else f"file://{tmp_path}/blobs"
    assert haul(url, "put", megabytes, s3.environment) < MOST_BYTES
    assert haul(url, "read", megabytes, s3.environment) < MOST_BYTES
