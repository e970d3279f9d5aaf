"""`understudy migrate`: the schema of this version, or a move to another database."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from understudy.serving import failure, load, run_to_end

if TYPE_CHECKING:
    from understudy.settings import Settings
    from understudy.transfer.moving import Report
    from understudy.transfer.plan import Plan

_CHECKSUM_DIGITS = 16  # As many as fit on a line; the comparison is of all.
_RECORD = "sqlite:///path or postgresql://user@host/name"
_PLACE = "file:///folder or s3://bucket/prefix"


HELP = "\n\n".join(
    (
        "Bring the database to this version's schema, or move everything to another database.",
        "Without options for a move, the database of the settings gets this version's schema; "
        "`serve` does so by itself.",
        "With --to (or --from), all that the record holds is copied to another database while no "
        "server runs, and compared row by row. The side that is not named is the settings' own. "
        "Files are copied with --blobs-to (or --blobs-from), else they stay where they are.",
        "When it was interrupted, the same command goes on where it stopped. A difference between "
        "both sides is named, and the exit code is 1.",
        "Example: understudy migrate --to postgresql://me@db/understudy --blobs-to s3://bucket",
        "More is in docs/moving.md.",
    )
)


def migrate(
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="URL", help=f"Record to copy, {_RECORD}."),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--to", metavar="URL", help="Empty database to copy it to.")
    ] = None,
    blobs_source: Annotated[
        str | None,
        typer.Option("--blobs-from", metavar="URL", help=f"Files to copy, {_PLACE}."),
    ] = None,
    blobs_target: Annotated[
        str | None, typer.Option("--blobs-to", metavar="URL", help="Place to copy them to.")
    ] = None,
    verify_only: Annotated[
        bool, typer.Option("--verify-only", help="Copy nothing, only compare both sides.")
    ] = False,
    data: Annotated[str | None, typer.Option(help="Folder that holds everything.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
) -> None:
    """Perform the command, whose help is HELP."""
    from understudy.transfer.plan import Options, plan_of

    settings = load(config, data=data).settings
    options = Options(source, target, blobs_source, blobs_target, verify_only)
    if not options.is_move:
        _bring_up(settings)
        return

    async def run() -> "tuple[Plan, Report]":
        from understudy.blobs import BlobsUnavailable
        from understudy.server import CannotStart
        from understudy.settings import object_store_options
        from understudy.transfer.moving import move, opened
        from understudy.transfer.progress import told

        plan = plan_of(options, settings)
        try:
            async with opened(plan, object_store_options()) as sides:
                with told() as tell:
                    return plan, await move(sides, tell, verify_only=plan.verify_only)
        except BlobsUnavailable as error:
            raise CannotStart(f"The files cannot be copied now: {error}") from error

    _show(*run_to_end(run))


def _bring_up(settings: "Settings") -> None:
    async def run() -> None:
        from understudy.assembly import opened_store

        async with opened_store(settings):
            typer.echo("The database is at this version's schema.")

    run_to_end(run)


def _show(plan: "Plan", report: "Report") -> None:
    """What was done; ends the process where both sides are not the same."""
    from rich.console import Console
    from rich.table import Table

    from understudy import limits
    from understudy.transfer.progress import in_words

    table = Table(box=None)
    for title in ("table", "rows", "bytes", "copied", "verified", "checksum"):
        table.add_column(title, justify="left" if title in ("table", "checksum") else "right")
    for line in report.lines.values():
        seconds = (
            "-" if taken is None else f"{taken:.1f} s" for taken in (line.copied_s, line.verified_s)
        )
        size = in_words(line.size_bytes)
        table.add_row(
            line.name, f"{line.count:,}", size, *seconds, line.checksum[:_CHECKSUM_DIGITS] or "-"
        )
    Console(highlight=False, soft_wrap=True).print(table)
    if report.resumed_rows:
        typer.echo(f"{report.resumed_rows:,} rows were there from an earlier start.")
    if report.replaced:
        typer.echo(
            f"{report.replaced:,} texts have a NUL (U+0000), which PostgreSQL cannot hold: it is "
            "U+FFFD there."
        )
    if not report.differences:
        typer.echo(f"Both sides are the same. {_next_step(plan)}")
        return
    for difference in report.differences[: limits.COPY_DIFFERENCES]:
        typer.echo(f"understudy: {difference}", err=True)
    hint = (
        ""
        if plan.verify_only or plan.target is None
        else (" The target stays marked as unfinished; to begin again, take an empty database.")
    )
    raise failure(f"the two sides are not the same: {report.differing:,} differ.{hint}")


def _next_step(plan: "Plan") -> str:
    from understudy.settings import masked

    if plan.verify_only:
        return ""
    said = []
    if plan.target is not None:
        said.append(f"UNDERSTUDY_DATABASE_URL={masked('database_url', plan.target)}")
    if plan.blobs is not None:
        said.append(f"UNDERSTUDY_BLOBS_URL={masked('blobs_url', plan.blobs[1])}")
    ends = "" if plan.blobs is not None else "; files stay where they are"
    return f"Servers find what was copied with {' and '.join(said)}{ends}."
