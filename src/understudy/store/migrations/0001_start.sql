-- The first schema. ARCHITECTURE.md says what each table is for.

-- Bodies are the objects' own wire JSON, kept byte for byte.
-- sqlite:
create table objects (
  -- autoincrement: a seq is never used twice, so a tombstone keeps its place.
  seq integer primary key autoincrement,
  id text not null constraint objects_id unique,
  kind text not null,
  project text not null,
  parent text not null,
  created_at double precision not null,
  version integer not null default 1,
  children integer not null default 0,
  body text not null,
  private text
);
-- postgres:
-- PostgreSQL's own functions refuse a text that has a NUL in it, which JSON may. Bodies are text, so
-- that they stay as they are, and are read through these operators, for which a NUL is U+FFFD.
-- The bodies of these functions are bound now: index maintenance has no search path.
create function json_of(body text) returns json immutable parallel safe
return (
  case when strpos(body, '\u0000') = 0 then body
  else regexp_replace(body, '(?<!\\)((?:\\\\)*)\\u0000', '\1\\ufffd', 'g') end
)::json;
create function json_field(body text, name text) returns json immutable parallel safe
return json_of(body) -> name;
create function json_text(body text, name text) returns text immutable parallel safe
return json_of(body) ->> name;
create operator -> (leftarg = text, rightarg = text, function = json_field);
create operator ->> (leftarg = text, rightarg = text, function = json_text);

-- JSON arrays as arguments.
create function texts(list text) returns text[] immutable parallel safe
return array(select json_array_elements_text(json_of(list)));
create function numbers(list text) returns bigint[] immutable parallel safe
return array(select json_array_elements_text(list::json)::bigint);

create table objects (
  seq bigint generated always as identity,
  id text constraint objects_id primary key,
  kind text not null,
  project text not null,
  parent text not null,
  created_at double precision not null,
  version bigint not null default 1,
  children bigint not null default 0,
  body text not null,
  private text
);
-- all:

create index objects_list on objects (parent, kind, project, created_at, seq);
create index objects_run_messages
  on objects (parent, (body ->> 'run_id'), created_at, seq) where kind = 'message';

create table tombstones (
  id text primary key,
  kind text not null,
  project text not null,
  parent text not null,
  created_at double precision not null,
  seq bigint not null
);
create index tombstones_parent on tombstones (parent);

create table jobs (
  id text primary key,
  kind text not null,
  project text not null,
  thread_id text,
  due_at double precision not null,
  expires_at double precision,
  lease_owner text,
  lease_until double precision,
  fence bigint not null,
  reclaims integer not null default 0,
  cancel_asked_at double precision,
  was_leased boolean not null default false
);
-- The thread lock: one active run per thread.
create unique index jobs_thread on jobs (thread_id) where kind = 'run';
create index jobs_due on jobs (due_at, id);
create index jobs_expiry on jobs (expires_at) where expires_at is not null;
create index jobs_cancelled on jobs (cancel_asked_at) where cancel_asked_at is not null;
create index jobs_leased on jobs (project) where lease_owner is not null;

-- sqlite:
create table events (
  run_id text not null,
  fence bigint not null,
  seq_from bigint not null,
  seq_to bigint not null,
  kind text not null,
  created_at double precision not null,
  frames blob not null,
  primary key (run_id, fence, seq_from)
);
-- postgres:
create table events (
  run_id text not null,
  fence bigint not null,
  seq_from bigint not null,
  seq_to bigint not null,
  kind text not null,
  created_at double precision not null,
  frames bytea not null,
  primary key (run_id, fence, seq_from)
);
-- all:
create index events_deltas on events (created_at) where kind = 'delta';

create table journal (
  run_id text not null,
  key text not null,
  attempt integer not null,
  fence bigint not null,
  started_at double precision not null,
  ended_at double precision,
  outcome text,
  primary key (run_id, key, attempt)
);

create table idempotency (
  project text not null,
  key text not null,
  hash text not null,
  created_at double precision not null,
  answer text not null,
  run_id text,
  primary key (project, key)
);
create index idempotency_age on idempotency (created_at);

create table keys (
  id text primary key,
  project text not null,
  hash text not null constraint keys_hash unique,
  prefix text not null,
  name text not null,
  created_at double precision not null,
  revoked_at double precision
);

-- postgres:
-- The last commit on each connection of a server, so that one whose connection broke is done again
-- if it was not applied, and only then.
create table commits (
  connection text primary key,
  number bigint not null,
  made_at double precision not null
) with (fillfactor = 50);
-- all:
