"""Embeddings through the provider: asked as floats, answered as asked, failing with a status."""

import base64
import struct

import pytest

from tests.model.conftest import Rehearsal
from understudy.model import Model, ModelError, open_model
from understudy.model.chat import ChatModel
from understudy.model.embeddings import from_upstream
from understudy.wire.models import CreateEmbedding


@pytest.fixture(params=["http", "in process"])
async def either(request: pytest.FixtureRequest, model: ChatModel) -> Model:
    """The rehearsal model behind HTTP, and in the same process."""
    return model if request.param == "http" else open_model("rehearsal:")


async def test_base64_equals_float(either: Model) -> None:
    floats = await either.embed(CreateEmbedding(input="hello you"), "m")
    packed = await either.embed(CreateEmbedding(input="hello you", encoding_format="base64"), "m")
    numbers, text = floats.data[0].embedding, packed.data[0].embedding
    assert isinstance(numbers, list)
    assert isinstance(text, str)
    assert list(struct.unpack("<64f", base64.b64decode(text))) == pytest.approx(numbers)


async def test_every_kind_of_input(either: Model) -> None:
    counts = {
        "a text": 1,
        ("two", "texts"): 2,
        (1, 2, 3): 1,
        ((1, 2), (3, 4)): 2,
    }
    for given, count in counts.items():
        listed = [list(x) if isinstance(x, tuple) else x for x in given]
        body = CreateEmbedding(input=given if isinstance(given, str) else listed)
        answer = await either.embed(body, "m")
        assert [vector.index for vector in answer.data] == list(range(count))
        assert answer.usage.prompt_tokens > 0


async def test_dimensions_are_respected(either: Model) -> None:
    answer = await either.embed(CreateEmbedding(input="hi", dimensions=7), "m")
    assert len(answer.data[0].embedding) == 7


async def test_a_refusal_has_the_providers_status(either: Model) -> None:
    with pytest.raises(ModelError) as caught:
        await either.embed(CreateEmbedding(input="hi", dimensions=1_000_000), "m")
    assert caught.value.status == 400


async def test_the_provider_is_asked_for_floats(model: ChatModel, rehearsal: Rehearsal) -> None:
    await model.embed(CreateEmbedding(input="hi", encoding_format="base64"), "m")
    [call] = rehearsal.calls()
    assert call["body"] == {"input": "hi", "model": "m", "encoding_format": "float"}


def test_answers_that_lack_the_rest_are_read() -> None:
    body = b'{"data": [{"embedding": [0.5, 1]}, {"embedding": "AACAPw=="}]}'
    answer = from_upstream(body, CreateEmbedding(input=["a", "b"]), "m")
    assert [vector.embedding for vector in answer.data] == [[0.5, 1.0], [1.0]]
    assert (answer.model, answer.usage.total_tokens) == ("m", 0)


def test_vectors_come_in_the_order_of_their_inputs() -> None:
    body = b'{"data": [{"embedding": [2], "index": 1}, {"embedding": [1], "index": 0}]}'
    answer = from_upstream(body, CreateEmbedding(input=["a", "b"]), "m")
    assert [vector.embedding for vector in answer.data] == [[1.0], [2.0]]


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"{}", b'{"data": [{"embedding": "?"}]}', b'{"data": [{"embedding": "AA=="}]}'],
)
def test_answers_that_are_no_vectors_fail(body: bytes) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        from_upstream(body, CreateEmbedding(input="a"), "m")
