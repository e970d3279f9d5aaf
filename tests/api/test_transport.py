"""Transport and keys (SPEC 2 and 3, assertions 1-28)."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.api.conftest import BETA, Start, client_for
from tests.api.serving import KEY, Running
from tests.api.truth import error_of
from understudy.errors import ApiError

MODEL = {"model": "gpt-4o"}
NO_BETA = (
    "You must provide the 'OpenAI-Beta' header to access the Assistants API. Please try again by "
    "setting the header 'OpenAI-Beta: assistants=v2'."
)


@pytest.fixture
def bare(server: Running) -> Iterator[httpx2.Client]:
    """A client without key, prefix or header."""
    with httpx2.Client(base_url=server.root, timeout=30) as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    """The usual credential."""
    return {"Authorization": f"Bearer {key}"}


# Prefixes and credentials.


@pytest.mark.assertion(1, 2, 4)
@pytest.mark.parametrize("prefix", ["/v1", "", "/openai", "/openai/v1", "/openai/deployments/foo"])
def test_all_prefixes_lead_to_the_same_calls(bare: httpx2.Client, key: str, prefix: str) -> None:
    for tail in ("", "/", "?api-version=2024-08-01-preview"):
        answer = bare.post(
            f"{prefix}/assistants{tail}", json=MODEL, headers={**bearer(key), **BETA}
        )
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/json"


@pytest.mark.assertion(3, 4)
@pytest.mark.parametrize("prefix", ["/openai", "/openai/v1"])
def test_azure_clients_send_api_key_and_no_beta_header(
    bare: httpx2.Client, key: str, prefix: str
) -> None:
    path = f"{prefix}/assistants?api-version=2024-08-01-preview"
    assert bare.post(path, json=MODEL, headers={"api-key": key}).status_code == 200


@pytest.mark.assertion(5)
def test_a_deployment_is_the_model_of_embeddings(bare: httpx2.Client, key: str) -> None:
    path = "/openai/deployments/rehearsal-embedding/embeddings"
    answer = bare.post(path, json={"input": "x"}, headers=bearer(key))
    assert answer.json()["model"] == "rehearsal-embedding"
    error = error_of(bare.post("/v1/embeddings", json={"input": "x"}, headers=bearer(key)))
    assert error["message"] == "Missing required parameter: 'model'."


@pytest.mark.assertion(6)
@pytest.mark.parametrize("user", ["", "anybody"])
def test_basic_auth_carries_the_key_as_password(bare: httpx2.Client, key: str, user: str) -> None:
    assert bare.get("/v1/assistants", auth=(user, key)).status_code == 200


@pytest.mark.assertion(7)
def test_no_key_is_told_how_to_send_one(bare: httpx2.Client) -> None:
    error = error_of(bare.get("/v1/assistants"), 401)
    assert (error["message"] or "").startswith("You didn't provide an API key.")
    assert error["code"] is None


@pytest.mark.assertion(8)
def test_a_wrong_key_is_masked(bare: httpx2.Client) -> None:
    wrong = "sk-abcdefghijklmnopqrstuvwxyz"
    error = error_of(bare.get("/v1/assistants", headers=bearer(wrong)), 401)
    assert error["code"] == "invalid_api_key"
    assert "sk-abcde***wxyz" in (error["message"] or "")
    assert wrong not in (error["message"] or "")


@pytest.mark.assertion(9, 11)
def test_the_next_credential_is_tried_when_one_is_unknown(bare: httpx2.Client, key: str) -> None:
    portkey = {"x-portkey-api-key": key}
    assert bare.get("/v1/assistants", headers=portkey).status_code == 200
    for unknown in ({"Authorization": "Bearer nope"}, {"api-key": "nope"}):
        assert bare.get("/v1/assistants", headers={**unknown, **portkey}).status_code == 200


@pytest.mark.assertion(10, 12)
def test_portkey_headers_change_nothing_and_the_trace_id_comes_back(http: httpx2.Client) -> None:
    names = (
        "virtual-key provider config custom-host metadata cache-force-refresh cache-namespace "
        "request-timeout forward-headers sensitive-headers fetch-integrated-models "
        "strict-open-ai-compliance openai-organization openai-project azure-resource-name "
        "vertex-region aws-region span-id span-name"
    )
    headers = {f"x-portkey-{name}": "x" for name in names.split()}
    answer = http.get("/assistants", headers={**headers, "x-portkey-trace-id": "trace-1"})
    assert answer.status_code == 200
    assert answer.headers["x-portkey-trace-id"] == "trace-1"


# The beta header.


@pytest.mark.assertion(13)
def test_the_beta_header_is_not_needed(bare: httpx2.Client, key: str) -> None:
    for headers in ({}, {"OpenAI-Beta": "assistants=v1"}):
        answer = bare.get("/v1/assistants", headers={**bearer(key), **headers})
        assert answer.status_code == 200


@pytest.mark.assertion(14, 15, 16, 17)
def test_strict_mode_wants_the_beta_header(start: Start) -> None:
    with start(strict=True) as server, httpx2.Client(base_url=server.root) as bare:

        def get(path: str, beta: str | None) -> httpx2.Response:
            headers = bearer(KEY) | ({} if beta is None else {"OpenAI-Beta": beta})
            return bare.get(path, headers=headers)

        error = error_of(get("/v1/assistants", None))
        assert error["message"] == NO_BETA
        assert error["code"] == "invalid_beta"
        error = error_of(get("/v1/assistants", "assistants=v1"))
        assert (error["message"] or "").startswith("The v1 Assistants API has been deprecated.")
        assert get("/v1/assistants", "foo=v1, Assistants=V2").status_code == 200
        assert get("/v1/models", None).status_code == 200
        assert get("/v1/files", None).status_code == 200
        assert error_of(get("/v1/vector_stores", None))["code"] == "invalid_beta"
        assert get("/openai/assistants?api-version=v1", None).status_code == 200


# Headers and errors.


@pytest.mark.assertion(18)
def test_every_answer_has_the_headers(bare: httpx2.Client, key: str) -> None:
    organization = {"OpenAI-Organization": "org-1", "OpenAI-Project": "proj-1"}
    for answer in (
        bare.get("/v1/assistants", headers=bearer(key)),
        bare.get("/v1/assistants"),
        bare.get("/v1/nope", headers=bearer(key)),
        bare.put("/v1/assistants", headers=bearer(key)),
        bare.get("/v1/assistants/asst_x", headers=bearer(key)),
        bare.get("/health"),
        bare.get("/openapi.json"),
        bare.get("/v1/models", headers=bearer(key) | organization),
    ):
        assert answer.headers["x-request-id"].startswith("req_")
        assert len(answer.headers["x-request-id"]) == 36
        assert answer.headers["openai-processing-ms"].isdigit()
        assert answer.headers["openai-version"] == "2020-10-01"
        assert answer.headers["openai-organization"]
    assert answer.headers["openai-organization"] == "org-1"
    assert answer.headers["openai-project"] == "proj-1"


@pytest.mark.assertion(19)
def test_accept_never_decides_what_is_sent(http: httpx2.Client) -> None:
    assistant = http.post("/assistants", json={"model": "rehearsal"}).json()
    body = {"assistant_id": assistant["id"], "stream": True}
    headers = {"Accept": "application/json"}
    with http.stream("POST", "/threads/runs", json=body, headers=headers) as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-request-id"].startswith("req_")
        assert answer.read().endswith(b"event: done\ndata: [DONE]\n\n")
    assert http.get("/assistants", headers={"Accept": "text/html"}).status_code == 200


@pytest.mark.assertion(20)
def test_an_unknown_route_is_named(http: httpx2.Client, bare: httpx2.Client) -> None:
    assert error_of(http.get("/nope"), 404) == {
        "message": "Invalid URL (GET /v1/nope)",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }
    error_of(bare.get("/v1/nope"), 401)


@pytest.mark.assertion(21)
def test_a_wrong_method_is_told_the_right_ones(http: httpx2.Client) -> None:
    answer = http.put("/assistants")
    error = error_of(answer, 405)
    assert error["code"] == "method_not_supported"
    assert (error["message"] or "").startswith("Not allowed to PUT on /v1/assistants.")
    assert answer.headers["allow"] == "GET, POST"


@pytest.mark.assertion(22)
@pytest.mark.parametrize("body", [b"{", b"[]", b"1", b"\xff", b'{"model": NaN}', b"[" * 1000])
def test_a_body_that_is_no_json_object_is_refused(http: httpx2.Client, body: bytes) -> None:
    error = error_of(http.post("/assistants", content=body))
    assert (error["message"] or "").startswith(
        "We could not parse the JSON body of your request. (HINT:"
    )


@pytest.mark.assertion(23)
def test_errors_are_indented_and_have_exactly_four_keys(bare: httpx2.Client, key: str) -> None:
    answer = bare.get("/v1/assistants/asst_x", headers=bearer(key))
    assert answer.text == json.dumps(answer.json(), indent=2)
    assert list(answer.json()["error"]) == ["message", "type", "param", "code"]


@pytest.mark.assertion(24)
def test_a_conflict_of_states_is_never_a_409(
    http: httpx2.Client, server: Running, project: str
) -> None:
    thread_id = http.post("/threads").json()["id"]
    server.seed_run(thread_id, project)
    message = {"role": "user", "content": "x"}
    error_of(http.post(f"/threads/{thread_id}/messages", json=message))
    assistant = http.post("/assistants", json=MODEL).json()
    error_of(http.post(f"/threads/{thread_id}/runs", json={"assistant_id": assistant["id"]}))


@pytest.mark.assertion(25)
def test_a_429_says_when_to_come_back() -> None:
    error = ApiError.rate_limited("Rate limit reached.", 2.5, "requests")
    assert error.status == 429
    assert error.code == "rate_limit_exceeded"
    assert error.headers == {"retry-after": "2", "retry-after-ms": "2500"}


def test_the_order_of_checks(http: httpx2.Client, bare: httpx2.Client) -> None:
    bad_path = "/assistants/foo"
    error_of(bare.post("/v1/nope", content=b"{"), 401)
    error = error_of(http.post(bad_path, content=b"{"))
    assert "could not parse" in (error["message"] or "")
    assert error_of(http.post(bad_path, json={"foo": 1}))["param"] == "assistant_id"
    assert error_of(http.post("/assistants/asst_x", json={"foo": 1}))["param"] == "foo"


def test_the_first_of_several_bad_ids_is_named(http: httpx2.Client) -> None:
    error = error_of(http.get("/threads/undefined/runs/thread_1"))
    assert error["param"] == "thread_id"
    error = error_of(http.get("/threads/thread_1/runs/thread_1"))
    assert error["message"] == (
        "Invalid 'run_id': 'thread_1'. Expected an ID that begins with 'run'."
    )


# Idempotency keys.


@pytest.mark.assertion(26)
def test_the_same_key_and_body_happen_once(http: httpx2.Client) -> None:
    headers = {"Idempotency-Key": "once"}
    answers = [
        http.post("/threads", json={"metadata": {"a": "1"}}, headers=headers) for _ in range(2)
    ]
    assert answers[0].json() == answers[1].json()
    assert len(http.get("/threads").json()["data"]) == 1


@pytest.mark.assertion(27)
def test_the_same_key_with_another_body_is_refused(http: httpx2.Client) -> None:
    headers = {"Idempotency-Key": "once"}
    assert http.post("/threads", json={}, headers=headers).status_code == 200
    error = error_of(http.post("/threads", json={"metadata": {}}, headers=headers))
    assert error["code"] == "idempotency_error"
    error_of(http.post("/assistants", json=MODEL, headers=headers))


def test_a_second_call_waits_for_the_first_with_its_key(http: httpx2.Client) -> None:
    headers = {"Idempotency-Key": "at once"}
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(lambda _: http.post("/threads", json={}, headers=headers), range(8))
        )
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_a_refused_call_leaves_its_key_free(http: httpx2.Client) -> None:
    headers = {"Idempotency-Key": "free"}
    error_of(http.post("/assistants", json={}, headers=headers))
    assert http.post("/assistants", json=MODEL, headers=headers).status_code == 200


def test_keys_belong_to_their_project(http: httpx2.Client, server: Running) -> None:
    headers = {"Idempotency-Key": "shared word"}
    mine = http.post("/threads", json={}, headers=headers).json()
    with client_for(server.url, server.new_key("somebody-else")) as other:
        theirs = other.post("/threads", json={}, headers=headers).json()
    assert mine["id"] != theirs["id"]


def test_the_stream_of_a_run_can_be_replayed_by_its_key(http: httpx2.Client) -> None:
    assistant = http.post("/assistants", json={"model": "rehearsal"}).json()
    body = {"assistant_id": assistant["id"], "stream": True}
    headers = {"Idempotency-Key": "run once"}
    texts = []
    for _ in range(2):
        with http.stream("POST", "/threads/runs", json=body, headers=headers) as answer:
            texts.append(answer.read().decode())
    assert texts[0] == texts[1]
    assert "thread.run.completed" in texts[0]


@pytest.mark.assertion(28)
def test_an_active_run_says_when_to_poll_again(http: httpx2.Client, server: Running) -> None:
    server.script({"silence": True}, model="silent")  # It stays active until it is cancelled.
    assistant = http.post("/assistants", json={"model": "silent"}).json()
    run = http.post("/threads/runs", json={"assistant_id": assistant["id"]}).json()
    path = f"/threads/{run['thread_id']}/runs/{run['id']}"
    answer = http.get(path)
    assert answer.headers["openai-poll-after-ms"].isdigit()
    assert http.post(f"{path}/cancel").status_code == 200


# Requests in unusual forms.


def test_content_type_does_not_matter(http: httpx2.Client) -> None:
    for kind in ("application/json; charset=utf-8", "text/plain", ""):
        answer = http.post("/threads", content=b"{}", headers={"Content-Type": kind})
        assert answer.status_code == 200


def test_ids_in_the_path_are_decoded_once(http: httpx2.Client) -> None:
    error = error_of(http.get("/threads/thread_%2541"), 404)
    assert error["message"] == "No thread found with id 'thread_%41'."


def test_head_is_get_without_a_body(http: httpx2.Client) -> None:
    answer = http.head("/assistants")
    assert answer.status_code == 200
    assert answer.content == b""


def test_our_own_hop_is_a_loop(http: httpx2.Client, server: Running) -> None:
    server.require_own_process()
    headers = {"x-understudy-hop": server.app.boot_id}
    assert error_of(http.get("/models", headers=headers), 508)["type"] == "server_error"
    assert http.get("/models", headers={"x-understudy-hop": "boot_other"}).status_code == 200


def test_a_bug_of_ours_is_a_500_without_details(
    http: httpx2.Client, server: Running, project: str
) -> None:
    server.seed("assistant", {"id": "asst_broken"}, project=project)
    answer = http.get("/assistants/asst_broken")
    error = error_of(answer, 500)
    assert error["type"] == "server_error"
    assert answer.headers["x-request-id"] in (error["message"] or "")
    assert "Traceback" not in answer.text


def test_many_clients_at_once_are_all_served(http: httpx2.Client) -> None:
    barrier = threading.Barrier(8)

    def create(_: int) -> int:
        barrier.wait()
        return http.post("/assistants", json=MODEL).status_code

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(create, range(8))) == [200] * 8


# Browsers.


def test_browsers_are_refused_unless_their_origin_is_named(http: httpx2.Client) -> None:
    answer = http.get("/assistants", headers={"Origin": "https://app.example"})
    assert "access-control-allow-origin" not in answer.headers


def test_a_named_origin_may_read_and_write(start: Start) -> None:
    origin = {"Origin": "https://app.example"}
    with (
        start(cors_origins=("https://app.example",)) as server,
        client_for(server.url, KEY) as http,
    ):
        wanted = {"access-control-request-method": "POST"}
        wanted["access-control-request-headers"] = "authorization, content-type"
        asked = http.options("/assistants", headers={**origin, **wanted})
        assert asked.status_code == 204
        assert asked.headers["access-control-allow-methods"] == "GET, POST, OPTIONS"
        assert asked.headers["access-control-allow-headers"] == "authorization, content-type"
        answer = http.get("/assistants", headers=origin)
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        other = http.get("/assistants", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


def test_options_names_the_methods(http: httpx2.Client) -> None:
    answer = http.options("/assistants")
    assert answer.status_code == 204
    assert answer.headers["allow"] == "GET, POST, OPTIONS"


# Keys and health.


def test_a_revoked_key_opens_nothing(server: Running, project: str) -> None:
    from understudy.api.auth import hash_of
    from understudy.store import changes

    key = server.new_key(project)
    row = server.run(server.app.store.key(hash_of(key)))
    assert row is not None
    server.run(server.app.store.commit(changes.revoke_key(row.id, now=1.0)))
    with client_for(server.url, key) as http:
        error_of(http.get("/assistants"), 401)


def test_health_needs_no_key(bare: httpx2.Client) -> None:
    answer = bare.get("/health")
    assert answer.status_code == 200
    report = answer.json()
    assert report["status"] == "ready"
    assert report["seams"]["store"] == {"state": "up"}
    assert report["seams"]["blobs"] == {"state": "up"}
    assert report["seams"]["model"]["state"] == "up"
    assert report["seams"]["sandbox"]["state"] == "off"
