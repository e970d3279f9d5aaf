"""A real Jupyter Kernel Gateway for tests, in an environment of its own below .venvs/."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.ports import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
PYTHON = ROOT / ".venvs" / "jupyter" / "bin" / "python"
TOKEN = "token-that-nobody-may-see"
_START_S = 90.0


@dataclass(frozen=True)
class Gateway:
    """A gateway that runs. `folder` is what a first session gets for /mnt/data."""

    port: int
    folder: Path
    process: asyncio.subprocess.Process

    @property
    def url(self) -> str:
        """Its address, with the token."""
        return f"http://127.0.0.1:{self.port}?token={TOKEN}"

    async def kernels(self) -> list[str]:
        """The kernels that it has."""
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"token {TOKEN}"}) as http,
            http.get(f"http://127.0.0.1:{self.port}/api/kernels") as answer,
        ):
            return [kernel["id"] for kernel in await answer.json()]


@contextlib.asynccontextmanager
async def gateway(folder: Path, port: int | None = None) -> AsyncGenerator[Gateway]:
    """A gateway, with everything that it and its kernels write below `folder`."""
    assert PYTHON.exists(), "run `scripts/bootstrap acceptance` first"
    port = port or free_port()
    process = await _starting(folder, port)
    try:
        async with asyncio.timeout(_START_S):
            while not await _answers(port):
                assert process.returncode is None, (folder / "gateway.log").read_text()
                await asyncio.sleep(0.1)
        yield Gateway(port, folder / "data", process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _starting(folder: Path, port: int) -> asyncio.subprocess.Process:
    temporary = folder / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    command = [
        str(PYTHON), "-m", "kernel_gateway", "--KernelGatewayApp.ip=127.0.0.1",
        f"--KernelGatewayApp.port={port}", "--KernelGatewayApp.port_retries=0",
        "--JupyterWebsocketPersonality.list_kernels=True",
    ]  # fmt: skip
    environment = {
        "PATH": os.defpath,
        "HOME": str(folder),
        "TMPDIR": str(temporary),
        "KG_AUTH_TOKEN": TOKEN,
        "LANG": "C.UTF-8",
        "OPENBLAS_NUM_THREADS": "1",
    }
    with (folder / "gateway.log").open("wb") as log:
        return await asyncio.create_subprocess_exec(
            *command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )


async def _answers(port: int) -> bool:
    try:
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"http://127.0.0.1:{port}/api") as answer,
        ):
            return answer.status < 500
    except aiohttp.ClientError:
        return False
