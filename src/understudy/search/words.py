"""The terms of a text, as they are indexed and as they are searched for.

Text is folded first (compatibility forms, case, accents), so that `Zurich` finds `Zürich`. What
then counts as a term:

- a word; of plain English letters its stem, so that `runs` finds `running`
- the parts of a name (`maxNumResults`, `max_num_results`, `client.beta.threads`, `gpt-4o`) and the
  whole of it without its separators, so that both spellings find each other
- every pair of neighbours in scripts that do not part words (Chinese, Japanese, Korean, Thai, ...)

Nothing is dropped for being common: the ranking weighs a term by its rarity.
"""

import re
import unicodedata
from functools import cache
from operator import add
from typing import Protocol

from understudy import limits

# Scripts without spaces between words, and Hangul, whose endings cling to the words.
_DENSE = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1100-\u11ff\u3005-\u3007\u3040-\u30ff\u3130-\u318f"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff"
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
# Marks that belong to the word they stand in, though Python does not count them as letters.
_MARKS = (
    "\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf-\u05c7\u0610-\u061a\u064b-\u065f\u0670"
    "\u06d6-\u06ed\u0900-\u0963\u0966-\u0dff\u0f00-\u0fff\u200c\u200d\u00ad"
)
_LONGEST = limits.TERM_CHARS
_ASCII_RUN = rf"[A-Za-z0-9_]{{1,{_LONGEST}}}"
_ASCII_TOKEN = re.compile(rf"{_ASCII_RUN}(?:[.\-]{_ASCII_RUN}){{0,7}}")
_RUN = rf"[^\W{_DENSE}]{{1,{_LONGEST}}}"
_TOKEN = re.compile(rf"[{_DENSE}]+|{_RUN}(?:[.\-]{_RUN}){{0,7}}")
_MARKED_RUN = rf"(?:[^\W{_DENSE}]|[{_MARKS}]){{1,{_LONGEST}}}"
_MARKED_TOKEN = re.compile(rf"[{_DENSE}]+|{_MARKED_RUN}(?:[.\-]{_MARKED_RUN}){{0,7}}")
_IS_MARKED = re.compile(rf"[{_MARKS}]")
_IS_DENSE = re.compile(rf"[{_DENSE}]")
_PARTS = re.compile(
    r"[A-ZÀ-ÖØ-Þ]+(?![a-zß-öø-ÿ])|[A-ZÀ-ÖØ-Þ]?[a-zß-öø-ÿ]+|\d+"
    rf"|(?:[^\W\d_A-Za-zÀ-ÖØ-öø-ÿ]|[{_MARKS}])+"
)
# Accents, vowel points and joiners; the marks of scripts in which they are letters stay.
_FOLDED_AWAY = re.compile(
    "[\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf-\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670"
    "\u06d6-\u06ed\u200c\u200d\u00ad]+"
)
_LETTERS = {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "æ": "ae", "œ": "oe", "þ": "th"}
_ALIKE = str.maketrans(
    _LETTERS
    | {letter.upper(): plain.upper() for letter, plain in _LETTERS.items()}
    | {"\u0131": "i", "\u0649": "\u064a", "\u0629": "\u0647"}  # Turkish i; Arabic ya and ha.
)


class _Stemmer(Protocol):
    def stemWord(self, word: str) -> str: ...


@cache
def _stemmer() -> _Stemmer:
    import Stemmer  # Loaded late: a process that neither reads files nor searches has no need.

    stemmer: _Stemmer = Stemmer.Stemmer("english")
    return stemmer


class _Terms(dict[str, tuple[str, ...]]):
    """Token → its terms, remembered: most tokens of a text were seen before."""

    def __missing__(self, token: str) -> tuple[str, ...]:
        if len(self) >= limits.TOKENS_CACHED:
            self.clear()
        self[token] = found = _terms(token)
        return found


_KNOWN = _Terms()


def words(text: str) -> list[str]:
    """The terms of a text, in order and with repeats."""
    if text.isascii():
        return [term for token in _ASCII_TOKEN.findall(text) for term in _KNOWN[token]]
    found: list[str] = []
    text = unicodedata.normalize("NFKC", text)
    pattern = _MARKED_TOKEN if _IS_MARKED.search(text) else _TOKEN  # The plain one is quicker.
    if not _IS_DENSE.search(text):
        return [term for token in pattern.findall(text) for term in _KNOWN[token]]
    for token in pattern.findall(text):
        if _IS_DENSE.match(token):
            found += _pairs(token)
        else:
            found += _KNOWN[token]
    return found


def _pairs(run: str) -> list[str]:
    """Every two neighbours; a character that stands alone is a term itself."""
    return list(map(add, run, run[1:])) or [run]


def _terms(token: str) -> tuple[str, ...]:
    """The terms of one token: its parts, and the whole of it where it has several."""
    if token.isascii() and token.isalpha() and (token.islower() or token[1:].islower()):
        return (_stem(token.lower()),)
    parts = [_folded(part) for part in _PARTS.findall(_composed(token))]
    parts = [part for part in parts if part]
    if len(parts) < 2:
        return tuple(_stem(part) for part in parts)
    joint = "." if all(part.isdecimal() for part in parts) else ""
    return (*(_stem(part) for part in parts), joint.join(parts)[:_LONGEST])


def _composed(token: str) -> str:
    """The token without accents, so that a word is not parted at one."""
    if token.isascii():
        return token
    bare = _FOLDED_AWAY.sub("", unicodedata.normalize("NFKD", token))
    return unicodedata.normalize("NFC", bare).translate(_ALIKE)


def _folded(part: str) -> str:
    return part.casefold()[:_LONGEST]


def _stem(word: str) -> str:
    if len(word) < 3 or not (word.isascii() and word.isalpha()):
        return word
    return _stemmer().stemWord(word)
