"""`apply`: a function on the server that performs a commit's statements in one trip, all or none.

It is made of queries.sql: each statement is a branch of it, with its arguments in place of its
parameters, so that the server plans it once for a connection and not each time (a commit of eight
statements took .50 ms with plans made each time, and takes .36). Its name has the digest of what it
was made of: a server of another version has its own, and both are there for as long as both live.

Who is to hear of a commit that is durable hears of it sooner from the server that performs it than
from us. So another function performs a commit, ends it, and then notifies in a transaction of its
own, which waits for no disk: in the same one, all commits would wait for each other.

A commit has a number on its connection, and the server keeps the last one of each: a commit whose
connection broke is done again under its number, and nothing is done if it was applied. An attempt
that is still at work holds that row, so its end is waited for.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence

import asyncpg

from understudy.store.postgres_text import Part, part_of, text_of

# What no server commits with others: claims and the like go alone, and some are of migrations,
# copies, and vectors that the server compares, whose tables need not be there.
_APART = re.compile(
    r"\A(with|create|drop)\b"
    r"|\b(migrations|copying|information_schema|setval|pg_sequence_last_value)\b"
    r"|halve[sd]\b"
)

_FUNCTION = """
create or replace function {name}(
  _connection text, _number bigint, _statements integer[], _wanted integer[],
  _all_texts text[], _all_bytes bytea[]
) returns text[] language plpgsql as $apply$
#variable_conflict use_column
declare
  -- A variable is taken apart once; of an argument each element is counted off from the first.
  _texts text[] := _all_texts;
  _bytes bytea[] := _all_bytes;
  _results text[] := '{{}}';
  _rows text;
  _touched bigint;
  _statement integer;
  _t integer := 0;
  _b integer := 0;
begin
  insert into commits as last (connection, number, made_at)
  values (_connection, _number, extract(epoch from clock_timestamp()))
  on conflict (connection) do update set number = excluded.number, made_at = excluded.made_at
  where last.number < excluded.number;
  if not found then
    return null;
  end if;
  for _place in 1 .. cardinality(_statements) loop
    _rows := null;
    _statement := _statements[_place];
    case _statement / {group}
{groups}
    end case;
    if _touched <> _wanted[_place] then
      raise exception 'refused' using errcode = 'UD001', detail = _place::text;
    end if;
    _results := array_append(_results, _rows);
  end loop;
  return _results;
end
$apply$;

create or replace procedure {name}_and_ring(
  _connection text, _number bigint, _statements integer[], _wanted integer[],
  _texts text[], _bytes bytea[], _channel text, _message text, inout _results text[]
) language plpgsql as $ring$
begin
  _results := {name}(_connection, _number, _statements, _wanted, _texts, _bytes);
  commit;
  -- Into a full queue nothing goes, and the commit must not look as if it had failed.
  if pg_notification_queue_usage() < 0.5 then
    perform pg_notify(_channel, _message);
  end if;
end
$ring$
"""


class Apply:
    """The function for these statements: its own name, and the numbers that it calls them by."""

    def __init__(self, queries: Mapping[str, str]) -> None:
        self._queries = {
            name: sql for name, sql in sorted(queries.items()) if not _APART.search(sql)
        }
        self.numbers = {name: number for number, name in enumerate(self._queries)}
        made_of = "\n".join([_FUNCTION, *self._queries.values()])
        self.name = f"apply_{hashlib.sha256(made_of.encode()).hexdigest()[:16]}"

    @property
    def call(self) -> str:
        """The statement that performs it."""
        return f"select {self.name}($1, $2, $3, $4, $5, $6)"

    @property
    def call_and_ring(self) -> str:
        """The same, for a commit that rings."""
        return f"call {self.name}_and_ring($1, $2, $3, $4, $5, $6, $7, $8, null)"

    def was_at_work(self, error: asyncpg.PostgresError) -> bool:
        """Whether this struck before the end of the commit: the server tells what it was about."""
        return f"{self.name}(" in (error.context or "")

    async def is_there(self, connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
        """Whether the server has it."""
        found: bool = await connection.fetchval(_IS_THERE, self.name)
        return found

    async def make(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        """Make it. The server knows the types of parameters, and tells those of all statements at
        once."""
        texts = [text_of(sql) for sql in self._queries.values()]
        await connection.execute(
            ";".join(f"prepare part_{number} as {text.sql}" for number, text in enumerate(texts))
        )
        found = await connection.fetch(_TYPES)
        types: dict[str, list[str]] = {name: list(of) for name, of in found}
        await connection.execute(
            ";".join(f"deallocate part_{number}" for number in range(len(texts)))
        )
        branches = [
            _branch(number, part_of(sql, texts[number], types[f"part_{number}"]))
            for number, sql in enumerate(self._queries.values())
        ]
        await connection.execute(
            _FUNCTION.format(name=self.name, group=_GROUP, groups=_groups(branches))
        )


# The server tries one `when` after the other: among a hundred a statement is found in 7 us, in a
# group of a group in 1.
_GROUP = 10


def _groups(branches: Sequence[str]) -> str:
    """The branches, whose numbers are their places, as those of groups."""
    return "\n".join(
        "\n".join(
            [
                f"when {first // _GROUP} then case _statement",
                *branches[first : first + _GROUP],
                "end case;",
            ]
        )
        for first in range(0, len(branches), _GROUP)
    )


_TYPES = "select name, parameter_types::text[] from pg_prepared_statements"
_IS_THERE = """
select exists (
  select 1 from pg_proc where proname = $1 and pronamespace = current_schema()::regnamespace
)
"""


async def described(connection: "asyncpg.Connection[asyncpg.Record]", sql: str) -> Part:
    """A statement as a part of a commit, with the types of its parameters."""
    text = text_of(sql)
    prepared = await connection.prepare(text.sql)
    return part_of(sql, text, [parameter.name for parameter in prepared.get_parameters()])


def _branch(number: int, part: Part) -> str:
    """What the function does for a statement."""
    count = (
        f"with found as ({part.sql})\n"
        "select count(*), json_agg(found)::text into _touched, _rows from found;"
        if part.gives_rows
        else f"{part.sql};\nget diagnostics _touched = row_count;"
    )
    texts, pieces = part.counts
    return f"when {number} then\n{count}\n_t := _t + {texts};\n_b := _b + {pieces};"
