"""Every type of file that file_search takes is read, and nothing in it is lost."""

from pathlib import Path

import pytest

from tests.search.corpus import EXTENSIONS, Made, make_corpus
from understudy.search.parse import read_text


def one_line(text: str) -> str:
    """The text with single spaces."""
    return " ".join(text.split())


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Made]:
    """Files of all types, each with every language."""
    return make_corpus(tmp_path_factory.mktemp("corpus"), count=len(EXTENSIONS) * 10)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_every_known_sentence_is_read(corpus: list[Made], extension: str) -> None:
    """In whatever language, encoding and part of the document it is."""
    files = [made for made in corpus if made.path.suffix.lower() == extension]
    assert len(files) == 10
    for made in files:
        text = one_line(read_text(made.path, made.path.name))
        missing = [said for said in made.sentences if one_line(said) not in text]
        assert not missing, made.path.name


def test_upper_case_extensions_are_in_the_corpus(corpus: list[Made]) -> None:
    """A third of it."""
    shown = {made.path.suffix for made in corpus}
    assert {extension.upper() for extension in EXTENSIONS} < shown


def test_a_corpus_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    """So that a failure can be looked at again."""
    for folder in "ab":
        (tmp_path / folder).mkdir()
    first, again = (make_corpus(tmp_path / folder, count=5, seed=3) for folder in "ab")
    assert [m.sentences for m in first] == [m.sentences for m in again]
    assert [m.path.name for m in first] == [m.path.name for m in again]
