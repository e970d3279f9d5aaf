"""Ports that stay free while nobody listens: a server that was killed gets its own again."""

import secrets
import socket
from pathlib import Path

_TRIES = 200
_LOWEST = 10_000
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens now.

    It is not taken from those that the kernel gives to outgoing connections, as port 0 would be:
    between the death of a server and its next start one of them could get it. Several processes
    choose at the same time; by chance they choose differently, also where Hypothesis has seeded
    `random` alike in all of them.
    """
    highest = _ephemeral() - 1
    for _ in range(_TRIES):
        port = secrets.choice(range(_LOWEST, highest + 1))
        if _is_free(port):
            return port
    raise AssertionError(f"{_TRIES} ports between {_LOWEST} and {highest} were all in use")


def _ephemeral() -> int:
    """The first port that outgoing connections get."""
    return int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 32_768


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
