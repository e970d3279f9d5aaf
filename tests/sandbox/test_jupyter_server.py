"""A Jupyter server that is none, is not there, or does not let us in: what is said of it, and when
it is asked again."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.conformance.sandboxes import running
from tests.sandbox.jupyter_false import TOKEN, Server, no_answer, says, served, shorten, silence
from understudy import limits
from understudy.sandbox import SandboxLost, SandboxUnavailable
from understudy.sandbox.jupyter import Jupyter


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)


@dataclass(frozen=True)
class Trouble:
    """A server that is none, and what is said of it."""

    change: Callable[[Server], object]
    said: str


def _set(**values: Any) -> Callable[[Server], None]:
    def change(server: Server) -> None:
        for name, value in values.items():
            setattr(server, name, value)

    return change


TROUBLES = {
    "no python": Trouble(
        _set(specs={"kernelspecs": {"r": {"spec": {"language": "R"}}}}), "no Python kernel"
    ),
    "not json": Trouble(_set(specs="<html>"), "no Jupyter server"),
    "deep": Trouble(_set(specs=json.loads("[" * 900 + "]" * 900)), "no Jupyter server"),
    "huge": Trouble(_set(specs=["x" * 2_000_000]), "cannot be reached"),
    "bad id": Trouble(_set(kernel={"id": "../../etc"}), "no Jupyter server"),
    "endless id": Trouble(_set(kernel={"id": "x" * 10_000}), "no Jupyter server"),
    "redirect": Trouble(_set(status=302), "no Jupyter server"),
    "missing": Trouble(_set(status=404), "no Jupyter server"),
    "forbidden": Trouble(_set(status=403), "refused the token"),
    "broken": Trouble(_set(status=500), "has failed"),
    "no ipython": Trouble(lambda it: it.helped.update(begin=no_answer), "cannot be used"),
    "not fresh": Trouble(
        lambda it: it.helped.update(begin=says({"is_fresh": False})), "cannot be used"
    ),
    "odd folder": Trouble(
        lambda it: it.helped.update(
            begin=says({"is_fresh": True, "folder": "../x", "python": "3"})
        ),
        "cannot be used",
    ),
    "silent": Trouble(lambda it: it.helped.update(begin=silence), "does not answer"),
    "wrong sum": Trouble(_set(code=no_answer), "does not run"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_what_is_wrong_is_said_with_what_helps(
    trouble: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In words, and without the token."""
    server = Server()
    TROUBLES[trouble].change(server)
    async with served(server) as sandbox:
        assert sandbox.state == "starting"
        with pytest.raises(SandboxUnavailable) as failure:
            await sandbox.started()
        assert f"{sandbox.state}" == "off"
        assert TROUBLES[trouble].said in failure.value.cause
        assert failure.value.remedy
        said = f"{failure.value} {sandbox.detail} {capsys.readouterr()}"
        assert str(server.port) in said or trouble in (
            "no ipython",
            "not fresh",
            "odd folder",
            "silent",
        )
    assert TOKEN not in f"{said} {capsys.readouterr()}"


async def test_a_failed_test_is_not_repeated_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And when it is, a server that is back serves."""
    server = Server(status=500)
    async with served(server) as sandbox:
        with pytest.raises(SandboxUnavailable):
            await sandbox.started()
        server.status = 200
        with pytest.raises(SandboxUnavailable):
            await sandbox.session("thread_a")
        assert server.asked == ["GET kernelspecs"]
        monkeypatch.setattr(limits, "JUPYTER_RETRY_S", 0.0)
        assert (await running(await sandbox.session("thread_a"), "1 + 1")).logs == "2\n"
        assert sandbox.state == "up"


async def test_a_server_that_stops_is_off_and_its_kernels_are_ended_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next session asks for a test of the server."""
    monkeypatch.setattr(limits, "JUPYTER_RETRY_S", 0.0)
    server = Server()
    async with served(server) as sandbox:
        await sandbox.session("thread_a")
        server.status = 500
        await sandbox.forget("thread_a")
        with pytest.raises(SandboxUnavailable):
            await sandbox.session("thread_a")
        with pytest.raises(SandboxUnavailable):
            await sandbox.started()
        assert sandbox.state == "off"
        server.status = 200
        server.asked.clear()
        await sandbox.session("thread_a")
        assert server.asked.count("DELETE kernels/kernel-1") == 2  # The test's, and the old one.


@pytest.mark.parametrize(
    "url",
    [
        "http://", "http://host:port", f"ftp://host?token={TOKEN}", f"http://[::?token={TOKEN}",
        f"http://host:99999999/?token={TOKEN}", f"http://host?token={TOKEN}%0d%0aX: y",
    ],
)  # fmt: skip
async def test_an_address_that_is_none_is_said_so(url: str) -> None:
    """Without a word of it: it may hold the token."""
    sandbox = Jupyter(url)
    assert sandbox.state == "off"
    with pytest.raises(SandboxUnavailable) as failure:
        await sandbox.session("thread_a")
    assert TOKEN not in f"{failure.value} {sandbox.detail}"
    await sandbox.close()


@pytest.mark.parametrize("user", [f"{TOKEN}@", f":{TOKEN}@", f"user:{TOKEN}@"])
async def test_a_token_may_stand_before_an_at(user: str) -> None:
    """It goes out as a header all the same."""
    server = Server()
    async with served(server):
        sandbox = Jupyter(f"http://{user}127.0.0.1:{server.port}/base/")
        await sandbox.started()
        assert TOKEN not in sandbox.detail
        await sandbox.close()
    assert server.tokens == {f"token {TOKEN}"}


async def test_a_server_that_is_not_there_is_said_so() -> None:
    """With the system's words."""
    sandbox = Jupyter(f"http://127.0.0.1:1/?token={TOKEN}")
    with pytest.raises(SandboxUnavailable, match=r"127\.0\.0\.1:1 cannot be reached\. .*refused"):
        await sandbox.started()
    await sandbox.close()
    with pytest.raises(SandboxUnavailable, match="stopping"):
        await sandbox.started()


async def test_a_server_that_comes_back_serves_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its old sessions are lost, new ones work."""
    monkeypatch.setattr(limits, "JUPYTER_RETRY_S", 0.0)
    server = Server()
    async with served(server):
        sandbox = Jupyter(server.url)
        old = await sandbox.session("thread_a")
    with pytest.raises(SandboxLost):
        await running(old, "1")
    with pytest.raises(SandboxUnavailable, match="cannot be reached"):
        await sandbox.session("thread_a")
    async with served(server, server.port):
        new = await sandbox.session("thread_a")
        assert (await running(new, "1 + 1")).logs == "2\n"
        await sandbox.close()


async def test_a_proxy_that_lets_no_websocket_pass_is_named() -> None:
    """It is the commonest mistake."""

    async def http(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/channels"):
            raise web.HTTPBadRequest
        said: Any = {"id": "k"} if request.method == "POST" else Server().specs
        return web.json_response(said)

    server = Server()
    server.http = http  # type: ignore[method-assign]
    async with served(server) as sandbox:
        with pytest.raises(SandboxUnavailable, match="proxy"):
            await sandbox.started()


async def test_nothing_is_left_of_a_closed_sandbox() -> None:
    """Neither tasks nor connections."""
    before = asyncio.all_tasks()
    server = Server()
    async with served(server) as sandbox:
        for key in "abc":
            await running(await sandbox.session(key), "1 + 1")
        await sandbox.close()
        async with aiohttp.ClientSession():
            assert server.asked.count("DELETE kernels/kernel-1") == 4
    await asyncio.sleep(0.1)
    assert {task.get_name() for task in asyncio.all_tasks() - before} == set()
