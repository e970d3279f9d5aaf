"""What the options and the settings mean together."""

from pathlib import Path

import pytest

from understudy.settings import Settings, SettingsError
from understudy.transfer.plan import Options, Plan, plan_of

POSTGRES = "postgresql://me@db/understudy"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The usual ones, with a data folder."""
    (tmp_path / "blobs").mkdir()
    return Settings(data=str(tmp_path))


def test_a_move_begins_at_the_data_folder(settings: Settings) -> None:
    """Files stay where they are unless they are named."""
    record = f"sqlite:///{settings.data}/understudy.db"
    assert plan_of(Options(target=POSTGRES), settings) == Plan(record, POSTGRES, None, False)
    both = plan_of(Options(target=POSTGRES, blobs_target="s3://bucket"), settings)
    assert both.blobs == (f"file://{settings.data}/blobs", "s3://bucket")


def test_the_side_that_is_not_named_is_where_the_settings_have_it(tmp_path: Path) -> None:
    """An operator may have set the new place already."""
    new = Settings(database_url=POSTGRES, blobs_url="s3://bucket/prefix", data=str(tmp_path))
    (tmp_path / "old").mkdir()
    source, blobs = "sqlite:////old.db", f"file://{tmp_path}/old"
    plan = plan_of(Options(source=source, blobs_source=blobs), new)
    assert plan == Plan(source, POSTGRES, (blobs, "s3://bucket/prefix"), False)


def test_files_may_move_alone(settings: Settings) -> None:
    plan = plan_of(Options(blobs_target="s3://bucket"), settings)
    assert (plan.source, plan.target) == (f"sqlite:///{settings.data}/understudy.db", None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            Options(source="sqlite:///x.db", target="sqlite:///./x.db"),
            "--from and --to are the same",
        ),
        (Options(source=POSTGRES, target=POSTGRES + "/"), "--from and --to are the same"),
        (Options(blobs_source="file:///nowhere/b", blobs_target="s3://b"), "no folder /nowhere/b"),
        (Options(blobs_source="s3://b", blobs_target="s3://b/"), "--blobs-from and --blobs-to are"),
        (Options(verify_only=True), "needs to know of what"),
    ],
)
def test_what_makes_no_sense_is_refused(settings: Settings, options: Options, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        plan_of(options, settings)


def test_without_options_nothing_moves() -> None:
    assert not Options().is_move
    assert Options(verify_only=True).is_move
