"""The wording of every error, as one table: apps match on these texts."""

from inspect import getmembers, isfunction, ismethod
from pathlib import Path
from textwrap import wrap
from types import ModuleType

import pytest
from inline_snapshot import snapshot

from understudy import limits
from understudy.errors import ApiError, files, quoted, retry, vector_stores

# One call of every constructor, in the order of errors.py.
ERRORS = [
    ApiError.not_found("assistant", "asst_1"),
    ApiError.not_found("thread", "thread_1"),
    ApiError.not_found("message", "msg_1"),
    ApiError.not_found("run", "run_1"),
    ApiError.not_found("step", "step_1"),
    ApiError.not_found("vector_store", "vs_1"),
    ApiError.not_found("file_batch", "vsfb_1"),
    ApiError.not_found("upload", "upload_1"),
    ApiError.not_found("file", "file-1"),
    ApiError.model_not_found("foo"),
    ApiError.unknown_route("POST", "/v1/foo"),
    ApiError.method_not_allowed("PUT", "/v1/assistants", ["GET", "POST"]),
    ApiError.no_key(),
    ApiError.bad_key("sk-abcdefghijklmnopqrstuvwxyz"),
    ApiError.bad_key("sk-short"),
    ApiError.no_beta_header(),
    ApiError.beta_v1(),
    ApiError.bad_json(),
    ApiError.invalid_body(),
    ApiError.too_large(100, 101),
    ApiError.body_stalled(30.0),
    ApiError.missing("assistant_id"),
    ApiError.unknown_parameter("thread.foo"),
    ApiError.wrong_type("tools", "an array of objects", "a string"),
    ApiError.bad_value("tools[0].type", "x", ["code_interpreter", "function", "file_search"]),
    ApiError.bad_value("order", "up", ["asc", "desc"]),
    ApiError.invalid("x", "Any text."),
    ApiError.string_too_long("content", 256_000, 1_620_133),
    ApiError.empty_string("content"),
    ApiError.bad_pattern("tools[0].function.name", "^[a-zA-Z0-9_-]+$"),
    ApiError.array_too_long("attachments", 10, 12),
    ApiError.array_too_short("content", 1, 0),
    ApiError.array_too_short("content", 2, 1),
    ApiError.too_many_properties("metadata", 16, 17),
    ApiError.property_name_too_long("metadata", "kkk", 2),
    ApiError.number_too_high("temperature", 2, 3, kind="decimal"),
    ApiError.number_too_high("temperature", 2, 2.5, kind="decimal"),
    ApiError.number_too_high("limit", 100, 101, kind="integer"),
    ApiError.number_too_high("max_prompt_tokens", 2**31 - 1, 2**31, kind="integer"),
    ApiError.number_too_low("max_prompt_tokens", 256, 255, kind="integer"),
    ApiError.number_too_low("top_p", 0, -0.1, kind="decimal"),
    ApiError.bad_id("assistant_id", "wf_69", "asst"),
    ApiError.duplicate_tool("tools", "file_search"),
    ApiError.unknown_forced_tool("get_weather"),
    ApiError.schema_not_strict("x"),
    ApiError.thread_busy_message("thread_1", "run_1"),
    ApiError.thread_busy_run("thread_1", "run_1"),
    ApiError.outputs_not_accepted("expired"),
    ApiError.outputs_incomplete(["call_A", "call_B"], ["call_A"]),
    ApiError.cannot_cancel("completed"),
    ApiError.message_being_written("msg_1"),
    ApiError.thread_full(100_000),
    ApiError.thread_deleted(),
    ApiError.idempotency_mismatch(),
    ApiError.unsupported_extension(".csv"),
    ApiError.too_many_images("content", 10, 11),
    ApiError.bad_image_url("content[0].image_url.url"),
    ApiError.not_an_image(".pdf"),
    ApiError.unsupported_model("gpt-5.1"),
    ApiError.cannot_delete_model("gpt-4o"),
    ApiError.rate_limited("Slow down.", 2.0, "requests"),
    ApiError.upstream(502, "The provider failed."),
    ApiError.unavailable(),
    ApiError.loop_detected(),
    ApiError.internal("req_1"),
]


WORDING = snapshot("""\
404 invalid_request_error, code None, param None
  No assistant found with id 'asst_1'.
404 invalid_request_error, code None, param None
  No thread found with id 'thread_1'.
404 invalid_request_error, code None, param None
  No message found with id 'msg_1'.
404 invalid_request_error, code None, param None
  No run found with id 'run_1'.
404 invalid_request_error, code None, param None
  No run step found with id 'step_1'.
404 invalid_request_error, code None, param None
  No vector store found with id 'vs_1'.
404 invalid_request_error, code None, param None
  No vector store file batch found with id 'vsfb_1'.
404 invalid_request_error, code None, param None
  No upload found with id 'upload_1'.
404 invalid_request_error, code None, param id
  No such File object: file-1
404 invalid_request_error, code model_not_found, param model
  The model 'foo' does not exist
404 invalid_request_error, code None, param None
  Invalid URL (POST /v1/foo)
405 invalid_request_error, code method_not_supported, param None
  Not allowed to PUT on /v1/assistants. (HINT: Perhaps you meant to make a GET or POST
  request?)
401 invalid_request_error, code None, param None
  You didn't provide an API key. You need to provide your API key in an Authorization header
  using Bearer auth (i.e. Authorization: Bearer YOUR_KEY), or as the password field (with
  blank username) if you're accessing the API from your browser and are prompted for a
  username and password. You can obtain an API key from
  https://platform.openai.com/account/api-keys.
401 invalid_request_error, code invalid_api_key, param None
  Incorrect API key provided: sk-abcde***wxyz. You can find your API key at
  https://platform.openai.com/account/api-keys.
401 invalid_request_error, code invalid_api_key, param None
  Incorrect API key provided: sk-***. You can find your API key at
  https://platform.openai.com/account/api-keys.
400 invalid_request_error, code invalid_beta, param None
  You must provide the 'OpenAI-Beta' header to access the Assistants API. Please try again
  by setting the header 'OpenAI-Beta: assistants=v2'.
400 invalid_request_error, code invalid_beta, param None
  The v1 Assistants API has been deprecated. Please try again by setting the header
  'OpenAI-Beta: assistants=v2'. See the migration guide for more information:
  https://platform.openai.com/docs/assistants/migration.
400 invalid_request_error, code None, param None
  We could not parse the JSON body of your request. (HINT: This likely means you aren't
  using your HTTP library correctly. The OpenAI API expects a JSON payload, but what was
  sent was not valid JSON. If you have trouble figuring out how to fix this, please contact
  us through our help center at help.openai.com.)
400 invalid_request_error, code invalid_value, param None
  Invalid request body: a value does not have the expected form.
413 invalid_request_error, code None, param None
  Maximum content size limit (100) exceeded (101 bytes read)
400 invalid_request_error, code None, param None
  The request body stopped arriving for more than 30 seconds.
400 invalid_request_error, code missing_required_parameter, param assistant_id
  Missing required parameter: 'assistant_id'.
400 invalid_request_error, code unknown_parameter, param thread.foo
  Unknown parameter: 'thread.foo'.
400 invalid_request_error, code invalid_type, param tools
  Invalid type for 'tools': expected an array of objects, but got a string instead.
400 invalid_request_error, code invalid_value, param tools[0].type
  Invalid value: 'x'. Supported values are: 'code_interpreter', 'function', and
  'file_search'.
400 invalid_request_error, code invalid_value, param order
  Invalid value: 'up'. Supported values are: 'asc' and 'desc'.
400 invalid_request_error, code invalid_value, param x
  Any text.
400 invalid_request_error, code string_above_max_length, param content
  Invalid 'content': string too long. Expected a string with maximum length 256000, but got
  a string with length 1620133 instead.
400 invalid_request_error, code empty_string, param content
  Invalid 'content': empty string. Expected a string with minimum length 1, but got an empty
  string instead.
400 invalid_request_error, code invalid_value, param tools[0].function.name
  Invalid 'tools[0].function.name': string does not match pattern. Expected a string that
  matches the pattern '^[a-zA-Z0-9_-]+$'.
400 invalid_request_error, code array_above_max_length, param attachments
  Invalid 'attachments': array too long. Expected an array with maximum length 10, but got
  an array with length 12 instead.
400 invalid_request_error, code array_below_min_length, param content
  Invalid 'content': array too short. Expected an array with minimum length 1, but got an
  empty array instead.
400 invalid_request_error, code array_below_min_length, param content
  Invalid 'content': array too short. Expected an array with minimum length 2, but got an
  array with length 1 instead.
400 invalid_request_error, code object_above_max_properties, param metadata
  Invalid 'metadata': too many properties. Expected an object with at most 16 properties,
  but got an object with 17 properties instead.
400 invalid_request_error, code property_name_above_max_length, param metadata
  Invalid property name in 'metadata': 'kkk' is too long. Expected a string with maximum
  length 2, but got a string with length 3 instead.
400 invalid_request_error, code decimal_above_max_value, param temperature
  Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 3
  instead.
400 invalid_request_error, code decimal_above_max_value, param temperature
  Invalid 'temperature': decimal above maximum value. Expected a value <= 2, but got 2.5
  instead.
400 invalid_request_error, code integer_above_max_value, param limit
  Invalid 'limit': integer above maximum value. Expected a value <= 100, but got 101
  instead.
400 invalid_request_error, code integer_above_max_value, param max_prompt_tokens
  Invalid 'max_prompt_tokens': integer above maximum value. Expected a value <= 2147483647,
  but got 2147483648 instead.
400 invalid_request_error, code integer_below_min_value, param max_prompt_tokens
  Invalid 'max_prompt_tokens': integer below minimum value. Expected a value >= 256, but got
  255 instead.
400 invalid_request_error, code decimal_below_min_value, param top_p
  Invalid 'top_p': decimal below minimum value. Expected a value >= 0, but got -0.1 instead.
400 invalid_request_error, code invalid_value, param assistant_id
  Invalid 'assistant_id': 'wf_69'. Expected an ID that begins with 'asst'.
400 invalid_request_error, code invalid_value, param tools
  Invalid 'tools': duplicate tool 'file_search'.
400 invalid_request_error, code invalid_value, param tool_choice
  Invalid value for 'tool_choice': no tool named 'get_weather' was specified in the 'tools'
  parameter.
400 invalid_request_error, code None, param response_format
  Invalid schema for response_format 'x': In context=(), 'additionalProperties' is required
  to be supplied and to be false.
400 invalid_request_error, code None, param None
  Can't add messages to thread_1 while a run run_1 is active.
400 invalid_request_error, code None, param None
  Thread thread_1 already has an active run run_1.
400 invalid_request_error, code None, param None
  Runs in status "expired" do not accept tool outputs.
400 invalid_request_error, code None, param None
  Expected tool outputs for call_ids ['call_A', 'call_B'], got ['call_A']
400 invalid_request_error, code None, param None
  Cannot cancel run with status 'completed'.
400 invalid_request_error, code None, param None
  Can't delete message msg_1 while a run is writing it.
400 invalid_request_error, code None, param None
  Threads can hold at most 100000 messages.
404 invalid_request_error, code None, param None
  Thread was deleted.
400 invalid_request_error, code idempotency_error, param None
  Keys for idempotent requests can only be used with the same parameters they were first
  used with.
400 invalid_request_error, code unsupported_file, param file_ids
  Files with extensions [.csv] are not supported for retrieval. See
  https://platform.openai.com/docs/assistants/tools/file-search/supported-files
400 invalid_request_error, code array_above_max_length, param content
  Invalid 'content': too many images. Expected at most 10 images, but got 11 instead.
400 invalid_request_error, code invalid_value, param content[0].image_url.url
  Invalid 'content[0].image_url.url'. Expected a valid URL that begins with 'http://',
  'https://' or 'data:image/'.
400 invalid_request_error, code invalid_image_format, param None
  Invalid message content: Expected file type to be a supported format: .jpeg, .jpg, .png,
  .gif, .webp but got .pdf.
400 invalid_request_error, code unsupported_model, param model
  The requested model 'gpt-5.1' cannot be used with the Assistants API.
403 invalid_request_error, code None, param None
  The model 'gpt-4o' belongs to the upstream provider and cannot be deleted.
429 requests, code rate_limit_exceeded, param None
  Slow down.
502 server_error, code None, param None
  The provider failed.
503 server_error, code None, param None
  The server is overloaded or not ready yet. Please try again.
508 server_error, code None, param None
  This server was reached through itself. Set UNDERSTUDY_UPSTREAM_URL to a model provider,
  not to this server.
500 server_error, code None, param None
  The server had an error processing your request. Sorry about that! You can retry your
  request, or contact us through our help center at help.openai.com if you keep seeing this
  error. (Please include the request ID req_1 in your email.)\
""")


# The same for errors/files.py.
FILE_ERRORS = [
    files.download_refused("assistants"),
    files.empty_file("file"),
    files.bad_range(10),
    files.storage_full(),
    files.content_lost("file-1"),
    files.no_form("application/json"),
    files.bad_form(),
    files.cut_form(),
    files.form_too_slow(30.0),
    files.form_too_large("parts", 64),
    files.second_file("file"),
    files.upload_not_pending("upload_1"),
    files.bad_mime_type("image/tiff", "vision", ["image/png", "image/gif"]),
    files.too_many_parts(10_000),
    files.unknown_part("upload_1", "part_1"),
    files.repeated_part("part_1"),
    files.wrong_total(10, 9),
    files.wrong_md5("00ff", "ff00"),
    files.not_for_images("batch"),
]
FILE_WORDING = snapshot("""\
400 invalid_request_error, code None, param None
  Not allowed to download files of purpose: assistants
400 invalid_request_error, code invalid_value, param file
  File is empty.
416 invalid_request_error, code None, param range
  The requested range is not part of the file.
507 server_error, code storage_full, param None
  The server has no space left for files.
500 server_error, code None, param None
  The content of file file-1 is missing.
400 invalid_request_error, code None, param None
  Invalid Content-Type header (application/json), expected multipart/form-data. (HINT: If
  you're using curl, you can pass -H 'Content-Type: multipart/form-data')
400 invalid_request_error, code None, param None
  We could not parse the multipart form of your request. (HINT: This likely means that the
  boundary in the Content-Type header is not the one in the body.)
400 invalid_request_error, code None, param None
  The multipart form of your request ends before its last boundary.
400 invalid_request_error, code None, param None
  The request body took longer than 30 seconds to arrive.
400 invalid_request_error, code None, param None
  The multipart form of your request has more than 64 parts.
400 invalid_request_error, code invalid_value, param file
  Invalid 'file': expected one file, but got several.
400 invalid_request_error, code None, param None
  Upload 'upload_1' is not pending.
400 invalid_request_error, code invalid_value, param mime_type
  Invalid 'mime_type' for purpose 'vision': 'image/tiff'. Supported values are: image/png,
  image/gif.
400 invalid_request_error, code None, param None
  Uploads can have at most 10000 parts.
400 invalid_request_error, code invalid_value, param part_ids
  No part 'part_1' found in upload 'upload_1'.
400 invalid_request_error, code invalid_value, param part_ids
  Invalid 'part_ids': part 'part_1' is given twice.
400 invalid_request_error, code invalid_value, param part_ids
  The parts have 9 bytes together, but the upload was created with 10 bytes.
400 invalid_request_error, code invalid_value, param md5
  Invalid 'md5': expected '00ff', but the uploaded bytes have 'ff00'.
400 invalid_request_error, code invalid_image_format, param None
  Invalid message content: Expected a file with purpose 'vision' or 'assistants' but got
  'batch'.\
""")


# The same for errors/vector_stores.py.
STORE_ERRORS = [
    vector_stores.no_store_file("file-1", "vs_1"),
    vector_stores.store_expired("vs_1"),
    vector_stores.store_full("vs_1", 10_000),
    vector_stores.both_files_and_ids(),
    vector_stores.filter_too_deep("filters", 16),
    vector_stores.filter_too_long("filters", 500, 501),
]
STORE_WORDING = snapshot("""\
404 invalid_request_error, code None, param None
  No file found with id 'file-1' in vector store 'vs_1'.
400 invalid_request_error, code None, param None
  Vector store 'vs_1' has expired.
400 invalid_request_error, code None, param None
  Vector store 'vs_1' can hold at most 10000 files.
400 invalid_request_error, code invalid_value, param files
  Invalid 'files': 'file_ids' and 'files' cannot be given together.
400 invalid_request_error, code invalid_value, param filters
  Invalid 'filters': nested too deeply. Expected at most 16 levels.
400 invalid_request_error, code invalid_value, param filters
  Invalid 'filters': too many comparisons. Expected at most 500, but got 501 instead.\
""")


def _entry(error: ApiError) -> str:
    """Status, type, code and param, then the message, wrapped."""
    head = f"{error.status} {error.type}, code {error.code}, param {error.param}"
    return "\n  ".join([head, *wrap(error.message, 90, break_on_hyphens=False)])


def test_every_error_has_its_exact_wording() -> None:
    assert "\n".join(map(_entry, ERRORS)) == WORDING


def test_every_constructor_is_in_the_table() -> None:
    constructors = {name for name, _ in getmembers(ApiError, ismethod)}
    source = Path(__file__).read_text()
    assert {name for name in constructors if f"ApiError.{name}(" not in source} == set()


def test_every_error_of_files_has_its_exact_wording() -> None:
    assert "\n".join(map(_entry, FILE_ERRORS)) == FILE_WORDING


@pytest.mark.parametrize("module", [files, vector_stores])
def test_every_error_of_a_module_is_in_its_table(module: ModuleType) -> None:
    ours = {
        name for name, made in getmembers(module, isfunction) if made.__module__ == module.__name__
    }
    prefix = module.__name__.rpartition(".")[2]
    source = Path(__file__).read_text()
    assert {name for name in ours if f"{prefix}.{name}(" not in source} == set()


def test_every_error_of_vector_stores_has_its_exact_wording() -> None:
    assert "\n".join(map(_entry, STORE_ERRORS)) == STORE_WORDING


def test_the_envelope_always_has_all_four_keys() -> None:
    assert ApiError.thread_deleted().envelope() == {
        "error": {
            "message": "Thread was deleted.",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }
    }


def test_an_error_that_may_be_tried_again_says_when() -> None:
    assert ApiError.unavailable(1.5).headers == {"retry-after": "2", "retry-after-ms": "1500"}
    assert ApiError.rate_limited("x", 0.1, "tokens").headers == retry(0.1)
    assert retry(0.1) == {"retry-after": "1", "retry-after-ms": "100"}


def test_a_wrong_method_names_the_right_ones() -> None:
    assert ApiError.method_not_allowed("PUT", "/", ["GET", "POST"]).headers == {
        "allow": "GET, POST"
    }


@pytest.mark.parametrize(
    ("values", "text"),
    [(["a"], "'a'"), (["a", "b"], "'a' and 'b'"), (["a", "b", "c"], "'a', 'b', and 'c'")],
)
def test_supported_values_are_listed_the_original_way(values: list[str], text: str) -> None:
    assert quoted(values) == text


def test_a_long_echo_is_cut_in_the_middle() -> None:
    error = ApiError.bad_value(f"metadata.{'k' * 10_000}", "v" * 1_000_000, ["a"])
    assert len(error.message) == limits.ERROR_MESSAGE_CHARS + 1
    assert error.message.startswith("Invalid value: 'vvv")
    assert error.message.endswith("vvv'. Supported values are: 'a'.")
    assert error.param is not None
    assert len(error.param) == limits.ERROR_PARAM_CHARS + 1


def test_an_integer_of_any_size_can_be_named() -> None:
    error = ApiError.number_too_high("limit", 100, 10**400, kind="integer")
    assert f"got 1{'0' * 400} instead" in error.message
