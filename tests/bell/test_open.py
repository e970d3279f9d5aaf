"""Which bell belongs to which record."""

import subprocess
import sys

import pytest

from tests.bell.servers import schema
from tests.ports import free_port
from understudy.bell import BellUnavailable, open_bell
from understudy.bell.local import LocalBell
from understudy.bell.nats import NatsBell
from understudy.bell.postgres import PostgresBell


async def test_the_url_of_the_record_says_which_bell() -> None:
    nats_url = f"nats://127.0.0.1:{free_port()}"
    assert isinstance(await open_bell("sqlite:///understudy.db"), LocalBell)
    assert isinstance(await open_bell("sqlite:///understudy.db", nats_url), LocalBell)
    async with schema() as url:
        for options, kind in ((), PostgresBell), ((nats_url,), NatsBell):
            bell = await open_bell(url, *options)
            assert isinstance(bell, kind)
            await bell.close()
        bell = await open_bell(url.replace("postgresql://", "postgres://"))
        assert isinstance(bell, PostgresBell)
        await bell.close()


async def test_a_record_of_another_kind_has_no_bell() -> None:
    with pytest.raises(ValueError, match="sqlite, postgresql, postgres"):
        await open_bell("mysql://host/name")


@pytest.mark.parametrize("nats_url", [None, "nats://127.0.0.1:1"])
async def test_a_record_that_does_not_answer_has_none_now(nats_url: str | None) -> None:
    with pytest.raises(BellUnavailable, match="Connect"):
        await open_bell(f"postgresql://postgres@127.0.0.1:{free_port()}/postgres", nats_url)


def test_one_process_needs_no_driver() -> None:
    """The embedded server starts without what only others use."""
    code = (
        "import asyncio, sys, understudy.bell as bell; asyncio.run(bell.open_bell('sqlite:'));"
        "assert not {'asyncpg', 'nats'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_its_package_nats_is_refused_with_what_to_install() -> None:
    code = (
        "import asyncio, sys, understudy.bell as bell; sys.modules['nats'] = None\n"
        "try: asyncio.run(bell.open_bell('postgresql://nowhere.invalid', 'nats://host'))\n"
        "except ValueError as error: print(error)"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "understudy[nats]" in told.stdout
