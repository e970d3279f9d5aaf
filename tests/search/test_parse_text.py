"""Texts: their encoding is told, line ends are one, and what is no text is refused."""

# ruff: noqa: RUF001  Texts in other scripts have letters that look like ours.

import random

import pytest

from understudy.search.parse import clean
from understudy.search.parse.text import NotText, decoded

TEXTS = {
    "Die Größe der Straße überraschte die Gäste im Café.": "latin-1 cp1252",
    "L\u2019été dernier, l\u2019élève a mangé une crêpe.": "cp1252",
    "¿El niño comió una piña en la montaña?": "latin-1",
    "Räksmörgås på Åland är gott, sa Örjan.": "latin-1",
    "Zażółć gęślą jaźń, powiedział łoś.": "cp1250 iso-8859-2",
    "Příliš žluťoučký kůň úpěl ďábelské ódy.": "cp1250 iso-8859-2",
    "Şu çılgın Türkler İstanbul'da yaşıyor, ğ harfi yumuşaktır.": "cp1254",
    "Αυτή είναι μια ελληνική πρόταση.": "cp1253 iso-8859-7",
    "Это предложение на русском языке, его надо найти.": "koi8-r cp1251 cp866",
    "Това е изречение на български език.": "cp1251",
    "זה משפט בעברית שצריך למצוא.": "cp1255",
    "هذه جملة باللغة العربية يجب العثور عليها.": "cp1256",
    "これは日本語の文章です。検索できるはずです。": "shift-jis euc-jp iso2022_jp",
    "東京都庁舎の建築家は丹下健三である。": "shift-jis euc-jp",
    "这是一个中文句子，应该可以被搜索到。": "gb18030",
    "這是一個中文句子，應該可以被搜尋到。": "big5 gb18030",
    "이것은 한국어 문장입니다. 검색할 수 있어야 합니다.": "euc-kr",
}
CASES = [(text, name) for text, names in TEXTS.items() for name in names.split()]
WIDE = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"]


@pytest.mark.parametrize(("text", "encoding"), CASES)
@pytest.mark.parametrize("english", ["", "An English line comes first, then another one.\n" * 5])
@pytest.mark.parametrize("times", [1, 30])
def test_the_encoding_is_told(text: str, encoding: str, english: str, times: int) -> None:
    """Of short texts and long ones, whatever stands before."""
    whole = english + f"{text}\n" * times
    assert decoded(whole.encode(encoding)) == whole


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.parametrize("text", TEXTS)
def test_unicode_is_told_with_and_without_a_mark(text: str, encoding: str) -> None:
    """A line end is enough to tell where the zeros are."""
    whole = f"{text}\n"
    assert decoded(whole.encode(encoding)) == whole


def test_a_broken_byte_does_not_make_utf_8_something_else() -> None:
    """A log that was cut, or one bad character in a book."""
    text = "Grüße aus Köln und Düsseldorf, schöne Wörter. " * 20
    assert decoded(text.encode() + b"\xc3").rstrip("\ufffd") == text


@pytest.mark.parametrize("seed", range(60))
def test_random_bytes_are_no_text(seed: int) -> None:
    """Never something that only looks like one."""
    source = random.Random(seed)
    lowest = source.choice([0, 0x20, 0x80, 0xA0])
    data = bytes(source.randrange(lowest, 256) for _ in range(source.choice([200, 2000, 20_000])))
    with pytest.raises(NotText):
        decoded(data)


def test_line_ends_are_one_and_zeros_are_gone() -> None:
    """And a lone surrogate, which no UTF-8 can hold."""
    assert clean("\ufeffa\r\nb\rc\u2028d\0e\ud800f\tg\x0ch\x07") == "a\nb\nc\ndef\tg\x0ch"
    assert clean("as\nit is\t") == "as\nit is\t"
