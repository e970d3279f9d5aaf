"""What is particular to the sandbox that is none."""

from pathlib import Path

import pytest

from tests.conformance.sandboxes import opened, running
from understudy.sandbox import SandboxUnavailable
from understudy.sandbox.local import Local, _Renamed
from understudy.sandbox.off import Off


async def test_it_says_that_it_is_unsafe() -> None:
    """Wherever its state is shown."""
    async with opened(Local()) as sandbox:
        assert sandbox.state == "up"
        assert "unsafe" in sandbox.detail
        assert "WITHOUT" in sandbox.detail


async def test_its_folder_has_the_name_that_code_expects(monkeypatch: pytest.MonkeyPatch) -> None:
    """In code and in what is printed; and nothing of the server's environment is there."""
    monkeypatch.setenv("SECRET_OF_THE_SERVER", "canary")
    async with opened(Local()) as sandbox:
        session = await sandbox.session("a")
        code = "import os\nprint(os.getcwd())\nprint('/mnt/data/x', 'SECRET' in str(os.environ))"
        assert (await running(session, code)).logs == "/mnt/data\n/mnt/data/x False\n"
        said = await running(session, "open('/mnt/data/no')")
        assert "No such file or directory: '/mnt/data/no'" in said.logs
        assert "understudy-unsafe" not in said.logs


@pytest.mark.parametrize("size", range(1, 12))
def test_a_name_in_pieces_is_found(size: int) -> None:
    """Wherever it is cut, and nothing is lost or held for ever."""
    text = "a /tmp/x/data/b /tmp/x/dat /tmp /tmp/x/data /tm"
    heard: list[str] = []
    renamed = _Renamed("/tmp/x/data", "/mnt/data", heard.append)
    for start in range(0, len(text), size):
        renamed.hear(text[start : start + size])
    renamed.end()
    assert "".join(heard) == "a /mnt/data/b /tmp/x/dat /tmp /mnt/data /tm"
    assert all(heard)


async def test_its_files_are_gone_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the sessions."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with opened(Local()) as sandbox:
        await running(await sandbox.session("a"), "open('/mnt/data/x', 'w').write('x')")
        assert list(tmp_path.rglob("x"))
    assert list(tmp_path.iterdir()) == []


async def test_off_says_why() -> None:
    """To whoever asks."""
    off = Off("There is none.", "Get one.")
    assert (off.state, off.detail) == ("off", "There is none. Get one.")
    for ask in (off.started(), off.session("a")):
        with pytest.raises(SandboxUnavailable) as refused:
            await ask
        assert (refused.value.cause, refused.value.remedy) == ("There is none.", "Get one.")
    await off.forget("a")
    await off.close()
