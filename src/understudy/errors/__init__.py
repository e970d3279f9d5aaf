"""ApiError, the only exception that a client ever sees, and the wording of every error.

Apps match on these texts, so each is exact. Sources are in the table of SPEC section 3.
"""

from collections.abc import Iterable, Mapping, Sequence

from understudy import limits

# Nouns as the 404 texts spell them.
_NOUNS = {
    "assistant": "assistant",
    "thread": "thread",
    "message": "message",
    "run": "run",
    "step": "run step",
    "vector_store": "vector store",
    "file_batch": "vector store file batch",
    "upload": "upload",
}


def quoted(values: Iterable[str]) -> str:
    """'a', 'b', and 'c': the way the original lists supported values."""
    items = [f"'{value}'" for value in values]
    if len(items) < 3:
        return " and ".join(items)
    return ", ".join(items[:-1]) + ", and " + items[-1]


class ApiError(Exception):
    """An answer that is not a 200, in the API's envelope."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        message = _clipped(message, limits.ERROR_MESSAGE_CHARS)
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.param = None if param is None else _clipped(param, limits.ERROR_PARAM_CHARS)
        self.code = code
        self.headers = dict(headers or {})

    def envelope(self) -> dict[str, dict[str, str | None]]:
        """The body: all four keys, always."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }

    # Not found.

    @classmethod
    def not_found(cls, kind: str, id: str) -> "ApiError":
        """An object that does not exist, or belongs to another project."""
        if kind == "file":
            return cls(404, f"No such File object: {id}", param="id")
        return cls(404, f"No {_NOUNS[kind]} found with id '{id}'.")

    @classmethod
    def model_not_found(cls, model: str) -> "ApiError":
        """A model that the upstream does not list."""
        return cls(
            404, f"The model '{model}' does not exist", param="model", code="model_not_found"
        )

    @classmethod
    def unknown_route(cls, method: str, path: str) -> "ApiError":
        """A path that is no operation's."""
        return cls(404, f"Invalid URL ({method} {path})")

    @classmethod
    def method_not_allowed(cls, method: str, path: str, allowed: Sequence[str]) -> "ApiError":
        """A known path with a wrong method."""
        hint = f"(HINT: Perhaps you meant to make a {' or '.join(allowed)} request?)"
        return cls(
            405,
            f"Not allowed to {method} on {path}. {hint}",
            code="method_not_supported",
            headers={"allow": ", ".join(allowed)},
        )

    # Keys and headers.

    @classmethod
    def no_key(cls) -> "ApiError":
        """No credential at all."""
        return cls(
            401,
            "You didn't provide an API key. You need to provide your API key in an Authorization "
            "header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY), or as the password "
            "field (with blank username) if you're accessing the API from your browser and are "
            "prompted for a username and password. You can obtain an API key from "
            "https://platform.openai.com/account/api-keys.",
        )

    @classmethod
    def bad_key(cls, key: str) -> "ApiError":
        """A credential that is no key of ours; the middle is masked."""
        masked = f"{key[:8]}***{key[-4:]}" if len(key) > 16 else f"{key[:3]}***"
        return cls(
            401,
            f"Incorrect API key provided: {masked}. You can find your API key at "
            "https://platform.openai.com/account/api-keys.",
            code="invalid_api_key",
        )

    @classmethod
    def no_beta_header(cls) -> "ApiError":
        """Strict mode: the beta header is missing."""
        return cls(
            400,
            "You must provide the 'OpenAI-Beta' header to access the Assistants API. Please try "
            "again by setting the header 'OpenAI-Beta: assistants=v2'.",
            code="invalid_beta",
        )

    @classmethod
    def beta_v1(cls) -> "ApiError":
        """Strict mode: the beta header asks for v1."""
        return cls(
            400,
            "The v1 Assistants API has been deprecated. Please try again by setting the header "
            "'OpenAI-Beta: assistants=v2'. See the migration guide for more information: "
            "https://platform.openai.com/docs/assistants/migration.",
            code="invalid_beta",
        )

    # The body, as a whole.

    @classmethod
    def bad_json(cls) -> "ApiError":
        """A body that is not a JSON object."""
        return cls(
            400,
            "We could not parse the JSON body of your request. (HINT: This likely means you aren't "
            "using your HTTP library correctly. The OpenAI API expects a JSON payload, but what "
            "was sent was not valid JSON. If you have trouble figuring out how to fix this, please "
            "contact us through our help center at help.openai.com.)",
        )

    @classmethod
    def invalid_body(cls) -> "ApiError":
        """A body that is wrong in a way that no other text names."""
        message = "Invalid request body: a value does not have the expected form."
        return cls(400, message, code="invalid_value")

    @classmethod
    def too_large(cls, limit: int, read: int) -> "ApiError":
        """A body over the limit."""
        return cls(413, f"Maximum content size limit ({limit}) exceeded ({read} bytes read)")

    @classmethod
    def body_stalled(cls, limit_s: float) -> "ApiError":
        """A body that stopped arriving. 408 would make SDKs send it again."""
        return cls(400, f"The request body stopped arriving for more than {limit_s:g} seconds.")

    # One parameter.

    @classmethod
    def missing(cls, param: str) -> "ApiError":
        """A required parameter is absent."""
        return cls.invalid(
            param, f"Missing required parameter: '{param}'.", "missing_required_parameter"
        )

    @classmethod
    def unknown_parameter(cls, param: str) -> "ApiError":
        """A key that the body does not have."""
        return cls.invalid(param, f"Unknown parameter: '{param}'.", "unknown_parameter")

    @classmethod
    def wrong_type(cls, param: str, expected: str, got: str) -> "ApiError":
        """A value of another type; `expected` and `got` carry their article."""
        message = f"Invalid type for '{param}': expected {expected}, but got {got} instead."
        return cls.invalid(param, message, "invalid_type")

    @classmethod
    def bad_value(cls, param: str, value: str, supported: Iterable[str]) -> "ApiError":
        """A value that is none of the supported ones."""
        return cls.invalid(
            param, f"Invalid value: '{value}'. Supported values are: {quoted(supported)}."
        )

    @classmethod
    def invalid(cls, param: str, message: str, code: str | None = "invalid_value") -> "ApiError":
        """A parameter that is wrong in a way of its own."""
        return cls(400, message, param=param, code=code)

    @classmethod
    def string_too_long(cls, param: str, limit: int, length: int) -> "ApiError":
        """A string over its maximum length, in code points."""
        return cls.invalid(
            param,
            f"Invalid '{param}': string too long. Expected a string with maximum length {limit}, "
            f"but got a string with length {length} instead.",
            code="string_above_max_length",
        )

    @classmethod
    def empty_string(cls, param: str) -> "ApiError":
        """A string that must not be empty."""
        return cls.invalid(
            param,
            f"Invalid '{param}': empty string. Expected a string with minimum length 1, "
            "but got an empty string instead.",
            code="empty_string",
        )

    @classmethod
    def bad_pattern(cls, param: str, pattern: str) -> "ApiError":
        """A string that does not match its pattern."""
        return cls.invalid(
            param,
            f"Invalid '{param}': string does not match pattern. Expected a string that matches "
            f"the pattern '{pattern}'.",
        )

    @classmethod
    def array_too_long(cls, param: str, limit: int, length: int) -> "ApiError":
        """An array over its maximum length."""
        return cls.invalid(
            param,
            f"Invalid '{param}': array too long. Expected an array with maximum length {limit}, "
            f"but got an array with length {length} instead.",
            code="array_above_max_length",
        )

    @classmethod
    def array_too_short(cls, param: str, limit: int, length: int) -> "ApiError":
        """An array under its minimum length."""
        got = "an empty array" if length == 0 else f"an array with length {length}"
        return cls.invalid(
            param,
            f"Invalid '{param}': array too short. Expected an array with minimum length {limit}, "
            f"but got {got} instead.",
            code="array_below_min_length",
        )

    @classmethod
    def too_many_properties(cls, param: str, limit: int, count: int) -> "ApiError":
        """An object with too many keys."""
        return cls.invalid(
            param,
            f"Invalid '{param}': too many properties. Expected an object with at most {limit} "
            f"properties, but got an object with {count} properties instead.",
            code="object_above_max_properties",
        )

    @classmethod
    def property_name_too_long(cls, param: str, name: str, limit: int) -> "ApiError":
        """A key of an object that is too long."""
        return cls.invalid(
            param,
            f"Invalid property name in '{param}': '{name}' is too long. Expected a string with "
            f"maximum length {limit}, but got a string with length {len(name)} instead.",
            code="property_name_above_max_length",
        )

    @classmethod
    def number_too_high(cls, param: str, limit: float, value: float, *, kind: str) -> "ApiError":
        """A number over its maximum; `kind` is integer or decimal."""
        return cls.invalid(
            param,
            f"Invalid '{param}': {kind} above maximum value. Expected a value <= {_number(limit)}, "
            f"but got {_number(value)} instead.",
            code=f"{kind}_above_max_value",
        )

    @classmethod
    def number_too_low(cls, param: str, limit: float, value: float, *, kind: str) -> "ApiError":
        """A number under its minimum; `kind` is integer or decimal."""
        return cls.invalid(
            param,
            f"Invalid '{param}': {kind} below minimum value. Expected a value >= {_number(limit)}, "
            f"but got {_number(value)} instead.",
            code=f"{kind}_below_min_value",
        )

    @classmethod
    def bad_id(cls, param: str, value: str, prefix: str) -> "ApiError":
        """An id that cannot be of this kind."""
        return cls.invalid(
            param, f"Invalid '{param}': '{value}'. Expected an ID that begins with '{prefix}'."
        )

    @classmethod
    def duplicate_tool(cls, param: str, tool: str) -> "ApiError":
        """A built-in tool or a function name that is given twice."""
        return cls.invalid(param, f"Invalid '{param}': duplicate tool '{tool}'.")

    @classmethod
    def unknown_forced_tool(cls, name: str) -> "ApiError":
        """tool_choice names a tool that the run does not have."""
        return cls.invalid(
            "tool_choice",
            f"Invalid value for 'tool_choice': no tool named '{name}' was specified in the "
            "'tools' parameter.",
        )

    @classmethod
    def schema_not_strict(cls, name: str) -> "ApiError":
        """A strict json_schema whose root does not forbid additional properties."""
        return cls(
            400,
            f"Invalid schema for response_format '{name}': In context=(), 'additionalProperties' "
            "is required to be supplied and to be false.",
            param="response_format",
        )

    # The state of a thread or run: always 400, never 409 (SDKs retry 409).

    @classmethod
    def thread_busy_message(cls, thread_id: str, run_id: str) -> "ApiError":
        """A message for a thread whose run is active."""
        return cls(400, f"Can't add messages to {thread_id} while a run {run_id} is active.")

    @classmethod
    def thread_busy_run(cls, thread_id: str, run_id: str) -> "ApiError":
        """A second run for a thread whose run is active."""
        return cls(400, f"Thread {thread_id} already has an active run {run_id}.")

    @classmethod
    def outputs_not_accepted(cls, status: str) -> "ApiError":
        """Tool outputs for a run that does not wait for them."""
        return cls(400, f'Runs in status "{status}" do not accept tool outputs.')

    @classmethod
    def outputs_incomplete(cls, expected: Sequence[str], got: Sequence[str]) -> "ApiError":
        """Tool outputs that are not exactly the pending calls (a Python list repr, seen so)."""
        return cls(400, f"Expected tool outputs for call_ids {list(expected)!r}, got {list(got)!r}")

    @classmethod
    def cannot_cancel(cls, status: str) -> "ApiError":
        """A cancel for a run that is over or already being cancelled."""
        return cls(400, f"Cannot cancel run with status '{status}'.")

    @classmethod
    def message_being_written(cls, message_id: str) -> "ApiError":
        """A delete of the message that a run is writing."""
        return cls(400, f"Can't delete message {message_id} while a run is writing it.")

    @classmethod
    def thread_full(cls, limit: int) -> "ApiError":
        """A thread at its maximum number of messages."""
        return cls(400, f"Threads can hold at most {limit} messages.")

    @classmethod
    def thread_deleted(cls) -> "ApiError":
        """What an open stream says when its thread is deleted."""
        return cls(404, "Thread was deleted.")

    @classmethod
    def idempotency_mismatch(cls) -> "ApiError":
        """One Idempotency-Key, two different bodies."""
        return cls(
            400,
            "Keys for idempotent requests can only be used with the same parameters they were "
            "first used with.",
            code="idempotency_error",
        )

    # Files that messages and tools name.

    @classmethod
    def unsupported_extension(cls, extension: str) -> "ApiError":
        """A file that file_search cannot read."""
        return cls.invalid(
            "file_ids",
            f"Files with extensions [{extension}] are not supported for retrieval. See "
            "https://platform.openai.com/docs/assistants/tools/file-search/supported-files",
            "unsupported_file",
        )

    @classmethod
    def too_many_images(cls, param: str, limit: int, count: int) -> "ApiError":
        """A message with more images than a model takes."""
        return cls.invalid(
            param,
            f"Invalid '{param}': too many images. Expected at most {limit} images, "
            f"but got {count} instead.",
            code="array_above_max_length",
        )

    @classmethod
    def bad_image_url(cls, param: str) -> "ApiError":
        """An image whose URL no provider should follow."""
        return cls.invalid(
            param,
            f"Invalid '{param}'. Expected a valid URL that begins with 'http://', 'https://' or "
            "'data:image/'.",
        )

    @classmethod
    def not_an_image(cls, extension: str) -> "ApiError":
        """An image part whose file is no image."""
        return cls(
            400,
            "Invalid message content: Expected file type to be a supported format: .jpeg, .jpg, "
            f".png, .gif, .webp but got {extension}.",
            code="invalid_image_format",
        )

    # Models.

    @classmethod
    def unsupported_model(cls, model: str) -> "ApiError":
        """A model outside the configured allow-list."""
        message = f"The requested model '{model}' cannot be used with the Assistants API."
        return cls.invalid("model", message, "unsupported_model")

    @classmethod
    def cannot_delete_model(cls, model: str) -> "ApiError":
        """Only the provider can delete its models."""
        return cls(
            403, f"The model '{model}' belongs to the upstream provider and cannot be deleted."
        )

    # Limits and faults.

    @classmethod
    def rate_limited(cls, message: str, retry_after_s: float, type: str) -> "ApiError":
        """Too many requests; `type` is requests or tokens."""
        return cls(
            429, message, type=type, code="rate_limit_exceeded", headers=retry(retry_after_s)
        )

    @classmethod
    def upstream(cls, status: int, message: str) -> "ApiError":
        """The provider failed a call that has no run to carry the error (embeddings, models)."""
        return cls(status, message, type="server_error")

    @classmethod
    def unavailable(cls, retry_after_s: float = 1.0) -> "ApiError":
        """The store cannot answer just now."""
        return cls(
            503,
            "The server is overloaded or not ready yet. Please try again.",
            type="server_error",
            headers=retry(retry_after_s),
        )

    @classmethod
    def loop_detected(cls) -> "ApiError":
        """The request already came through this server: the upstream is ourselves."""
        return cls(
            508,
            "This server was reached through itself. Set UNDERSTUDY_UPSTREAM_URL to a model "
            "provider, not to this server.",
            type="server_error",
        )

    @classmethod
    def internal(cls, request_id: str) -> "ApiError":
        """A bug of ours; the details are only in the log."""
        return cls(
            500,
            "The server had an error processing your request. Sorry about that! You can retry your "
            "request, or contact us through our help center at help.openai.com if you keep seeing "
            f"this error. (Please include the request ID {request_id} in your email.)",
            type="server_error",
        )


def retry(after_s: float) -> dict[str, str]:
    """The headers that tell a client when to come back."""
    return {
        "retry-after": str(max(1, round(after_s))),
        "retry-after-ms": str(round(after_s * 1000)),
    }


def _clipped(text: str, limit: int) -> str:
    """A long text without its middle: both ends say what is wrong."""
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]}…{text[-half:]}"


def _number(value: float) -> str:
    """A number as the client wrote it, without a trailing .0."""
    whole = isinstance(value, int) or (value.is_integer() and abs(value) < 1e15)
    return str(int(value)) if whole else repr(value)
