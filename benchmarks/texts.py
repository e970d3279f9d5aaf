"""Texts to search: real words in the frequencies of prose (Zipf's law), the same in every run."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from understudy.machine import tokens

DIMENSIONS = 384
_COMMONEST = """
    the of and to in a is that for it as was with be by on not he his but at are this have from they
    which one you had all her their more has been were an or would when who will no there if we out
    so up what its about into than them can only other time new some could these two may first then
    do any like my now over such our me even most made after also did many before must through
    """
_TOKENS = 200_000  # All of the tokenizer's; its commoner words come first.
_EXPONENT, _OFFSET = 1.05, 2.7  # Zipf-Mandelbrot, as English has them.
_SENTENCE, _PARAGRAPH = 14, 90  # Words.


@cache
def vocabulary() -> NDArray[np.object_]:
    """Some 35,000 words, commonest first."""
    found = (tokens.decode([id]) for id in range(256, _TOKENS - 1000))
    words = [word[1:] for word in found if word and len(word) > 3 and word[0] == " "]
    plain = [word for word in words if word.isascii() and word.isalpha() and word.islower()]
    return np.array(list(dict.fromkeys([*_COMMONEST.split(), *plain])), object)


@cache
def _shares() -> NDArray[np.float64]:
    ranks = np.arange(len(vocabulary()))
    shares = 1 / (ranks + _OFFSET) ** _EXPONENT
    return np.asarray(np.cumsum(shares / shares.sum()))


def drawn(rng: np.random.Generator, count: int) -> list[str]:
    """So many words of a text."""
    places = np.searchsorted(_shares(), rng.random(count))
    found: list[str] = vocabulary()[np.minimum(places, len(vocabulary()) - 1)].tolist()
    return found


def prose(rng: np.random.Generator, count: int) -> str:
    """So many words, in sentences and paragraphs."""
    words = drawn(rng, count)
    for at in range(0, count, _SENTENCE):
        words[at] = words[at].capitalize()
        end = min(at + _SENTENCE, count) - 1
        words[end] += ".\n\n" if at % _PARAGRAPH < _SENTENCE else "."
    return " ".join(words).replace("\n ", "\n")


def queries(rng: np.random.Generator, count: int) -> list[str]:
    """Questions of 5 to 12 words, as common or rare as those of the texts."""
    return [" ".join(drawn(rng, int(rng.integers(5, 13)))) for _ in range(count)]


def vectors(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    """So many vectors of length 1."""
    found = rng.standard_normal((count, DIMENSIONS), np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found
