"""The same answers on SQLite and on PostgreSQL: random operations of the whole API, asked of both.

Each step is one operation, or a run from its start to its rest; whatever both servers answer must
be alike (alike.py). `SOAK=1` makes it many examples with a new seed.
"""

import json
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests import postgres
from tests.api.serving import Running
from tests.fuzz import odd
from tests.fuzz.operations import Operations, Path
from tests.fuzz.shelving import Shelving
from tests.fuzz.talking import Talking
from tests.fuzz.twins import running_twins

IS_SOAK = os.environ.get("SOAK") == "1"
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES") or (600 if IS_SOAK else 40))
STEPS = 30

_BODIES = [
    ("/assistants", {"model": "m", "tools": [], "metadata": {"a": "b"}}),
    ("/threads", {"messages": [{"role": "user", "content": "Hi."}], "metadata": {}}),
    ("/threads/runs", {"assistant_id": "asst_unknown", "thread": {"messages": []}}),
    ("/uploads", {"filename": "a", "purpose": "vision", "bytes": 3, "mime_type": "image/png"}),
    ("/vector_stores", {"name": "a", "file_ids": [], "metadata": {}}),
    ("/embeddings", {"model": "m", "input": "a"}),
]
_JUNK = [b"", b"{", b"[]", b"\xff", b'{"a":1}', b'{"metadata":{"a":"\\ud800"}}', b'{"a":\0}']


# A path and what is sent there.
_wrong = st.one_of(
    st.sampled_from(_BODIES).flatmap(
        lambda one: st.tuples(st.just(one[0]), odd.broken(one[1]).map(json.dumps).map(str.encode))
    ),
    st.tuples(Operations.anything, st.sampled_from(_JUNK)),
)


class SameAnswers(Talking, Shelving):
    """All of it, and requests that nothing comes of."""

    @rule(wrong=_wrong)
    def send_wrong(self, wrong: tuple[Path, bytes]) -> None:
        """A body of which one value is another, or what is no body."""
        path, content = wrong
        self.twins.ask("POST", path, content=content)


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, Running]]:
    """Both servers; they are this test's own."""
    with running_twins(tmp_path_factory.mktemp("twins")) as servers:
        yield servers


@pytest.mark.skipif(postgres.IS_FLEET, reason="it brings its own servers")
@pytest.mark.timeout(7200 if IS_SOAK else 300)
def test_both_databases_answer_the_same(twins: tuple[Running, Running]) -> None:
    machine = type("SameAnswersHere", (SameAnswers,), {"servers": twins})
    machine.TestCase.settings = settings(  # type: ignore[attr-defined]
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        derandomize=not IS_SOAK,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    machine.TestCase().runTest()  # type: ignore[attr-defined]
