"""The same search results on SQLite and on PostgreSQL, scores included, over this project's docs.

Files are indexed one after the other, so that both servers do it in the same order: then not even
the last digit of a score may differ, nor the order of equals.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.twins import Twins, running_twins

DOCS = Path(__file__).parents[2] / "docs"
SECTIONS = 40
FILTERS = [
    None,
    {"type": "eq", "key": "is_even", "value": True},
    {"type": "in", "key": "number", "value": [2, 3, 5, 7, 11, 13]},
    {
        "type": "or",
        "filters": [
            {"type": "gte", "key": "number", "value": SECTIONS - 4},
            {"type": "ne", "key": "kind", "value": "note"},
        ],
    },
]


def sections() -> list[str]:
    """The docs by their headings, the same number of each page first."""
    pages = [path.read_text() for path in sorted(DOCS.rglob("*.md"))]
    found = [section for page in pages for section in page.split("\n## ")[1:4]]
    assert len(found) >= SECTIONS
    return found[:SECTIONS]


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Twins]:
    """A project on both servers."""
    with running_twins(tmp_path_factory.mktemp("twins")) as servers:
        twins = Twins(servers)
        yield twins
        twins.close()


def filled(twins: Twins) -> str:
    """The path of a store with all sections, in chunks of a few sentences."""
    sizes = {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 50}
    store = f"/vector_stores/{twins.ask('POST', '/vector_stores', {}).id}"
    for number, text in enumerate(sections()):
        kind = "note" if number % 3 else "page"
        files = {"file": (f"{number}.md", text.encode())}
        file = twins.ask("POST", "/files", form={"purpose": "assistants"}, files=files)
        body = {
            "file_id": file.id,
            "attributes": {"number": number, "kind": kind, "is_even": number % 2 == 0},
            "chunking_strategy": {"type": "static", "static": sizes},
        }
        assert twins.ask("POST", f"{store}/files", body).status == 200
        assert twins.indexed(store).object["file_counts"]["completed"] == number + 1
    return store


def test_both_databases_find_the_same_with_the_same_scores(twins: Twins) -> None:
    store = filled(twins)
    texts = sections()
    # A heading, a sentence, and words that few sections have together.
    queries = [text.partition("\n")[0] for text in texts[::3]]
    queries += [text[len(text) // 2 :][:120] for text in texts[1::3]]
    queries += ["What happens when a worker dies in the middle of a run?", "max_num_results 20"]
    found = 0
    for number, query in enumerate(queries):
        body = {"query": query or "files", "max_num_results": 50, "filters": FILTERS[number % 4]}
        answer = twins.ask("POST", f"{store}/search", body)
        found += len(answer.object["data"])
    assert found > 10 * len(queries), "there was something to compare"
    assert answer.headers["x-understudy-search"].startswith("keywords and vectors")
