"""The terms of texts in many scripts."""

# ruff: noqa: RUF001 -- Letters of other scripts are the point.

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy import limits
from understudy.search.question import asked
from understudy.search.words import words


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("She was running two marathons", "run marathon"),
        ("Set max_num_results to five", "maxNumResults"),
        ("Set maxNumResults to five", "max num results"),
        ("call client.beta.threads.create()", "threads"),
        ("call client.beta.threads.create()", "client.beta.threads.create"),
        ("the HTTPServer class", "http server"),
        ("gpt-4o answers", "GPT-4o"),
        ("gpt-4o answers", "gpt4o"),
        ("version 3.11 is out", "3.11"),
        ("The Mädchen in Zürich", "madchen Zurich"),
        ("La crème brûlée", "creme BRULEE"),
        ("Die Straße nach Łódź", "STRASSE lodz"),
        ("Cafe\u0301 noir", "café"),  # A mark of its own, as macOS writes names.
        ("Ёлка в лесу", "елка"),
        ("Η Αθήνα", "ΑΘΗΝΑ"),
        ("كَتَبَ مُحَمَّد رسالةً", "كتب محمد رساله"),
        ("שָׁלוֹם עולם", "שלום"),
        ("हिन्दी भाषा", "हिन्दी"),
        ("人工智能改变世界", "智能"),
        ("東京都に住んでいます", "東京"),
        ("ｆｕｌｌｗｉｄｔｈ ﬁle", "fullwidth file"),
        ("서울에서 만나요", "서울"),
        ("สวัสดีชาวโลก", "ชาวโลก"),
        ("调用requests.get函数", "requests get"),
        ("soft\u00adhyphen", "softhyphen"),
    ],
)
def test_a_query_in_other_spelling_finds_the_text(text: str, query: str) -> None:
    assert set(words(query)) <= set(words(text))


@pytest.mark.parametrize(("one", "other"), [("水道", "火山"), ("หมา", "แมว"), ("cat", "dog")])
def test_other_words_are_other_terms(one: str, other: str) -> None:
    assert not set(words(one)) & set(words(other))


def test_terms_keep_their_order_and_their_repeats() -> None:
    assert words("red fish, blue fish") == ["red", "fish", "blue", "fish"]


def test_a_character_alone_is_a_term() -> None:
    assert words("水") == ["水"]


@pytest.mark.parametrize("text", ["", " \n\t", "... --- !!!", "\u0301", "\ud800"])
def test_what_has_no_words_has_few_terms(text: str) -> None:
    assert len(words(text)) <= 1


@given(st.text(max_size=300))
def test_terms_of_any_text_are_bounded_and_the_same_again(text: str) -> None:
    terms = words(text)
    assert terms == words(text)
    assert all(0 < len(term) <= limits.TERM_CHARS and not term.isspace() for term in terms)


@given(st.text(alphabet="abcDEF019_-. é漢かก", max_size=80), st.text(max_size=80))
def test_terms_do_not_reach_across_a_line(one: str, other: str) -> None:
    assert words(f"{one}\n{other}") == words(one) + words(other)


@pytest.mark.parametrize("piece", ["a", "_", "a-", "aB", "x1", "é", "漢", "\u0301", "\ufdfa", "."])
def test_no_text_takes_long(piece: str) -> None:
    begun = time.monotonic()
    words(piece * (300_000 // len(piece)))
    assert time.monotonic() - begun < 10


def test_words_that_only_ask_count_little() -> None:
    weights = asked("What does the scheduler do?")
    assert weights["schedul"] == 1.0
    assert set(weights) == {"what", "doe", "the", "schedul", "do"}
    assert max(weights[term] for term in ("what", "doe", "the", "do")) < 0.5


def test_the_language_of_the_query_tells_which_words_only_ask() -> None:
    assert asked("Wie werden die Rechnungen bezahlt?")["die"] < 1.0
    assert asked("how do I roll a die")["die"] == 1.0
    assert asked("Как удалить файл?")["как"] < 1.0


def test_a_word_asked_twice_counts_twice() -> None:
    assert asked("fish fish")["fish"] == 2.0


def test_a_query_without_words_asks_nothing() -> None:
    assert asked("?!") == {}
