"""Which encoding a text is in that is no UTF: the East Asian ones by their own rules, then others.

charset-normalizer knows the encodings of one byte per character well. Two bytes at a time, what
is Japanese is valid Korean too, and it may choose that. There the common characters tell: each
of these encodings keeps the common ones apart from the rare ones, by the first byte.
"""

import re
from collections.abc import Callable

from understudy import limits

# What the detection chooses from: encodings that text files of today's systems are in.
_ENCODINGS = (
    "cp1252 cp1250 cp1251 koi8_r cp1253 cp1254 cp1255 cp1256 cp1257 cp1258 cp874 iso8859_2 cp866"
)
_LEAST_CHARACTERS = 3  # Two accents in a row may look like one Chinese character.
_LEAST_HEBREW = 10
_LEAST_SCORE = 0.7  # Real texts have above 0.85, others read so below 0.5.
_KOREAN_SCORE = 0.9  # All of Korean's first bytes are Chinese too, but only half the other way.
_KANA = re.compile("[\u3040-\u30ff]")
_PUNCTUATION = re.compile("[\u3000-\u303f\uff00-\uff60]")


class UnknownEncoding(Exception):
    """No encoding explains the bytes."""


def encoding_of(data: bytes) -> str:
    """The encoding that explains the lines with bytes beyond ASCII best; or UnknownEncoding."""
    sample = _telling(data)
    scores = {name: _score(sample, name) for name in _COMMON}
    best = max(scores, key=lambda name: scores[name])
    if scores["cp949"] >= _KOREAN_SCORE:
        return "cp949"
    if scores[best] >= _LEAST_SCORE:
        return best
    if _is_hebrew(sample):
        return "cp1255"
    from charset_normalizer import from_bytes  # Loaded late: few files need it.

    found = from_bytes(sample, cp_isolation=_ENCODINGS.split(), preemptive_behaviour=False).best()
    if found is None:
        raise UnknownEncoding
    return _western(sample) if found.encoding in {"cp1250", "cp1252", "cp1254"} else found.encoding


def _telling(data: bytes) -> bytes:
    """The lines with bytes beyond ASCII, up to a bound; no encoding here has a false line end."""
    lines: list[bytes] = []
    size = 0
    for line in re.finditer(rb"[^\n]*[\x80-\xff][^\n]*\n?", data):
        lines.append(line[0])
        size += len(line[0])
        if size >= limits.DETECTED_BYTES:
            break
    return b"".join(lines)


def _japanese_jis(first: int) -> bool:
    return 0x88 <= first <= 0x97


def _japanese_euc(first: int) -> bool:
    return 0xB0 <= first <= 0xCF


def _simplified(first: int) -> bool:
    return 0xB0 <= first <= 0xD7


def _traditional(first: int) -> bool:
    return 0xA4 <= first <= 0xC6


def _korean(first: int) -> bool:
    return 0xB0 <= first <= 0xC8


# Of each encoding: whether a first byte is that of common characters.
_COMMON: dict[str, Callable[[int], bool]] = {
    "cp932": _japanese_jis,
    "euc_jp": _japanese_euc,
    "gb18030": _simplified,
    "big5": _traditional,
    "cp949": _korean,
}
_JAPANESE = frozenset({"cp932", "euc_jp"})


def _score(sample: bytes, name: str) -> float:
    """The share of common characters among those beyond ASCII, read in this encoding."""
    cut = sample[: limits.DETECTED_BYTES]
    try:
        text = cut.decode(name, "strict" if len(cut) == len(sample) else "ignore")
    except UnicodeDecodeError:
        return 0.0
    beyond = [char for char in text if char > "\x7f"]
    if len(beyond) < _LEAST_CHARACTERS:
        return 0.0
    return sum(_is_common(char, name) for char in beyond) / len(beyond)


def _is_common(char: str, name: str) -> bool:
    if _PUNCTUATION.match(char):
        return True
    if _KANA.match(char):
        return name in _JAPANESE
    code = char.encode(name, "ignore")
    if len(code) != 2 or not _COMMON[name](code[0]):
        return False
    # The rare half of two of them has the same first bytes, with lower second ones.
    return name not in {"gb18030", "cp949"} or code[1] >= 0xA1


_SYMBOL_IN_WORD = re.compile(
    r"(?<=\w)[^\w\s'\u2019.,:;/&+*_@()-](?=\w)|[a-z\xdf-\xff](?=[\xc0-\xd6\xd8-\xde])"
)


def _western(sample: bytes) -> str:
    """Western or Central European: where symbols would stand inside words, it is the other."""
    oddities = {
        name: len(_SYMBOL_IN_WORD.findall(sample.decode(name, "replace")))
        for name in ("cp1252", "cp1250", "iso8859_2")
    }
    best = min(oddities, key=lambda name: oddities[name])
    text = sample.decode(best, "replace")
    turkish, icelandic = len(_TURKISH.findall(text)), len(_ICELANDIC.findall(text))
    return "cp1254" if best == "cp1252" and turkish > icelandic else best


# Where Turkish has its own letters, Western Europe has those of Iceland, with others beside them.
_TURKISH = re.compile("[\xdd\xde\xd0\xfd\xfe\xf0]")
_ICELANDIC = re.compile("[\xc1\xc6\xc9\xcd\xd3\xda\xe1\xe6\xe9\xed\xf3\xfa]")
_HEBREW = re.compile(rb"[\xe0-\xfa]")


def _is_hebrew(sample: bytes) -> bool:
    """Nothing but its 27 letters: no capitals, and no others of a Cyrillic alphabet."""
    beyond = re.findall(rb"[\x80-\xff]", sample)
    letters = len(re.findall(rb"[A-Za-z]", sample))
    is_most = len(beyond) > max(letters, _LEAST_HEBREW)
    return is_most and all(_HEBREW.match(char) for char in beyond)
