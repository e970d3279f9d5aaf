"""The modules that hold operations; importing them fills OPERATIONS."""

import importlib

NOUNS = (
    "assistants",
    "threads",
    "messages",
    "runs",
    "steps",
    "models",
    "files",
    "uploads",
    "vector_stores",
    "vector_store_files",
    "file_batches",
)


def load_nouns() -> None:
    """Fill the table of operations. Loading twice is harmless."""
    for name in NOUNS:
        importlib.import_module(f"understudy.api.{name}")
