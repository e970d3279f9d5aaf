"""Counting tokens, behind one function: exact for o200k_base, and offline (DECISIONS)."""

from functools import cache, lru_cache
from typing import Protocol

from understudy import limits

MESSAGE_OVERHEAD = 4  # Tokens that a provider spends on the frame of each message.
IMAGE = 1_000  # What an image costs, roughly; providers differ and do not say beforehand.


class _Encoder(Protocol):
    def count(self, text: str) -> int: ...
    def encode(self, text: str) -> list[int]: ...
    def decode(self, tokens: list[int]) -> str | None: ...


@cache
def _encoder() -> _Encoder:
    """The tokenizer, loaded with the first text to be counted: a tenth of a second and 68 MB, which
    is more than a server at rest needs for everything else."""
    from rs_bpe import bpe

    encoder: _Encoder = bpe.openai.o200k_base()
    return encoder


def load() -> None:
    """Load the tokenizer now, so that a measurement of the first text does not include it."""
    _encoder()


def count(text: str) -> int:
    """How many tokens the text has."""
    if len(text) <= limits.COUNTED_CHARS:
        return _remembered(text)
    return _encoder().count(text)


@lru_cache(limits.COUNTED_TEXTS)
def _remembered(text: str) -> int:
    return _encoder().count(text) if text else 0


def encode(text: str) -> list[int]:
    """The tokens of the text; text that looks like a special token is text."""
    return _encoder().encode(text) if text else []


def decode(ids: list[int]) -> str | None:
    """The text of some tokens, or None when they start or end inside a character."""
    return _encoder().decode(ids) if ids else ""
