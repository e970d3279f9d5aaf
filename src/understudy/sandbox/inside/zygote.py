"""The zygote: a Python with the libraries imported, from which sessions are forked.

It lives in the outer jail, never runs the model's code, and only answers two questions of the
server. A session is a fork with namespaces of its own; its pid 1 is the supervisor.
"""

import array
import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import NoReturn

from understudy.sandbox.inside import kernel, supervisor
from understudy.sandbox.inside.bounds import MATPLOTLIB
from understudy.sandbox.inside.frames import Head

_REAP_S = 1.0  # Dead sessions are buried at least so often.
_MESSAGE_BYTES = 4096
_ID = 1000  # The user in a session; nobody outside.
_OPTIONS = kernel.MS_NOSUID | kernel.MS_NODEV


def serve(server: socket.socket) -> NoReturn:
    """Say that it is ready, and fork sessions until the server hangs up."""
    cache = _matplotlib_files()
    gc.collect()
    gc.freeze()  # A collection in a session would touch, and so copy, what is shared.
    # Namespaces for users cannot be left by a process with threads.
    _say(server, {"type": "ready", "threads": len(list(Path("/proc/self/task").iterdir()))})
    while True:
        readable, _, _ = select.select([server], [], [], _REAP_S)
        _reap()
        if not readable:
            continue
        said, ancillary, _, _ = server.recvmsg(_MESSAGE_BYTES, socket.CMSG_SPACE(4))
        if not said:
            os._exit(0)
        _fork(server, {**json.loads(said), "cache": cache}, array.array("i", ancillary[0][2])[0])


def _say(server: socket.socket, head: Head) -> None:
    server.send(json.dumps(head).encode())


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _fork(server: socket.socket, sizes: Head, session: int) -> None:
    """A new session on its own socket; why there is none is said on that."""
    pid = os.fork()
    if pid:
        os.close(session)
        os.waitpid(pid, 0)
        return
    connection = socket.socket(fileno=session)
    try:
        server.close()
        _enter(sizes)
        supervisor.serve(connection)
    except BaseException as error:  # noqa: BLE001 - the child must not return.
        with contextlib.suppress(OSError):
            connection.sendall(f"?{error}"[:_MESSAGE_BYTES].encode(errors="replace"))
    finally:
        os._exit(1)


def _enter(sizes: Head) -> None:
    """Leave the zygote's world for a new one. Returns only in its pid 1."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uid, gid = os.getuid(), os.getgid()
    kernel.unshare(
        kernel.CLONE_NEWUSER
        | kernel.CLONE_NEWNS
        | kernel.CLONE_NEWPID
        | kernel.CLONE_NEWNET
        | kernel.CLONE_NEWIPC
        | kernel.CLONE_NEWUTS
        | kernel.CLONE_NEWCGROUP
    )
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{_ID} {uid} 1")
    _write("/proc/self/gid_map", f"{_ID} {gid} 1")
    # Not bound to the parent's death: it dies right away. The session ends with the zygote, whose
    # namespace it is in.
    if os.fork():
        os._exit(0)
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("proc", "/proc", "proc", _OPTIONS | kernel.MS_NOEXEC)
    for folder, size, files, mode in sizes["mounts"]:
        kernel.mount(
            "tmpfs", folder, "tmpfs", _OPTIONS, f"size={size},nr_inodes={files},mode={mode}"
        )
    with contextlib.suppress(OSError):  # Beside seccomp, which says the same.
        _write("/proc/sys/user/max_user_namespaces", "0")
    _give_matplotlib(sizes["cache"])
    os.chdir(sizes["folder"])
    kernel.drop_capabilities()
    kernel.forbid_new_privileges()
    kernel.set_dumpable(False)
    sys.argv[:] = [""]


def _matplotlib_files() -> dict[str, bytes]:
    """The list of fonts, which takes long to make."""
    folder = Path(MATPLOTLIB)
    return {path.name: path.read_bytes() for path in folder.glob("*.json")}


def _give_matplotlib(files: dict[str, bytes]) -> None:
    """Programs that the code starts import matplotlib anew."""
    folder = Path(MATPLOTLIB)
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:  # noqa: PTH123 - three of them, at each start.
        file.write(text)
