"""@operation: one decorated function is one API call, and OPERATIONS is the table of them all.

The signature says everything. After `call` come, in any order: the names in the path (`str`),
the body (a Body struct; with a default or `| None` it may be absent), `page: ListQuery`,
`include: list[str]`, and further query parameters (`str | None`). A FormBody is sent as a form,
and its file is `call.file`. The return annotation is the answer; `Run | Stream` may also answer
with server-sent events, `Content` is bytes. The docstring's first sentence is
the summary in the OpenAPI description, the rest its description.

Routes, /openapi.json, docs/reference and docs/coverage.md are all made from the table.
"""

import re
import types
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import Parameter, getdoc, signature
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from understudy.api.idempotency import Idempotency
from understudy.api.stream import Stream
from understudy.engine.app import App
from understudy.errors import ApiError
from understudy.machine.private import BlobRef
from understudy.store import Ring, Row, Statement, Told, changes
from understudy.wire import query as wire_query
from understudy.wire.base import Body, FormBody, Wire
from understudy.wire.decode import decode
from understudy.wire.query import FileListQuery, ListQuery
from understudy.wire.rules import check_body, check_id

P = ParamSpec("P")
R = TypeVar("R")

# Path argument → (kind, prefix) that an id must begin with (SPEC 3: the prefix only).
ID_PREFIXES = {
    "assistant_id": "asst",
    "thread_id": "thread",
    "message_id": "msg",
    "run_id": "run",
    "step_id": "step",
    "upload_id": "upload",
    "vector_store_id": "vs",
    "batch_id": "vsfb",
    "file_id": "file",
}


@dataclass(slots=True, kw_only=True)
class Call:
    """One request, on its way through its operation."""

    app: App
    project: str
    key_id: str
    request_id: str
    method: str
    path: str
    headers: Mapping[str, str]
    query: Sequence[tuple[str, str]]
    body: bytes = b""
    file: BlobRef | None = None  # The file of a form; the operation's commit has to keep it.
    deployment: str | None = None
    idempotency: Idempotency | None = None
    # Set when an Idempotency-Key was seen before and the client wants the run's stream again:
    # where that began, as `<run id>.<fence>`.
    replayed_stream: str | None = None
    wakes_ingest: bool = False  # Its commit has files to index, so the workers are to be told.
    response_headers: dict[str, str] = field(default_factory=dict)

    async def commit(
        self,
        *statements: Statement | tuple[Statement, ...],
        answer: Wire | None = None,
        stream: str | None = None,
    ) -> list[list[Row]]:
        """Commit a change, and with it the answer under the request's idempotency key."""
        return await self.begin_commit(*statements, answer=answer, stream=stream)

    def begin_commit(
        self,
        *statements: Statement | tuple[Statement, ...],
        answer: Wire | None = None,
        stream: str | None = None,
        told: Told | None = None,
        ring: Ring | None = None,
    ) -> Awaitable[list[list[Row]]]:
        """The same, as Store.begin_commit."""
        more = () if answer is None else self.remembered(answer, stream)
        return self.app.store.begin_commit(*statements, more, told=told, ring=ring)

    def remembered(self, answer: Wire, stream: str | None = None) -> tuple[Statement, ...]:
        """What keeps the answer under the request's idempotency key, if it has one. `stream` is
        where the run's stream begins, as in `replayed_stream`."""
        if self.idempotency is None:
            return ()
        statement = changes.remember_answer(
            self.project,
            key=self.idempotency.key,
            hash=self.idempotency.hash,
            created_at=self.app.world.now(),
            answer=msgspec.json.encode(answer),
            run_id=stream,
        )
        return (statement,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One API call, as its function's signature describes it."""

    method: str
    path: str
    tag: str
    beta: bool
    name: str
    summary: str
    description: str
    path_names: tuple[str, ...]
    body_name: str | None
    body: type[Body] | None
    body_may_be_empty: bool
    page_name: str | None
    page: type[ListQuery] | type[FileListQuery]
    include_name: str | None
    query_names: tuple[str, ...]
    response: Any  # A type expression, such as ListOf[Message].
    streams: bool
    function: Callable[..., Awaitable[Any]]

    @property
    def form(self) -> type[FormBody] | None:
        """The body, if it is a form."""
        return self.body if self.body is not None and issubclass(self.body, FormBody) else None

    def check_path(self, path_values: Sequence[str]) -> None:
        """Raise what is wrong with the ids in the path."""
        bad_id = _bad_path_id(dict(zip(self.path_names, path_values, strict=True)))
        if bad_id is not None:
            raise bad_id

    def bind(self, call: Call, path_values: Sequence[str]) -> dict[str, Any]:
        """The function's arguments, or the first thing that is wrong (the order of SPEC 3)."""
        arguments: dict[str, Any] = dict(zip(self.path_names, path_values, strict=True))
        bad_id = _bad_path_id(arguments)
        if self.body is not None and self.body_name is not None:
            try:
                body = decode(call.body, self.body, may_be_empty=True)
                check_body(body)
                arguments[self.body_name] = body
            except ApiError as error:
                # Only a body that is not JSON at all comes before a bad id in the path.
                raise (error if bad_id is None or _is_bad_json(error) else bad_id) from None
        if bad_id is not None:
            raise bad_id
        if self.page_name is not None:
            is_files = self.page is FileListQuery
            read = wire_query.file_list_query if is_files else wire_query.list_query
            arguments[self.page_name] = read(call.query)
        if self.include_name is not None:
            arguments[self.include_name] = wire_query.include(call.query)
        for name in self.query_names:
            arguments[name] = next((value for key, value in call.query if key == name), None)
        return arguments


OPERATIONS: list[Operation] = []


def operation(
    method: str, path: str, *, tag: str, beta: bool = False
) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Awaitable[R]]]:
    """Register a function as an API call. `beta` ones need the beta header in strict mode."""

    def register(function: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        OPERATIONS.append(_describe(function, method, path, tag, beta))
        return function

    return register


def _describe(
    function: Callable[..., Awaitable[Any]], method: str, path: str, tag: str, beta: bool
) -> Operation:
    """Read a function's signature."""
    name = function.__name__
    hints = get_type_hints(function)
    summary, _, description = (getdoc(function) or "").partition("\n")
    assert summary, f"{name} has no docstring"
    path_names = tuple(re.findall(r"{(\w+)}", path))
    body_name, body, body_may_be_empty = None, None, False
    page_name, include_name, query_names = None, None, []
    page: type[ListQuery] | type[FileListQuery] = ListQuery
    for parameter in list(signature(function).parameters.values())[1:]:
        hint = hints[parameter.name]
        struct = _body_type(hint)
        if parameter.name in path_names:
            assert hint is str, f"{name}: {parameter.name} is in the path, so it is a str"
        elif struct is not None:
            body_name, body = parameter.name, struct
            body_may_be_empty = hint is not struct or parameter.default is not Parameter.empty
        elif hint in (ListQuery, FileListQuery):
            page_name, page = parameter.name, hint
        elif parameter.name == "include":
            include_name = parameter.name
        else:
            assert hint == str | None, f"{name}: what is {parameter.name}?"
            query_names.append(parameter.name)
    answers = _members(hints["return"])
    return Operation(
        method=method,
        path=path,
        tag=tag,
        beta=beta,
        name=name,
        summary=summary.strip(),
        description=description.strip(),
        path_names=path_names,
        body_name=body_name,
        body=body,
        body_may_be_empty=body_may_be_empty,
        page_name=page_name,
        page=page,
        include_name=include_name,
        query_names=tuple(query_names),
        response=next(answer for answer in answers if answer is not Stream),
        streams=Stream in answers,
        function=function,
    )


def _members(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the type alone."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _body_type(hint: Any) -> type[Body] | None:
    """The body struct in an annotation, if it is one."""
    for member in _members(hint):
        if isinstance(member, type) and issubclass(member, Body):
            return member
    return None


def _bad_path_id(arguments: Mapping[str, str]) -> ApiError | None:
    """The first path id that cannot be an id of its kind."""
    for name, value in arguments.items():
        prefix = ID_PREFIXES.get(name)
        if prefix is None:
            continue
        try:
            check_id(name, value, prefix)
        except ApiError as error:
            return error
    return None


def _is_bad_json(error: ApiError) -> bool:
    return error.param is None and error.code is None
