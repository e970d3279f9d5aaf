"""Hub: a local embedding model by its name on the Hugging Face hub, fetched once into the data.

Nothing is fetched unless the operator names a model with `hub:`, and never a second time: the
folder with its model and tokenizer is all that is needed from then on.
"""

import shutil
from pathlib import Path

from understudy.search import EmbedderError
from understudy.search.embed_onnx import MODEL, TOKENIZER

_WANTED = [
    MODEL,
    f"onnx/{MODEL}",
    f"onnx/{MODEL}_data",
    TOKENIZER,
    "config.json",
    "config_sentence_transformers.json",
    "1_Pooling/config.json",
]


def fetched(name: str, models: Path) -> Path:
    """The folder of a model `organisation/name`, below `models`. Raises EmbedderError."""
    folder = models / name.replace("/", "--")
    if not _is_complete(folder):
        _fetch(name, folder)
    for file in (folder / "onnx").glob(f"{MODEL}*"):
        if not (folder / file.name).exists():
            shutil.move(file, folder / file.name)
    if not _is_complete(folder):
        raise EmbedderError(
            f"The model '{name}' has no {MODEL} or no {TOKENIZER} on the hub; name one that has "
            "been exported to ONNX."
        )
    return folder


def _is_complete(folder: Path) -> bool:
    return (folder / MODEL).is_file() and (folder / TOKENIZER).is_file()


def _fetch(name: str, folder: Path) -> None:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise EmbedderError(
            "A model from the hub needs tokenizers and onnxruntime: pip install 'understudy[local]'"
        ) from None
    try:
        snapshot_download(name, local_dir=folder, allow_patterns=_WANTED)
    except Exception as error:  # noqa: BLE001 -- a network, a name, a right: the library knows many.
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise EmbedderError(
            f"The model '{name}' could not be fetched from the hub: {reason} Put its files into "
            f"{folder}, or name a folder."
        ) from None
