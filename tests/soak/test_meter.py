"""The meter of the soak sees what it is for: a growth, a descriptor that stays open."""

import os
from pathlib import Path

import pytest

from tests.soak.meter import GROWTH, Meter, Sample, descriptors


def series(*minutes: float) -> Meter:
    """A process whose memory was so large in each minute."""
    meter = Meter(os.getpid())
    meter.samples = [
        Sample(60 * minute + second, mib, mib, mib, mib, 0, 9, 3)
        for minute, mib in enumerate(minutes)
        for second in range(60)
    ]
    return meter


@pytest.mark.parametrize(
    ("minutes", "is_growth"),
    [
        ((100, 150, 150, 150, 150, 157), False),  # Growing in the first minute is warming up.
        ((100, 150, 150, 150, 150, 158), True),
        ((100, 110, 180, 180, 180, 110), False),
    ],
)
def test_a_growth_is_what_is_left_of_it(minutes: tuple[float, ...], is_growth: bool) -> None:
    growth = series(*minutes).growth(6)
    assert {value >= GROWTH for value in growth.values()} == {is_growth}


def test_the_series_has_a_line_for_each_minute() -> None:
    lines = series(100, 101.5).series().splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["minute", "rss"],
        ["0", "100.0"],
        ["1", "101.5"],
    ]


def test_a_descriptor_that_stays_open_is_seen(tmp_path: Path) -> None:
    before = descriptors(os.getpid(), 1)
    with (tmp_path / "left").open("w"):
        assert descriptors(os.getpid(), 1) - before == {"left": 1}
    assert descriptors(os.getpid(), 1) - before == {}


def test_memory_of_this_process_is_seen() -> None:
    sample = Meter(os.getpid()).look()
    assert 5 < sample.private <= sample.pss <= sample.rss
