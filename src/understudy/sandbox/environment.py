"""The sandbox's own Python: an interpreter that the jail can read, and packages beside it.

It is never the server's own environment: code may need other versions, and the server's may lie
where the jail's user cannot look. A folder holds

    site/              what pip installed, from the pinned lists of this package
    python/            a copy of the interpreter, where no other would do
    environment.json   which interpreter that is, and which lists

Everything new is made in a folder beside and then renamed, and the json file, without which there
is no environment, is written last. So an install that was cut leaves nothing that could be taken
for one, and the next begins anew. What was there before is kept until then as `site-before`:
sandboxes that run have it open, and may import from it yet.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import msgspec

from understudy import limits
from understudy.sandbox.interpreter import CannotInstall, Interpreter, copied, found, readable
from understudy.sandbox.packages import Progress, fetch

_SITE = "site"
_BEFORE = "site-before"
_NEW = "new-"
_RECORD = "environment.json"
_LOCK = ".lock"
_SMALL: tuple[str, ...] = ("numpy", "pandas", "matplotlib", "openpyxl")
_MORE: tuple[str, ...] = (
    "scipy", "sklearn", "seaborn", "sympy", "PIL", "pypdf", "docx", "pptx", "reportlab", "lxml",
    "tabulate",
)  # fmt: skip


@dataclass(frozen=True)
class Environment:
    """What runs the code: `python`, whose own folder is `prefix`, with the packages in `site`."""

    folder: Path
    python: Path
    prefix: Path
    site: Path
    version: str
    is_full: bool


class _Record(msgspec.Struct, frozen=True):
    """environment.json; `packages` is the digest of the lists."""

    python: str
    prefix: str
    version: str
    packages: str
    full: bool


@dataclass(frozen=True)
class Contents:
    """What an environment has: pinned lists of packages, and what must be importable then."""

    lists: tuple[Path, ...]
    modules: tuple[str, ...]
    size_bytes: int

    @property
    def digest(self) -> str:
        """Tells whether an environment was made from these lists."""
        said = hashlib.sha256()
        for path in self.lists:
            said.update(path.read_bytes())
        return said.hexdigest()


def contents(full: bool) -> Contents:
    """The small or the full environment."""
    folder = Path(str(resources.files("understudy.sandbox")))
    small, more = folder / "requirements.txt", folder / "requirements-full.txt"
    if not full:
        return Contents((small,), _SMALL, limits.SANDBOX_SMALL_BYTES)
    return Contents((small, more), _SMALL + _MORE, limits.SANDBOX_FULL_BYTES)


def installed(folder: Path) -> Environment | None:
    """The environment in a folder, if one was installed there and its interpreter still is."""
    record = _recorded(folder)
    if record is None:
        return None
    environment = Environment(
        folder=folder,
        python=Path(record.python),
        prefix=Path(record.prefix),
        site=folder / _SITE,
        version=record.version,
        is_full=record.full,
    )
    is_there = environment.python.exists() and environment.site.is_dir()
    return environment if is_there else None


def install(
    folder: Path,
    full: bool,
    progress: Progress,
    contents: Callable[[bool], Contents] = contents,
) -> Environment:
    """Make the environment in a folder, unless it is there already; a full one stays full.

    Raises CannotInstall. Others that install there meanwhile are waited for."""
    folder = folder.absolute()
    try:
        _make(folder)
        with _alone(folder, progress):
            before = _recorded(folder)
            full = full or (before is not None and before.full)
            wanted = contents(full)
            there = installed(folder)
            if there and before and before.full == full and before.packages == wanted.digest:
                return there
            with _new(folder, progress) as new:
                return _build(folder, new, full, wanted, progress)
    except OSError as error:
        raise CannotInstall(
            f"The sandbox's packages cannot be written to {folder}: {error.strerror or error}.",
            "Make room there, or name another folder in UNDERSTUDY_SANDBOX_FOLDER.",
        ) from error


def size_bytes(environment: Environment) -> int:
    """What its packages take on the disk."""
    return sum(
        entry.stat(follow_symlinks=False).st_size
        for entry in _walk(environment.site)
        if entry.is_file(follow_symlinks=False)
    )


def versions(environment: Environment) -> dict[str, str]:
    """Name → version of each package that is installed."""
    split = (path.name.split("-")[:2] for path in environment.site.glob("*-*.dist-info"))
    return {name.lower(): version.removesuffix(".dist") for name, version in sorted(split)}


def _build(
    folder: Path, new: Path, full: bool, wanted: Contents, progress: Progress
) -> Environment:
    """Fetch everything, prove that it works, and put it in its place."""
    if shutil.disk_usage(folder).free < wanted.size_bytes:
        raise CannotInstall(
            f"There is too little room in {folder}: the sandbox's packages need "
            f"{wanted.size_bytes // 1_000_000} MB.",
            "Make room there, or name another folder in UNDERSTUDY_SANDBOX_FOLDER.",
        )
    interpreter = _interpreter(folder, new, progress)
    fetch(interpreter.python, wanted.lists, new / _SITE, progress)
    progress("making everything readable", None)
    _open_up(new / _SITE)
    progress("trying the packages", None)
    _prove(interpreter, new / _SITE, wanted.modules)
    return _put(folder, new, interpreter, full, wanted.digest)


def _interpreter(folder: Path, new: Path, progress: Progress) -> Interpreter:
    """One that is there, else a copy of our own."""
    there = found(folder / "python")
    if there is not None:
        return there
    progress(f"copying Python from {sys.base_prefix}", None)
    copy = copied(new / "python")
    _open_up(copy)
    _remove(folder / "python")
    copy.rename(folder / "python")
    there = found(folder / "python")
    if there is None:
        raise CannotInstall(
            f"The sandbox's user cannot run any Python of this machine, nor a copy in {folder}.",
            "Install python3 (3.10 or newer) from the system's packages, or name a folder that "
            "everybody can read in UNDERSTUDY_SANDBOX_FOLDER.",
        )
    return there


def _prove(interpreter: Interpreter, site: Path, modules: tuple[str, ...]) -> None:
    """Import everything as the jail's user would."""
    code = f"import sys; sys.path.insert(0, {str(site)!r}); import {', '.join(modules)}"
    complaint = readable([str(interpreter.python), "-I", "-c", code], limits.SANDBOX_PROOF_S)
    if complaint is not None:
        raise CannotInstall(
            f"The sandbox's packages were installed but do not work with {interpreter.python}: "
            f"{complaint}.",
            "If they cannot be read, name a folder that everybody can read in "
            "UNDERSTUDY_SANDBOX_FOLDER.",
        )


def _put(folder: Path, new: Path, interpreter: Interpreter, full: bool, digest: str) -> Environment:
    """Rename it into its place; the record comes last."""
    record = _Record(
        python=str(interpreter.python),
        prefix=str(interpreter.prefix),
        version=interpreter.version,
        packages=digest,
        full=full,
    )
    written = new / _RECORD
    written.write_bytes(msgspec.json.format(msgspec.json.encode(record)))
    written.chmod(0o644)
    (folder / _RECORD).unlink(missing_ok=True)
    if (folder / _SITE).exists():
        _remove(folder / _BEFORE)
        (folder / _SITE).rename(folder / _BEFORE)
    (new / _SITE).rename(folder / _SITE)
    written.rename(folder / _RECORD)
    environment = installed(folder)
    assert environment is not None, "it was written just now"
    return environment


def _recorded(folder: Path) -> _Record | None:
    """The record; None when there is none, or not ours."""
    try:
        return msgspec.json.decode((folder / _RECORD).read_bytes(), type=_Record)
    except (OSError, msgspec.MsgspecError):
        return None


# The folder.


def _make(folder: Path) -> None:
    """The folder, and those above it. The data folder is its owner's alone, but root's sandbox is
    another user."""
    mode = 0o755 if os.geteuid() == 0 else 0o700
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    for one in reversed(missing):
        one.mkdir(exist_ok=True)
        one.chmod(mode)


@contextlib.contextmanager
def _alone(folder: Path, progress: Progress) -> Iterator[None]:
    """Hold the folder's lock; it goes with the process, however that ends."""
    with (folder / _LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another install", None)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _new(folder: Path, progress: Progress) -> Iterator[Path]:
    """A folder to work in. What an earlier install left there is removed."""
    for left in folder.glob(f"{_NEW}*"):
        progress("clearing up after an install that was cut", None)
        _remove(left)
    new = Path(tempfile.mkdtemp(prefix=_NEW, dir=folder))
    new.chmod(0o755)  # The proof is done as another user.
    try:
        yield new
    finally:
        _remove(new)


def _open_up(folder: Path) -> None:
    """Let everybody read, whatever the umask was."""
    folder.chmod(folder.stat().st_mode | 0o555)
    for entry in _walk(folder):
        if entry.is_symlink():
            continue
        mode = entry.stat().st_mode
        wanted = mode | (0o555 if entry.is_dir() or mode & 0o100 else 0o444)
        if wanted != mode:
            os.chmod(entry.path, wanted)  # noqa: PTH101 (some ten thousand files)


def _walk(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Everything below a folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path))


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
