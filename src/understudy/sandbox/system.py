"""What the sandbox needs of the operating system's own packages, and the command that brings it."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from understudy import limits

_FONTS = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"))


@dataclass(frozen=True)
class SystemPackage:
    """Package manager → the name it has there."""

    names: dict[str, str]


BUBBLEWRAP = SystemPackage(
    dict.fromkeys(("apt-get", "dnf", "yum", "zypper", "pacman", "apk"), "bubblewrap")
)
CJK_FONTS = SystemPackage(
    {
        "apt-get": "fonts-noto-cjk",
        "dnf": "google-noto-sans-cjk-fonts",
        "yum": "google-noto-sans-cjk-fonts",
        "zypper": "google-noto-sans-cjk-fonts",
        "pacman": "noto-fonts-cjk",
        "apk": "font-noto-cjk",
    }
)
_VERBS = {"pacman": "-S", "apk": "add"}


def has_bubblewrap() -> bool:
    """Whether bwrap is there to be run."""
    return shutil.which("bwrap") is not None


def has_cjk_fonts() -> bool:
    """Whether charts can show Chinese, Japanese and Korean."""
    return any(next(folder.rglob("*CJK*.[ot]t[cf]"), None) is not None for folder in _FONTS)


def command_for(package: SystemPackage) -> str:
    """What the operator types to get it; Debian's way where no package manager is known."""
    manager = next((name for name in package.names if shutil.which(name)), "apt-get")
    return f"{manager} {_VERBS.get(manager, 'install')} {package.names[manager]}"


def can_install() -> bool:
    """Whether we may, and know how to: as root, with apt."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def install_with_apt(package: SystemPackage) -> str | None:
    """Install it; what went wrong, or None."""
    apt = shutil.which("apt-get")
    assert apt is not None, "the caller asked can_install"
    name = package.names["apt-get"]
    for words in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", name]):
        try:
            done = subprocess.run(  # noqa: S603 (apt-get with our own words)
                ["/usr/bin/env", "DEBIAN_FRONTEND=noninteractive", apt, *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=limits.SANDBOX_INSTALL_S,
                check=False,
            )
        except (OSError, subprocess.SubprocessError) as error:
            return str(error)
    if done.returncode == 0:
        return None
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit code {done.returncode}"
