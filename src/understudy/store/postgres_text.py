"""Statements as PostgreSQL takes them: alone, or as part of a commit in one trip.

Alone, a statement's parameters are $1, $2 ... and the driver knows their types. In a commit, the
function `apply` (postgres_apply.py) performs statements of any shape, so all arguments are texts or
bytes, and each is cast to the type that the server has for it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from understudy.store import Row, Statement

_PARAMETER = re.compile(r"(?<!:):([a-z_]+)")
_GIVES_ROWS = re.compile(r"\A\s*select\b|\breturning\b")
_LEAST, _MOST = -(2**63), 2**63 - 1  # Of its integers.
_NUL_IS = "�"
# The server's types of our columns → what Python may give for them.
_FITS: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "json": (str,),
    "int4": (int,),
    "int8": (int,),
    "float8": (int, float),
    "bool": (bool,),
}


@dataclass(frozen=True)
class Text:
    """A statement with its parameters in the order of their first use."""

    sql: str
    names: tuple[str, ...]

    @property
    def is_reading(self) -> bool:
        """Whether it may be performed again at will."""
        return self.sql.lstrip().startswith("select")

    def values(self, args: Mapping[str, object]) -> list[object]:
        """The arguments in that order."""
        return [storable(args[name]) for name in self.names]


@dataclass(frozen=True)
class Part:
    """The same within a commit, as a branch of `apply` has it: `types` are those of its parameters,
    which stand behind the _t texts and _b bytes of the statements before."""

    text: Text
    sql: str
    types: tuple[str, ...]
    gives_rows: bool

    @property
    def counts(self) -> tuple[int, int]:
        """How many of its arguments are texts, and how many are bytes."""
        pieces = self.types.count("bytea")
        return len(self.types) - pieces, pieces


def text_of(sql: str) -> Text:
    """A statement with :named parameters, as the driver wants it."""
    names: list[str] = []

    def number(found: re.Match[str]) -> str:
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    return Text(_PARAMETER.sub(number, sql), tuple(names))


def part_of(sql: str, text: Text, types: Sequence[str]) -> Part:
    """The same statement within a commit, given the types of its parameters."""
    forms: dict[str, str] = {}
    counts = {True: 0, False: 0}
    for name, type in zip(text.names, types, strict=True):
        is_bytes = type == "bytea"
        counts[is_bytes] += 1
        place = f"_bytes[_b + {counts[True]}]" if is_bytes else f"_texts[_t + {counts[False]}]"
        forms[name] = place if type in ("bytea", "text") else f"cast({place} as {type})"
    body = _PARAMETER.sub(lambda found: forms[found[1]], sql)
    return Part(text, body, tuple(types), _GIVES_ROWS.search(sql) is not None)


@dataclass(frozen=True)
class Batch:
    """The arguments of `apply`, without which commit it is: the numbers of the statements, how many
    rows each must touch, and the arguments of all."""

    statements: list[int]
    wanted: list[int | None]
    texts: list[str | None]
    bytes: list[bytes | None]

    def args(self) -> tuple[object, ...]:
        """In the function's order."""
        return self.statements, self.wanted, self.texts, self.bytes


def batch_of(parts: Sequence[tuple[Part, Statement]], numbers: Mapping[str, int]) -> Batch:
    """A commit's statements with their arguments. A TypeError is the caller's bug."""
    batch = Batch([], [], [], [])
    for part, statement in parts:
        values = part.text.values(args_of(statement))
        for value, type in zip(values, part.types, strict=True):
            if type == "bytea":
                batch.bytes.append(_as_bytes(value))
            else:
                batch.texts.append(_as_text(value, type))
        batch.statements.append(numbers[statement.query])
        batch.wanted.append(statement.rows)
    return batch


def rows_of(found: str | None) -> list[Row]:
    """The rows that `apply` found, from their JSON."""
    if found is None:
        return []
    return [tuple(row.values()) for row in msgspec.json.decode(found, type=list[dict[str, Any]])]


def args_of(statement: Statement) -> Mapping[str, object]:
    """Its arguments; of one that is run many times, all of them in two (queries.sql)."""
    if statement.many is None:
        return statement.args
    pieces: list[bytes] = []
    place = 1

    def told(value: object) -> object:
        nonlocal place
        if not isinstance(value, bytes):
            return storable(value)
        pieces.append(value)
        place += len(value)
        return place - len(value), len(value)

    rows = [[told(value) for value in row] for row in statement.many]
    return {"rows": msgspec.json.encode(rows).decode(), "bytes": b"".join(pieces)}


def storable(value: object) -> object:
    """A text without NUL, which PostgreSQL's cannot hold; anything else as it is."""
    return value.replace("\0", _NUL_IS) if isinstance(value, str) and "\0" in value else value


def _as_text(value: object, type: str) -> str | None:
    """A value of any type but bytes, which the server casts to its own."""
    if value is None:
        return None
    if not isinstance(value, _FITS[type]):
        raise _unfit(value, type)
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case float():
            return float.__repr__(value)  # Subclasses say more.
        case int() if not _LEAST <= value <= _MOST:
            raise _unfit(value, type)  # The server would only find out where it needs the value.
    return str(value)


def _as_bytes(value: object) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    raise _unfit(value, "bytea")


def _unfit(value: object, wanted: str) -> TypeError:
    return TypeError(f"a statement takes no {type(value).__name__} for {wanted}")
