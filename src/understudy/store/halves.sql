-- What a PostgreSQL with pgvector holds beside the record: vectors once more, at half precision, for
-- the stores that are too large for a server's memory. What is in capitals stands for the schema that
-- pgvector is in.
--
-- All of it is made of `parts` and may be missing at any time; then searches read those. So no copy
-- takes it along, and what belongs to a part or a document goes with it, whoever removes that.
-- The bodies of these functions are bound now: no search path has to name the extension's schema.
-- Servers of a later version may find what this one made, and this one what they made: a change of
-- these functions is another name.

-- What is left of it when the extension was dropped; never a table of somebody else's.
do $$
declare
  name text;
begin
  foreach name in array array['halves', 'halved'] loop
    if obj_description(to_regclass(name), 'pg_class') = 'understudy makes it again' then
      execute format('drop table %I', name);
    end if;
  end loop;
end
$$;

-- A vector: the place-th of its part, of the chunk with that ordinal. It stays in its row as long as a
-- page can hold it: to look at it elsewhere takes twice as long.
create table halves (
  document bigint not null,
  part integer not null,
  place integer not null,
  ordinal bigint not null,
  embedding EXTENSION.halfvec not null,
  primary key (document, part, place),
  foreign key (document, part) references parts on delete cascade
) with (toast_tuple_target = 8160);
comment on table halves is 'understudy makes it again';

-- The documents all of whose vectors are there.
create table halved (
  document bigint primary key references documents on delete cascade
);
comment on table halved is 'understudy makes it again';

-- The vectors of a part, if it exists; what is there already stays.
create function keep_halves(
  of_document bigint, of_part integer, ordinals bigint[], embeddings EXTENSION.halfvec[]
) returns void language sql begin atomic
  insert into halves (document, part, place, ordinal, embedding)
  select kept.document, kept.part, one.place - 1, one.ordinal, one.embedding
  from (
    select document, part from parts where document = of_document and part = of_part for key share
  ) as kept
  cross join unnest(ordinals, embeddings) with ordinality as one (ordinal, embedding, place)
  on conflict do nothing;
end;

-- The vectors of documents that are most like a query. All are looked at: the offset keeps it to the
-- index of documents, and an index of neighbours, should anybody make one, cannot serve the order.
create function nearest_halves(
  of_documents bigint[], query EXTENSION.halfvec, most integer
) returns table (
  document bigint, part integer, place integer, ordinal bigint, score double precision
) stable language sql begin atomic
  select found.document, found.part, found.place, found.ordinal, found.score
  from unnest(of_documents) as wanted (number)
  cross join lateral (
    select halves.document, halves.part, halves.place, halves.ordinal,
      -(halves.embedding operator(EXTENSION.<#>) query) as score
    from halves
    where halves.document = wanted.number
    offset 0
  ) as found
  order by found.score desc, found.document, found.ordinal
  limit most;
end;
