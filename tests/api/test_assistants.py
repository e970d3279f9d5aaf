"""Assistants (SPEC 7.1, assertions 29-62)."""

import httpx2
import openai
import pytest

from tests.api.serving import Running
from tests.api.shelf import Shelf
from tests.api.truth import error_of

MODEL = {"model": "gpt-4o"}


def create(http: httpx2.Client, **fields: object) -> httpx2.Response:
    """Create an assistant with a model and these fields."""
    return http.post("/assistants", json={**MODEL, **fields})


def function(name: str, **fields: object) -> dict[str, object]:
    """A function tool."""
    return {"type": "function", "function": {"name": name, **fields}}


@pytest.mark.assertion(29)
def test_a_model_is_enough_and_the_rest_has_defaults(http: httpx2.Client) -> None:
    made = create(http).json()
    assert made == {
        "id": made["id"],
        "object": "assistant",
        "created_at": made["created_at"],
        "name": None,
        "description": None,
        "model": "gpt-4o",
        "instructions": None,
        "tools": [],
        "tool_resources": {},
        "metadata": {},
        "temperature": 1.0,
        "top_p": 1.0,
        "response_format": "auto",
        "reasoning_effort": None,
    }


@pytest.mark.assertion(30)
def test_ids_and_times_look_like_the_originals(http: httpx2.Client) -> None:
    made = create(http).json()
    prefix, _, tail = made["id"].partition("_")
    assert prefix == "asst"
    assert len(tail) == 24
    assert tail.isalnum()
    assert made["object"] == "assistant"
    assert isinstance(made["created_at"], int)


@pytest.mark.assertion(31)
def test_the_model_is_required(http: httpx2.Client) -> None:
    error = error_of(http.post("/assistants", json={"name": "x"}))
    assert error["message"] == "Missing required parameter: 'model'."
    assert error["code"] == "missing_required_parameter"
    assert error["param"] == "model"


@pytest.mark.assertion(32)
def test_an_unknown_field_is_named(http: httpx2.Client) -> None:
    error = error_of(create(http, foo=1))
    assert error["message"] == "Unknown parameter: 'foo'."
    assert error["code"] == "unknown_parameter"


@pytest.mark.assertion(33, 34, 35)
@pytest.mark.parametrize(
    ("field", "limit"), [("name", 256), ("description", 512), ("instructions", 256_000)]
)
def test_texts_have_a_maximum_length(http: httpx2.Client, field: str, limit: int) -> None:
    assert create(http, **{field: "x" * limit}).status_code == 200
    error = error_of(create(http, **{field: "x" * (limit + 1)}))
    assert error["code"] == "string_above_max_length"
    assert error["param"] == field


@pytest.mark.assertion(36)
def test_128_tools_and_no_more(http: httpx2.Client) -> None:
    tools = [function(f"f{number}") for number in range(129)]
    assert create(http, tools=tools[:128]).status_code == 200
    error = error_of(create(http, tools=tools))
    assert error["code"] == "array_above_max_length"
    assert error["param"] == "tools"


@pytest.mark.assertion(37)
def test_an_unknown_tool_type_is_told_the_known_ones(http: httpx2.Client) -> None:
    error = error_of(create(http, tools=[{"type": "retrieval"}]))
    assert error["code"] == "invalid_value"
    message = error["message"] or ""
    assert all(name in message for name in ("code_interpreter", "function", "file_search"))


@pytest.mark.assertion(38)
@pytest.mark.parametrize("name", ["two words", "x" * 65, "tail\n"])
def test_a_bad_function_name_is_refused(http: httpx2.Client, name: str) -> None:
    error = error_of(create(http, tools=[function(name)]))
    assert error["param"] == "tools[0].function.name"


@pytest.mark.assertion(39)
def test_a_function_needs_no_parameters(http: httpx2.Client) -> None:
    made = create(http, tools=[function("now", description="The time")]).json()
    assert made["tools"] == [
        {
            "type": "function",
            "function": {"name": "now", "description": "The time", "strict": False},
        }
    ]


@pytest.mark.assertion(40)
def test_max_num_results_is_between_1_and_50(http: httpx2.Client) -> None:
    def with_results(number: int) -> httpx2.Response:
        search = {"type": "file_search", "file_search": {"max_num_results": number}}
        return create(http, tools=[search])

    assert with_results(50).status_code == 200
    error_of(with_results(0))
    error_of(with_results(51))


@pytest.mark.assertion(41)
def test_ranking_options_need_a_threshold(http: httpx2.Client) -> None:
    search = {"type": "file_search", "file_search": {"ranking_options": {"ranker": "auto"}}}
    error = error_of(create(http, tools=[search]))
    assert error["code"] == "missing_required_parameter"
    assert error["param"] == "tools[0].file_search.ranking_options.score_threshold"


@pytest.mark.assertion(42)
def test_temperature_is_a_number_up_to_2(http: httpx2.Client) -> None:
    assert create(http, temperature=2).json()["temperature"] == 2
    assert error_of(create(http, temperature=2.1))["code"] == "decimal_above_max_value"
    assert error_of(create(http, temperature="1"))["code"] == "invalid_type"


@pytest.mark.assertion(43)
def test_top_p_is_between_0_and_1(http: httpx2.Client) -> None:
    assert create(http, top_p=0).json()["top_p"] == 0
    assert create(http, top_p=1).json()["top_p"] == 1
    assert error_of(create(http, top_p=-0.1))["code"] == "decimal_below_min_value"


@pytest.mark.assertion(44)
def test_the_old_response_format_none_means_auto(http: httpx2.Client) -> None:
    assert create(http, response_format="none").json()["response_format"] == "auto"
    error_of(create(http, response_format="json"))


@pytest.mark.assertion(45)
def test_a_json_schema_comes_back_intact(http: httpx2.Client) -> None:
    schema = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    wanted = {
        "type": "json_schema",
        "json_schema": {"name": "x", "schema": schema, "strict": True},
    }
    assert create(http, response_format=wanted).json()["response_format"] == wanted


@pytest.mark.assertion(46)
def test_metadata_holds_16_pairs(http: httpx2.Client) -> None:
    pairs = {f"k{number}": "v" for number in range(17)}
    error = error_of(create(http, metadata=pairs))
    assert error["code"] == "object_above_max_properties"
    assert error["param"] == "metadata"
    del pairs["k0"]
    assert create(http, metadata=pairs).json()["metadata"] == pairs


@pytest.mark.assertion(47)
def test_metadata_keys_and_values_are_limited(http: httpx2.Client) -> None:
    assert error_of(create(http, metadata={"k" * 65: "v"}))["param"] == "metadata"
    assert error_of(create(http, metadata={"k": "v" * 513}))["param"] == "metadata.k"
    assert error_of(create(http, metadata={"k": 1}))["code"] == "invalid_type"


@pytest.mark.assertion(48)
def test_code_interpreter_takes_20_files(http: httpx2.Client) -> None:
    resources = {"code_interpreter": {"file_ids": [f"file-{number}" for number in range(21)]}}
    error = error_of(create(http, tool_resources=resources))
    assert error["code"] == "array_above_max_length"
    assert error["param"] == "tool_resources.code_interpreter.file_ids"


@pytest.mark.assertion(49)
def test_there_is_one_vector_store(http: httpx2.Client) -> None:
    resources = {"file_search": {"vector_store_ids": ["vs_1", "vs_2"]}}
    error = error_of(create(http, tool_resources=resources))
    assert error["code"] == "array_above_max_length"


def test_what_resources_name_must_exist(http: httpx2.Client, server: Running, project: str) -> None:
    code = {"code_interpreter": {"file_ids": ["file-nope"]}}
    error = error_of(create(http, tool_resources=code), 404)
    assert error["message"] == "No such File object: file-nope"
    search = {"file_search": {"vector_store_ids": ["vs_nope"]}}
    error = error_of(create(http, tool_resources=search), 404)
    assert error["message"] == "No vector store found with id 'vs_nope'."
    file_id = server.seed_file(project)
    code = {"code_interpreter": {"file_ids": [file_id]}}
    assert create(http, tool_resources=code).json()["tool_resources"] == code


@pytest.mark.assertion(50, 67)
def test_the_vector_stores_helper_makes_a_store_that_never_expires(shelf: Shelf) -> None:
    file_id = shelf.file()
    sizes = {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0}
    chunking = {"type": "static", "static": sizes}
    helper = {"file_ids": [file_id], "chunking_strategy": chunking, "metadata": {"k": "v"}}
    body = {**MODEL, "tool_resources": {"file_search": {"vector_stores": [helper]}}}
    made = shelf.ok("/assistants", body)
    [store_id] = made["tool_resources"]["file_search"]["vector_store_ids"]
    assert made["tool_resources"] == {"file_search": {"vector_store_ids": [store_id]}}
    store = shelf.settled(store_id)
    assert (store["name"], store["metadata"]) == (None, {"k": "v"})
    assert (store["expires_after"], store["file_counts"]["completed"]) == (None, 1)
    file = shelf.got(f"/vector_stores/{store_id}/files/{file_id}")
    assert file["chunking_strategy"] == chunking


def test_a_helper_with_an_unknown_file_makes_nothing(shelf: Shelf) -> None:
    def with_store(**helper: object) -> httpx2.Response:
        resources = {"file_search": {"vector_stores": [helper]}}
        return create(shelf.http, tool_resources=resources)

    error = error_of(with_store(file_ids=["file-nope"]), 404)
    assert error["message"] == "No such File object: file-nope"
    error = error_of(with_store(chunking_strategy={"type": "static", "static": {}}))
    assert error["code"] == "missing_required_parameter"
    assert shelf.got("/assistants")["data"] == shelf.got("/vector_stores")["data"] == []


@pytest.mark.assertion(51)
def test_the_request_of_the_first_seed_gets_an_answer(shelf: Shelf) -> None:
    search = {
        "vector_store_ids": ["vs_123"],
        "vector_stores": [
            {"file_ids": ["file-1"], "chunking_strategy": {"type": "auto"}, "metadata": {}}
        ],
    }
    body = {
        "model": "gpt-4o",
        "name": "Math Tutor",
        "instructions": "You are a personal math tutor.",
        "tools": [{"type": "code_interpreter"}],
        "tool_resources": {"code_interpreter": {"file_ids": []}, "file_search": search},
        "metadata": {},
        "temperature": 1,
        "top_p": 1,
        "response_format": "none",
    }
    error = error_of(shelf.http.post("/assistants", json=body))
    assert error["code"] == "array_above_max_length"
    search["vector_store_ids"] = []
    search["vector_stores"] = [{"file_ids": [shelf.file()], "chunking_strategy": {"type": "auto"}}]
    made = shelf.ok("/assistants", body)
    assert made["response_format"] == "auto"
    assert len(made["tool_resources"]["file_search"]["vector_store_ids"]) == 1


def test_a_store_that_was_deleted_does_not_stop_a_modify_call(shelf: Shelf) -> None:
    store_id = shelf.store()
    resources = {"file_search": {"vector_store_ids": [store_id]}}
    made = create(shelf.http, tool_resources=resources).json()
    assert shelf.http.delete(f"/vector_stores/{store_id}").status_code == 200
    path = f"/assistants/{made['id']}"
    shelf.ok(path, {"name": "x"})
    shelf.ok(path, {"tool_resources": {"code_interpreter": {"file_ids": [shelf.file()]}}})
    error = error_of(shelf.http.post(path, json={"tool_resources": resources}), 404)
    assert error["message"] == f"No vector store found with id '{store_id}'."


def test_enabled_tools_have_an_entry_in_the_resources(http: httpx2.Client) -> None:
    tools = [{"type": "file_search"}, {"type": "code_interpreter"}]
    made = create(http, tools=tools).json()
    assert made["tool_resources"] == {
        "code_interpreter": {"file_ids": []},
        "file_search": {"vector_store_ids": []},
    }
    cleared = http.post(f"/assistants/{made['id']}", json={"tools": []}).json()
    assert cleared["tool_resources"] == {}


def test_a_tool_that_is_given_twice_is_refused(http: httpx2.Client) -> None:
    error = error_of(create(http, tools=[{"type": "file_search"}, {"type": "file_search"}]))
    assert error["message"] == "Invalid 'tools': duplicate tool 'file_search'."


@pytest.mark.assertion(52)
def test_an_unknown_assistant_is_a_404(http: httpx2.Client) -> None:
    error = error_of(http.get("/assistants/asst_nobody"), 404)
    assert error["message"] == "No assistant found with id 'asst_nobody'."


@pytest.mark.assertion(53)
def test_an_id_of_another_kind_is_a_400(http: httpx2.Client) -> None:
    error = error_of(http.get("/assistants/foo"))
    assert error["message"] == (
        "Invalid 'assistant_id': 'foo'. Expected an ID that begins with 'asst'."
    )
    assert error["code"] == "invalid_value"
    assert error["param"] == "assistant_id"


@pytest.mark.assertion(54)
def test_modify_leaves_the_rest(sdk: openai.OpenAI) -> None:
    made = sdk.beta.assistants.create(
        model="gpt-4o", name="a", instructions="b", metadata={"k": "v"}, temperature=0.5
    )
    changed = sdk.beta.assistants.update(made.id, name="c")
    assert changed.model_dump() == {**made.model_dump(), "name": "c"}
    assert sdk.beta.assistants.retrieve(made.id) == changed


@pytest.mark.assertion(55)
def test_null_and_empty_values_clear(http: httpx2.Client) -> None:
    made = create(
        http,
        name="a",
        tools=[function("f")],
        metadata={"k": "v"},
        temperature=0.1,
        response_format={"type": "text"},
    ).json()
    body: dict[str, object] = {
        "name": None,
        "tools": [],
        "metadata": {},
        "temperature": None,
        "response_format": None,
    }
    changed = http.post(f"/assistants/{made['id']}", json=body).json()
    assert {name: changed[name] for name in body} == {
        "name": None,
        "tools": [],
        "metadata": {},
        "temperature": 1.0,
        "response_format": "auto",
    }


def test_the_model_cannot_be_cleared(http: httpx2.Client) -> None:
    made = create(http).json()
    assert error_of(http.post(f"/assistants/{made['id']}", json={"model": None}))["param"] == (
        "model"
    )


@pytest.mark.assertion(56)
def test_metadata_is_replaced_not_merged(http: httpx2.Client) -> None:
    made = create(http, metadata={"a": "1", "b": "2"}).json()
    changed = http.post(f"/assistants/{made['id']}", json={"metadata": {"c": "3"}}).json()
    assert changed["metadata"] == {"c": "3"}


@pytest.mark.assertion(57, 58)
def test_resources_are_replaced_tool_by_tool(
    http: httpx2.Client, server: Running, project: str
) -> None:
    file_id = server.seed_file(project)
    server.seed("vector_store", {"id": "vs_seeded"}, project=project)
    code = {"code_interpreter": {"file_ids": [file_id]}}
    made = create(http, tool_resources=code, tools=[{"type": "file_search"}]).json()

    def with_store(*ids: str) -> dict[str, object]:
        resources = {"file_search": {"vector_store_ids": ids}}
        answer = http.post(f"/assistants/{made['id']}", json={"tool_resources": resources})
        found: dict[str, object] = answer.json()["tool_resources"]
        return found

    assert with_store("vs_seeded") == {**code, "file_search": {"vector_store_ids": ["vs_seeded"]}}
    assert with_store() == {**code, "file_search": {"vector_store_ids": []}}


@pytest.mark.assertion(59)
def test_delete_answers_once(sdk: openai.OpenAI, http: httpx2.Client) -> None:
    made = sdk.beta.assistants.create(model="gpt-4o")
    gone = sdk.beta.assistants.delete(made.id)
    assert gone.model_dump() == {"id": made.id, "object": "assistant.deleted", "deleted": True}
    error_of(http.delete(f"/assistants/{made.id}"), 404)


@pytest.mark.assertion(60)
def test_a_list_has_20_newest_first(http: httpx2.Client) -> None:
    made = [create(http, name=str(number)).json()["id"] for number in range(21)]
    page = http.get("/assistants").json()
    assert [item["id"] for item in page["data"]] == made[:0:-1]
    assert page["has_more"] is True
    assert page["first_id"] == made[20]
    assert page["last_id"] == made[1]


@pytest.mark.assertion(61)
def test_reasoning_effort_is_a_known_word(http: httpx2.Client) -> None:
    assert create(http, reasoning_effort="xhigh").json()["reasoning_effort"] == "xhigh"
    assert error_of(create(http, reasoning_effort="ultra"))["code"] == "invalid_value"


@pytest.mark.assertion(62)
def test_length_is_counted_in_code_points(http: httpx2.Client) -> None:
    name = "ä😀漢" * 85 + "x"
    assert len(name) == 256
    assert create(http, name=name).json()["name"] == name
    error = error_of(create(http, name=name + "é"))
    assert "length 257" in (error["message"] or "")
