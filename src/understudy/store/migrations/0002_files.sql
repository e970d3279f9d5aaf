-- Files, vector stores and the search index.

-- The project comes second in these: while PostgreSQL knows nothing of a table's contents, it takes
-- an index that begins with it to be as good as the one of ids, and reads all that a project has.
create index objects_purpose
  on objects ((body ->> 'purpose'), project, created_at, seq) where kind = 'file';
create index objects_store_file on objects ((body ->> 'id')) where kind = 'vector_store_file';
create index objects_store_status
  on objects (parent, (body ->> 'status')) where kind = 'vector_store_file';
-- A resource names at most one store.
create index objects_named_store
  on objects ((body -> 'tool_resources' -> 'file_search' -> 'vector_store_ids' ->> 0), project)
  where kind in ('assistant', 'thread');
create index jobs_ingest on jobs (due_at, id) where kind = 'ingest';

-- The hot numbers of a vector store. version grows with each change of what a search may find;
-- chunks, words, trust and size_bytes are sums over its ready documents; trust adds for each chunk
-- how far the embedder understands it, 0 to 1. embedding_model is null until
-- the first file is indexed, and '' for a store that is searched by keywords only.
-- sqlite:
create table stores (
  number integer primary key autoincrement,
  id text not null constraint stores_id unique,
  project text not null,
  version bigint not null default 0,
  last_active_at double precision not null,
  chunks bigint not null default 0,
  words bigint not null default 0,
  trust double precision not null default 0,
  size_bytes bigint not null default 0,
  embedding_model text,
  dimensions integer
);
-- postgres:
create table stores (
  number bigint generated always as identity primary key,
  id text not null constraint stores_id unique,
  project text not null,
  version bigint not null default 0,
  last_active_at double precision not null,
  chunks bigint not null default 0,
  words bigint not null default 0,
  trust double precision not null default 0,
  size_bytes bigint not null default 0,
  embedding_model text,
  dimensions integer
);
-- all:

-- One file in one store, as the index has it. Searches see ready documents only; what is gone is
-- removed in the background.
-- sqlite:
create table documents (
  number integer primary key autoincrement,
  store bigint not null,
  file_id text not null,
  project text not null,
  state text not null,
  attributes text not null,
  filename text not null,
  attempts integer not null default 0,
  parts integer not null default 0,
  chunks bigint not null default 0,
  words bigint not null default 0,
  trust double precision not null default 0,
  size_bytes bigint not null default 0
);
-- postgres:
create table documents (
  number bigint generated always as identity primary key,
  store bigint not null,
  file_id text not null,
  project text not null,
  state text not null,
  attributes text not null,
  filename text not null,
  attempts integer not null default 0,
  parts integer not null default 0,
  chunks bigint not null default 0,
  words bigint not null default 0,
  trust double precision not null default 0,
  size_bytes bigint not null default 0
);
-- all:
create unique index documents_file on documents (file_id, store) where state <> 'gone';
create index documents_ready on documents (store, number) where state = 'ready';
create index documents_gone on documents (number) where state = 'gone';

-- A chunk covers the characters from start to stop. text goes to the start of the next chunk only
-- (the last one's to its stop), so that overlapping chunks are not stored twice.
create table chunks (
  document bigint not null,
  ordinal bigint not null,
  start bigint not null,
  stop bigint not null,
  text text not null,
  primary key (document, ordinal)
);

-- A stretch of a document that was indexed in one commit: its terms (a JSON array, for the
-- removal of their postings), and its vectors as rows of float32 with the ordinals of their chunks.
-- sqlite:
create table parts (
  document bigint not null,
  part integer not null,
  terms text not null,
  owners blob,
  vectors blob,
  primary key (document, part)
);
create table postings (
  store bigint not null,
  term text not null,
  document bigint not null,
  part integer not null,
  data blob not null,
  primary key (store, term, document, part)
) without rowid;
-- postgres:
create table parts (
  document bigint not null,
  part integer not null,
  terms text not null,
  owners bytea,
  vectors bytea,
  primary key (document, part)
);
create table postings (
  store bigint not null,
  term text not null,
  document bigint not null,
  part integer not null,
  data bytea not null,
  -- The index has what a search reads: rows lie in the order of documents, one of a term in a page.
  primary key (store, term, document, part) include (data)
);
-- all:
