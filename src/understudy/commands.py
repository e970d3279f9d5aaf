"""The commands. Each imports what it needs, so that `--help` is quick."""

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from understudy import __version__, serving
from understudy.serving import failure, load, run_to_end

if TYPE_CHECKING:
    from understudy.sandbox.environment import Environment
    from understudy.settings import Settings

T = TypeVar("T")

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Understudy, a self-hosted server for the Assistants API.",
)
keys_app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys.")
app.add_typer(keys_app, name="keys")
sandbox_app = typer.Typer(no_args_is_help=True, help="What code_interpreter runs in.")
app.add_typer(sandbox_app, name="sandbox")

ConfigOption = Annotated[Path | None, typer.Option(help="TOML file with settings.")]
HostOption = Annotated[str | None, typer.Option(help="Address to listen on.")]
PortOption = Annotated[int | None, typer.Option(help="Port to listen on; 0 picks one.")]
WorkersOption = Annotated[
    int | None, typer.Option(help="Server processes; above 1 needs PostgreSQL.")
]
DataOption = Annotated[str | None, typer.Option(help="Folder that holds everything.")]


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Understudy, a self-hosted server for the Assistants API."""
    if version:
        print(f"understudy {__version__}")
        raise typer.Exit


@app.command()
def serve(
    host: HostOption = None,
    port: PortOption = None,
    data: DataOption = None,
    workers: WorkersOption = None,
    config: ConfigOption = None,
) -> None:
    """Serve the API until SIGTERM or Ctrl-C."""
    serving.serve(host, port, data, workers, config)


@app.command()
def api(
    host: HostOption = None,
    port: PortOption = None,
    data: DataOption = None,
    workers: WorkersOption = None,
    config: ConfigOption = None,
) -> None:
    """Serve the API only; workers on the same PostgreSQL drive the runs (docs/scaling.md)."""
    serving.serve(host, port, data, workers, config, role="api")


@app.command()
def worker(data: DataOption = None, config: ConfigOption = None) -> None:
    """Drive runs and index files only, for servers on the same PostgreSQL (docs/scaling.md)."""
    serving.serve(data=data, config=config, role="worker")


@app.command()
def check(data: DataOption = None, config: ConfigOption = None) -> None:
    """Show the effective settings with their origin, and try each seam."""
    from rich.table import Table

    from understudy.settings import masked

    loaded = load(config, data=data)
    table = Table("setting", "value", "from", box=None)
    for name, origin in loaded.origins.items():
        table.add_row(name, masked(name, getattr(loaded.settings, name)), origin)
    _console().print(table)
    print()
    if not run_to_end(lambda: _try_seams(loaded.settings)):
        raise typer.Exit(1)


async def _try_seams(settings: "Settings") -> bool:
    """Open everything as `serve` does, ask the store of files and the provider, run the sandbox's
    test."""
    from understudy.assembly import opened_app, sandbox_state
    from understudy.blobs import BlobsUnavailable
    from understudy.model import ModelError
    from understudy.sandbox import SandboxUnavailable

    async with opened_app(settings, beside=True) as app:
        await app.store.ping()
        print("store     ok")
        try:
            await app.blobs.ping()
        except BlobsUnavailable as away:
            print(f"blobs     failed: {away}")
            return False
        print("blobs     ok")
        try:
            models = await app.model.models()
        except ModelError as error:
            print(f"model     failed: {error.message}")
            return False
        provider = "rehearsal" if settings.upstream_url is None else "provider"
        print(f"model     ok: {provider} with {len(models)} models")
        await app.embedders.current()
        print(f"search    ok: {app.embedders.state}")
        try:
            await app.sandbox.started()
        except SandboxUnavailable:
            print(f"sandbox   {sandbox_state(app)}")
            return settings.sandbox in ("auto", "off")  # What was asked for by name has to work.
        print(f"sandbox   ok: {sandbox_state(app)}")
    return True


@app.command()
def rehearsal(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 picks one.")] = 8001,
) -> None:
    """Serve the built-in scripted model as a provider of its own (docs/rehearsal.md)."""
    from understudy.model.rehearsal_server import serve_rehearsal

    def ready(bound: int) -> None:
        print(f"Rehearsal model at http://{host}:{bound}/v1", flush=True)

    run_to_end(lambda: serve_rehearsal(host, port, ready=ready))


@app.command()
def demo() -> None:
    """A server with the scripted model, and a first conversation with it."""
    from understudy.demo import main as run

    run()


@app.command(hidden=True)
def docs(
    folder: Annotated[Path, typer.Option(help="The documentation's folder.")] = Path("docs"),
) -> None:
    """Write the generated pages of the documentation anew."""
    from understudy.api.reference import pages
    from understudy.machine.diagram import states_page
    from understudy.settings import settings_page

    written = {
        **pages(folder),
        "settings.md": settings_page(),
        "run-states.md": states_page(),
    }
    for name, text in written.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    print(f"{len(written)} pages written to {folder}.")


# Keys.


@keys_app.command("create")
def create_key(
    project: Annotated[str, typer.Option(help="Project that the key opens.")] = "default",
    name: Annotated[str, typer.Option(help="A word to tell keys apart.")] = "",
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Make a key. It is shown once; only its hash is stored."""
    settings = load(config, data=data).settings

    async def run() -> None:
        from understudy.api.auth import new_key
        from understudy.assembly import opened_store
        from understudy.world import World

        world = World()
        key = world.new_key()
        async with opened_store(settings, beside=True) as store:
            await store.commit(new_key(world, key, project=project, name=name))
        print(key)

    run_to_end(run)


@keys_app.command("list")
def list_keys(
    project: Annotated[str | None, typer.Option(help="Only this project's.")] = None,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """List keys by their beginnings; revoked ones too."""
    settings = load(config, data=data).settings

    async def run() -> None:
        from rich.table import Table

        from understudy.assembly import opened_store

        async with opened_store(settings, beside=True) as store:
            rows = await store.keys(project)
        table = Table("id", "project", "begins with", "name", "state", box=None)
        for row in rows:
            state = "valid" if row.revoked_at is None else "revoked"
            table.add_row(row.id, row.project, f"{row.prefix}…", row.name or "-", state)
        _console().print(table)

    run_to_end(run)


@keys_app.command("revoke")
def revoke_key(
    id: Annotated[str, typer.Argument(help="The key's id, from `keys list`.")],
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Revoke a key: it opens nothing any more."""
    settings = load(config, data=data).settings

    async def run() -> None:
        from understudy import limits
        from understudy.assembly import opened_store
        from understudy.server import CannotStart
        from understudy.store import Conflict, changes
        from understudy.world import World

        async with opened_store(settings, beside=True) as store:
            try:
                await store.commit(changes.revoke_key(id, now=World().now()))
            except Conflict:
                raise CannotStart(f"There is no valid key {id}.") from None
        print(f"{id} is revoked; a running server knows it within {limits.KEY_CACHE_S:g} seconds.")

    run_to_end(run)


# The sandbox's own Python.


@sandbox_app.command("install")
def install_sandbox(
    full: Annotated[
        bool, typer.Option("--full", help="Also scipy, scikit-learn, Office and PDF files ...")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Say nothing when there is nothing to do.")
    ] = False,
    data: DataOption = None,
    config: ConfigOption = None,
) -> None:
    """Fetch the Python packages that code_interpreter has; as root with apt also bubblewrap."""
    from understudy.sandbox.environment import installed
    from understudy.sandbox.interpreter import CannotInstall
    from understudy.settings import sandbox_folder_of

    folder = sandbox_folder_of(load(config, data=data).settings)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # So that what was begun is removed.
    before = installed(folder)
    try:
        environment = _install_with_a_bar(folder, full)
    except CannotInstall as error:
        raise failure(str(error)) from None
    except KeyboardInterrupt:
        raise failure("stopped; the next `understudy sandbox install` begins anew.", 130) from None
    if not (quiet and environment == before):
        _tell_contents(environment)
    _see_to_system_packages(environment.is_full)


def _install_with_a_bar(folder: Path, full: bool) -> "Environment":
    """Install, and show how far it is; where nobody watches, each step is a line."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from understudy.sandbox.environment import install

    columns = (TextColumn("{task.description}"), BarColumn(20), TimeElapsedColumn())
    console = _console(stderr=True)
    is_watched = console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not is_watched) as bar:
        task = bar.add_task("sandbox", total=None, visible=False)

        def show(what: str, share: float | None) -> None:
            total = None if share is None else 1.0
            bar.update(task, description=what, completed=share or 0, total=total, visible=True)
            if not is_watched:
                print(f"sandbox: {what}", file=sys.stderr, flush=True)

        return install(folder, full, show)


def _tell_contents(environment: "Environment") -> None:
    """What is there now, and how big it is."""
    from understudy.sandbox.environment import size_bytes, versions

    print(f"sandbox   Python {environment.version} ({environment.python})")
    listed = ", ".join(f"{name} {version}" for name, version in versions(environment).items())
    print(f"packages  {listed}")
    print(f"size      {size_bytes(environment) / 1_000_000:.0f} MB in {environment.folder}")


def _see_to_system_packages(is_full: bool) -> None:
    """bubblewrap, and fonts for the full one: installed, or one line that says how."""
    from understudy.sandbox import system

    wanted = [("bubblewrap", system.BUBBLEWRAP, system.has_bubblewrap(), "the jail itself")]
    if is_full:
        fonts = (system.CJK_FONTS, system.has_cjk_fonts(), "for charts in these languages")
        wanted.append(("Chinese, Japanese and Korean fonts", *fonts))
    for name, package, is_there, purpose in wanted:
        if is_there:
            continue
        problem: str | None = f"is missing ({purpose})"
        if system.can_install():
            print(f"sandbox: installing {name}", file=sys.stderr, flush=True)
            problem = system.install_with_apt(package)
        if problem is not None:
            command = system.command_for(package)
            print(f"{name}: {problem}; `{command}` brings it.", file=sys.stderr)


def _console(*, stderr: bool = False) -> Any:  # Any: rich is imported when it is needed.
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True, stderr=stderr)
