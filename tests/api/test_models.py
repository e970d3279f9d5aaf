"""Models and embeddings (SPEC 7.9, assertions 214 and 215)."""

import base64
import struct

import httpx2
import openai
import pytest

from tests.api.conftest import Start, client_for
from tests.api.serving import KEY
from tests.api.truth import error_of


@pytest.mark.assertion(214)
def test_models_are_listed_and_found(sdk: openai.OpenAI, http: httpx2.Client) -> None:
    listed = list(sdk.models.list())
    assert [model.object for model in listed] == ["model"] * len(listed)
    assert sdk.models.retrieve(listed[0].id) == listed[0]
    for path in ("/models/nope", "/models/some/model", "/models/some%2Fmodel"):
        error = error_of(http.get(path), 404)
        assert error["code"] == "model_not_found"
    assert error["message"] == "The model 'some/model' does not exist"


def test_models_cannot_be_deleted(http: httpx2.Client) -> None:
    error_of(http.delete("/models/rehearsal"), 403)
    error_of(http.delete("/models/nope"), 404)


@pytest.mark.assertion(215)
def test_embeddings_come_as_floats_or_base64(sdk: openai.OpenAI, http: httpx2.Client) -> None:
    def embed(**fields: object) -> dict[str, object]:
        answer = http.post("/embeddings", json={"model": "rehearsal-embedding", **fields})
        found: dict[str, object] = answer.raise_for_status().json()
        return found

    floats = embed(input="hello")
    packed = embed(input="hello", encoding_format="base64")
    [vector] = [item["embedding"] for item in floats["data"]]  # type: ignore[attr-defined]
    [text] = [item["embedding"] for item in packed["data"]]  # type: ignore[attr-defined]
    raw = base64.b64decode(text)
    assert struct.unpack(f"<{len(raw) // 4}f", raw) == pytest.approx(vector)
    usage = floats["usage"]
    assert isinstance(usage, dict)
    assert usage["prompt_tokens"] == usage["total_tokens"] > 0

    by_sdk = sdk.embeddings.create(model="rehearsal-embedding", input=["hello", "world"])
    assert by_sdk.data[0].embedding == pytest.approx(vector)
    assert [item.index for item in by_sdk.data] == [0, 1]
    assert len(embed(input=[[1, 2], [3]])["data"]) == 2  # type: ignore[arg-type]
    assert len(embed(input=[1, 2, 3])["data"]) == 1  # type: ignore[arg-type]
    small = sdk.embeddings.create(model="rehearsal-embedding", input="hello", dimensions=8)
    assert len(small.data[0].embedding) == 8


def test_a_provider_that_is_away_is_a_502(start: Start) -> None:
    with start(upstream_url="http://127.0.0.1:9/v1") as server, client_for(server.url, KEY) as http:
        error = error_of(http.get("/models"), 502)
        assert error["type"] == "server_error"
        health = http.get(f"{server.root}/health")
        assert health.status_code == 200
        assert health.json()["seams"]["model"]["state"] == "down"


def test_null_is_as_good_as_absent_in_an_embedding_call(http: httpx2.Client) -> None:
    body = {"model": "rehearsal-embedding", "input": "x"}
    nulls = {"encoding_format": None, "dimensions": None, "user": None}
    plain, null = (http.post("/embeddings", json=one) for one in (body, body | nulls))
    assert null.status_code == 200, null.text
    assert null.json() == plain.json()
