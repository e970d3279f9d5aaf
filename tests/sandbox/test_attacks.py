"""Hostile code in a session, both ways of the jail: contained, in time, and harmless to others.

Attacks that take the whole time limit, with a short one; those on what a jail of its own for each
session changes; and those that only show here: what a worker that was taken over says to its
supervisor. All others are tried through the API (test_attacks_by_api.py); `SOAK=1` tries them here.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.conformance.sandboxes import SANDBOXES, environment, opened, running
from tests.sandbox import attacks_on_limits, attacks_on_rights, attacks_on_walls
from tests.sandbox.attack import Attack, attack
from understudy.sandbox import Sandbox, SandboxLost, Session
from understudy.sandbox.bubblewrap import Bubblewrap

ALL = [*attacks_on_walls.ATTACKS, *attacks_on_limits.ATTACKS, *attacks_on_rights.ATTACKS]
CANARY = "canary-b20c77"
TIMEOUT_S = 1.2
SLACK_S = 6.0  # For the hard end of a call, a new worker, and a busy machine.
NEIGHBOUR_S = 1.0 if "SOAK" in os.environ else 5.0  # A busy machine is slow for everybody.
# What a jail of its own for each session could change: walls, and limits that options of a mount
# set in the other way. The rest is the same code.
COLD = {3, 4, 6, 7, 8, 9, 10, 15, 19, 20, 21, 22, 25, 37, 38, 41, 44}
NESTED = [one for one in ALL if one.within_s == attacks_on_limits.LIMIT_S or "SOAK" in os.environ]

pytestmark = pytest.mark.asyncio(loop_scope="module")

# A worker's own frames, forged by code in it: `say` writes one wherever the worker might write.
FORGE = """
import json, os, struct
def say(head, blob=b"", lengths=None):
    said = json.dumps(head).encode()
    frame = struct.pack("!II", *(lengths or (len(said), len(blob)))) + said + blob
    for fd in range(3, 64):
        try:
            os.set_blocking(fd, False)
            os.write(fd, frame)
        except OSError:
            pass
"""
FORGED = {
    "a call's end": 'say({"type": "ended", "number": 1, "is_out_of_memory": False})',
    "another call's end": 'say({"type": "ended", "number": 99})',
    "an image that is none": 'say({"type": "image", "number": 1}, b"<svg>")',
    "an endless image": 'say({"type": "image", "number": 1}, b"x", lengths=(28, 1 << 31))',
    "images": 'for i in range(60): say({"type": "image", "number": 1}, b"\\x89PNG\\r\\n\\x1a\\n")',
    "counts": 'say({"type": "dropped", "number": 1, "images": 10**30})',
    "wrong counts": 'say({"type": "dropped", "number": 1, "images": -5})',
    "no type": 'say({"number": 1})',
    "a list": "say([1, 2])",
    "a deep list": 'say([[]]); os.write(5, b"x")',
    "half a frame": 'say({"type": "image"}, lengths=(4000, 100)); import time; time.sleep(60)',
}
HOSTILE_STREAMS = [
    attack(33, "streams replaced", "import sys\nsys.stdout = sys.stderr = None\n"),
    attack(33, "streams closed", "import sys\nsys.stdout.close(); sys.stderr.close()\n"),
    attack(34, "output redirected", "import os\nos.dup2(os.open('/tmp/x', 66), 1)\n"),
    attack(39, "a traceback without end", "def f(n): return f(n - 1)\nf(1)\n", "RecursionError"),
    attack(39, "an exception that hangs", "class E(Exception):\n    def __str__(self):\n"
           "        while True: pass\nraise E\n"),
    attack(39, "an image that hangs", "class I:\n    def _repr_png_(self):\n"
           "        while True: pass\nI()\n"),
    attack(18, "os.system swallows it", "import os\nwhile True: os.system('sleep 100')\n"),
    attack(31, "stopped by itself", "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)\n"),
    attack(39, "a figure far away", "import matplotlib.pyplot as plt\nplt.plot([1])\n"
           "plt.gca().text(1e7, 1e7, 'x')\n"),
    attack(39, "a long thin figure", "import matplotlib.pyplot as plt\n"
           "plt.figure(figsize=(1e6, 1e-3)); plt.plot([1])\n"),
    attack(39, "a fine figure", "import matplotlib.pyplot as plt\nplt.figure(dpi=1e6)\n"
           "plt.plot([1])\n"),
]  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nested() -> AsyncIterator[Sandbox]:
    """Sessions of one zygote, in a server whose environment has a secret."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECRET_OF_THE_SERVER", CANARY)
        async with opened(Bubblewrap(environment(), way="nested")) as sandbox:
            yield sandbox


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cold() -> AsyncIterator[Sandbox]:
    """Sessions with jails of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECRET_OF_THE_SERVER", CANARY)
        async with SANDBOXES["cold"]() as sandbox:
            yield sandbox


def _id(one: Attack) -> str:
    return f"{one.kind:02}-{one.name}"


@pytest.mark.parametrize("one", [*NESTED, *HOSTILE_STREAMS], ids=_id)
async def test_an_attack_is_contained(nested: Sandbox, tmp_path: Path, one: Attack) -> None:
    """Whatever it tries."""
    await _contained(nested, tmp_path, one)


@pytest.mark.parametrize("one", [one for one in ALL if one.kind in COLD], ids=_id)
async def test_an_attack_is_contained_in_the_cold(
    cold: Sandbox, tmp_path: Path, one: Attack
) -> None:
    """By the same walls."""
    await _contained(cold, tmp_path, one)


@pytest.mark.parametrize("name", FORGED)
async def test_forged_frames_only_harm_their_own_call(nested: Sandbox, name: str) -> None:
    """Each is believed for what it is worth, or costs the worker its life."""
    session = await nested.session("forger")
    said = await running(session, FORGE + FORGED[name], timeout_s=1)
    assert said.result.reason in (None, "protocol", "timeout", "died")
    assert len(said.result.images) <= 20
    # What it did to its own pipes may end the worker later, even right behind this answer.
    assert "2" in (await running(session, "1 + 1")).logs.splitlines()
    await nested.forget("forger")


async def _contained(sandbox: Sandbox, folder: Path, one: Attack) -> None:
    (folder / "secret.txt").write_text(CANARY)
    neighbour = await sandbox.session("neighbour")
    await running(neighbour, "mine = 21")
    session = await sandbox.session("attacker")
    code = one.code.replace("{port}", "8080").replace("{other}", "left")
    code = code.replace("{data}", str(folder))
    attacking = asyncio.create_task(_attack(session, code))
    began = time.monotonic()
    slowest = 0.0
    while not attacking.done():
        asked = time.monotonic()
        assert (await running(neighbour, "mine * 2")).logs == "42\n"
        slowest = max(slowest, time.monotonic() - asked)
        await asyncio.wait([attacking], timeout=0.2)
    logs, has_ended = await attacking
    assert time.monotonic() - began < TIMEOUT_S + SLACK_S
    assert "ESCAPED" not in logs, logs
    for secret in (CANARY, "root:x:0:0"):
        assert secret not in logs
    assert one.says in logs or not has_ended, logs
    assert slowest < NEIGHBOUR_S
    session = await sandbox.session("attacker")  # Another one when it had to be given up.
    assert "2" in (await running(session, "1 + 1")).logs.splitlines()
    for file in (await session.files())[:5]:
        async with contextlib.aclosing(session.get(file.path)) as pieces:
            assert b"root:x:0:0" not in b"".join([piece async for piece in pieces])
    await sandbox.forget("attacker")


async def _attack(session: Session, code: str) -> tuple[str, bool]:
    """What the code printed, and whether it ended by itself."""
    logs: list[str] = []
    reason = "lost"
    with contextlib.suppress(SandboxLost):
        result = await session.run(code, timeout_s=TIMEOUT_S, on_logs=logs.append)
        reason = result.reason or ""
    return "".join(logs), not reason
