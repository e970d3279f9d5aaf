"""Models of the hub: fetched once, then taken from the data; a hub that is away is told."""

import shutil
from pathlib import Path

import pytest

from understudy.search import EmbedderError, hub


def put(folder: Path, *names: str) -> None:
    """Files of a model."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{}")


def test_a_model_that_is_there_is_not_fetched(tmp_path: Path) -> None:
    put(tmp_path / "someone--a-model", "model.onnx", "tokenizer.json")
    assert hub.fetched("someone/a-model", tmp_path) == tmp_path / "someone--a-model"


def test_a_model_below_onnx_is_found(tmp_path: Path) -> None:
    """Where most exports keep it; a fetch that was cut between the two goes on here."""
    folder = tmp_path / "someone--a-model"
    put(folder, "onnx/model.onnx", "onnx/model.onnx_data", "tokenizer.json", "model.onnx")
    (folder / "model.onnx").unlink()
    shutil.copy(folder / "onnx" / "model.onnx", folder / "model.onnx")
    assert (hub.fetched("someone/a-model", tmp_path) / "model.onnx").is_file()


def test_a_hub_that_is_away_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EmbedderError, match="could not be fetched from the hub"):
        hub.fetched("someone/a-model", tmp_path)
