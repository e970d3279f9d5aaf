"""What is to be moved from where to where, as the operator's options and the settings say."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from understudy.settings import Settings, SettingsError, blobs_url_of, database_url_of


@dataclass(frozen=True)
class Options:
    """The options of `understudy migrate`, as far as they were given."""

    source: str | None = None
    target: str | None = None
    blobs_source: str | None = None
    blobs_target: str | None = None
    verify_only: bool = False

    @property
    def is_move(self) -> bool:
        """Whether anything is to be moved or verified."""
        return self != Options()


@dataclass(frozen=True)
class Plan:
    """The two records, of which the target may be none, and the two places of blobs, if blobs go
    along. Without a target the record stays and tells which blobs there are."""

    source: str
    target: str | None
    blobs: tuple[str, str] | None
    verify_only: bool


def plan_of(options: Options, settings: Settings) -> Plan:
    """The side that is not named is where the settings have it. Blobs go along when one of their
    sides is named. SettingsError when that makes no sense."""
    record = _pair(options.source, options.target, database_url_of(settings), "--from", "--to")
    blobs = _pair(
        options.blobs_source,
        options.blobs_target,
        blobs_url_of(settings),
        "--blobs-from",
        "--blobs-to",
    )
    if blobs is not None:
        _require_folder(blobs[0])
    if record is not None:
        return Plan(record[0], record[1], blobs, options.verify_only)
    if blobs is None:
        raise SettingsError("--verify-only needs to know of what: name --to, --from or --blobs-to.")
    return Plan(database_url_of(settings), None, blobs, options.verify_only)


def _pair(
    source: str | None, target: str | None, usual: str, from_flag: str, to_flag: str
) -> tuple[str, str] | None:
    """Both sides; None when neither was named."""
    if source is None and target is None:
        return None
    pair = (source or usual, target or usual)
    if _place(pair[0]) == _place(pair[1]):
        raise SettingsError(
            f"{from_flag} and {to_flag} are the same place. Name the side that is not where the "
            "settings have it."
        )
    return pair


def _place(url: str) -> str:
    """The URL, of a SQLite file with its whole path."""
    scheme, _, path = url.partition(":///")
    return f"{scheme}:///{Path(path).absolute()}" if scheme == "sqlite" else url.rstrip("/")


def _require_folder(url: str) -> None:
    """Opening a folder makes it, and a slip of the pen would look like one without files."""
    parts = urlsplit(url)
    if parts.scheme == "file" and not Path(unquote(parts.path)).is_dir():
        raise SettingsError(f"--blobs-from: there is no folder {unquote(parts.path)}.")
