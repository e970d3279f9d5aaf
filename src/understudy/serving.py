"""Serving: what `serve`, `api` and `worker` do, and how every command loads settings, runs and
fails.

It knows no command line: a server starts without the libraries that parse one (cli.py).
"""

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from understudy import __version__, heaps

if TYPE_CHECKING:
    from socket import socket

    from understudy.assembly import Welcome
    from understudy.settings import Loaded, Settings

T = TypeVar("T")
Role: TypeAlias = Literal["serve", "api", "worker"]  # As engine/worker.py has it.


def serve(
    host: str | None = None,
    port: int | None = None,
    data: str | None = None,
    workers: int | None = None,
    config: Path | None = None,
    role: Role = "serve",
) -> None:
    """Serve the API, work on runs, or both, until SIGTERM or Ctrl-C."""
    # Modules are no garbage, and to look for it among them takes long. On again: assembly.serve.
    gc.disable()
    heaps.share()
    _load_structlog()
    from understudy.settings import SettingsError

    settings = load(config, host=host, port=port, data=data, workers=workers).settings
    if settings.workers > 1 and role != "worker":
        from understudy import processes
        from understudy.assembly import check_settings

        try:
            check_settings(settings, role)
        except SettingsError as error:
            raise failure(str(error), 2) from None
        processes.run(settings, partial(_serve, settings, role))
    else:
        _serve(settings, role)


def _serve(
    settings: "Settings",
    role: Role,
    listener: "socket | None" = None,
    *,
    is_silent: bool = False,
) -> None:
    """One server, in this process, on a socket that is open or one of its own; a silent one leaves
    it to another to tell the operator."""

    async def run() -> None:
        from understudy import assembly, logs

        logs.configure(settings.log_level)
        found = await _find_local_servers(settings)

        def welcome(said: assembly.Welcome) -> None:
            if not is_silent:
                for line in banner(settings, role, said, found):
                    print(line, flush=True)

        def no_sandbox(state: str) -> None:
            if not is_silent:
                print(f"  sandbox       {state}", flush=True)

        await assembly.serve(settings, welcome, no_sandbox, role=role, listener=listener)

    run_to_end(run)


def _load_structlog() -> None:
    """Without rich, which it would load to draw tracebacks, for a tenth of a start: ours are plain.
    It does without what cannot be imported, and None in this place says so."""
    if "rich" not in sys.modules:
        sys.modules["rich"] = None  # type: ignore[assignment]
        import structlog  # noqa: F401

        del sys.modules["rich"]


def load(config: Path | None, **flags: object) -> "Loaded":
    """The effective settings, or exit code 2 with the reason."""
    from understudy import settings

    try:
        return settings.load(config=config, flags=flags)
    except settings.SettingsError as error:
        raise failure(str(error), 2) from None


def run_to_end(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run to the end; what the operator can mend is told in one line, without a traceback."""
    import uvloop

    from understudy.server import CannotStart
    from understudy.settings import SettingsError
    from understudy.store import AlreadyRunning, Unavailable

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work())
    except SettingsError as error:
        raise failure(str(error), 2) from None
    except (AlreadyRunning, CannotStart, Unavailable, OSError) as error:
        raise failure(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def failure(reason: str, code: int = 1) -> SystemExit:
    """Say why in one line; what is returned is to be raised."""
    print(f"understudy: {reason}", file=sys.stderr)
    return SystemExit(code)


# The banner of `serve`: at most twelve lines.

_LOCAL_SERVERS = {
    11434: "Ollama",
    1234: "LM Studio",
    8000: "A model server",
    8080: "A model server",
}


def banner(
    settings: "Settings", role: Role, said: "Welcome", found: list[tuple[str, str]]
) -> list[str]:
    """What the operator needs to know, and what to paste into a client."""
    from understudy.settings import masked

    if role == "worker":
        at = f", health at {said.url.removesuffix('/v1')}/health" if said.url else ""
        return [f"Worker ready{at}"]
    lines = [f"Understudy {__version__}", f"  API base URL  {said.url}"]
    if said.key is not None:
        lines.append(f"  API key       {said.key}  (shown only now; keep it)")
    if settings.database_url is not None:
        lines.append(f"  record        {masked('database_url', settings.database_url)}")
    else:
        lines.append(f"  data          {settings.data}")
    if settings.upstream_url is None:
        lines.append("  model         rehearsal, a scripted one: set UNDERSTUDY_UPSTREAM_URL")
    else:
        fallback = f", {settings.model} for unknown names" if settings.model else ""
        provider = masked("upstream_url", settings.upstream_url)
        lines.append(f"  model         {provider}{fallback}")
    for name, server in found[:2]:
        lines.append(f"  found         {name}: UNDERSTUDY_UPSTREAM_URL={server} uses it")
    lines.append(f"  search        {said.search}")
    lines.append(f"  sandbox       {said.sandbox}")
    key = said.key or "your key"
    lines.append("  client        from openai import OpenAI")
    lines.append(f'                client = OpenAI(base_url="{said.url}", api_key="{key}")')
    return lines


async def _find_local_servers(settings: "Settings") -> list[tuple[str, str]]:
    """Model servers on their usual loopback ports; named to the operator, never used unasked."""
    if settings.upstream_url is not None:
        return []
    ports = [port for port in _LOCAL_SERVERS if port != settings.port]
    answers = await asyncio.gather(*(_lists_models(port) for port in ports))
    return [
        (_LOCAL_SERVERS[port], f"http://127.0.0.1:{port}/v1")
        for port, answered in zip(ports, answers, strict=True)
        if answered
    ]


async def _lists_models(port: int) -> bool:
    """Whether something on this loopback port answers as a model provider does."""
    from understudy import limits

    try:
        async with asyncio.timeout(limits.PROBE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"GET /v1/models HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
                status = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return False
    return b" 200 " in status
