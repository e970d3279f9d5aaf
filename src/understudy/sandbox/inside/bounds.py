"""The bounds of a session. The server says them when it starts one; they are its limits.py."""

from dataclasses import asdict, dataclass
from typing import Any

HEAD_BYTES = 1024 * 1024  # Of a frame's head between server and supervisor: a whole listing.
LISTING_BYTES = HEAD_BYTES // 4  # Of the paths in it: escaped, each may take thrice its length.
WORKER_HEAD_BYTES = 4096  # Of what a worker says: it has three short things to say.
CODE_BYTES = 16 * 1024 * 1024  # Of one call's code; no model writes so much.
READ_BYTES = 64 * 1024  # A pipe holds no more.
DRAINED_READS = 32  # Of output that was there when a call ended; a thread may go on writing.
FLUSH_BYTES = 4096  # Output goes to the server when it is so much,
FLUSH_S = 0.04  # or so old: a frame for each tiny print would cost more than the code.
WATCH_S = 0.25  # Between looks at memory and processes.
BEGIN_S = 3.0  # For the worker to take a call's code; else the call gets another worker.
INTERRUPT_AGAIN_S = 0.3  # `os.system` swallows an interrupt: it gets another one.
REAP_S = 5.0  # For killed processes to be gone; the kernel needs longer only for a full disk.
MATPLOTLIB = "/tmp/matplotlib"  # noqa: S108 - Its folder, in a jail's own /tmp.
WRITABLE = ("/mnt/data", "/tmp", "/dev/shm")  # noqa: S108 - What a jail has of its own.
PATH_BYTES = 4096  # Of a path from the server.


@dataclass(frozen=True)
class Bounds:
    """What one session may use. Times in seconds."""

    folder: str  # /mnt/data, or what stands for it where there is no jail.
    is_jailed: bool
    grace_s: float
    interrupt_s: float
    logs_bytes: int
    images: int
    image_bytes: int
    image_pixels: int
    files_seen: int
    folder_depth: int
    folder_files: int
    folder_bytes: int
    process_bytes: int
    session_bytes: int
    processes: int
    open_files: int
    frame_bytes: int

    def said(self) -> dict[str, Any]:
        """As the server sends them."""
        return asdict(self)
