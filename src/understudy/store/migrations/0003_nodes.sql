-- Several servers on one record, and the order in which they take what waits.

-- The model call that a queued run begins with, by its name in the journal: whoever takes the job
-- makes the call without another commit before it. Null for whatever is no such run.
alter table jobs add column next_call text;
create index jobs_ready on jobs (project, due_at, id)
  where next_call is not null and lease_owner is null;
-- What else waits for a worker: without it, a claim reads past all queued runs.
create index jobs_others on jobs (due_at, id)
  where next_call is null and lease_owner is null and kind <> 'ingest';

-- Documents of a store that are not ready, which an ingestion abandons at its end.
create index documents_store on documents (store) where state <> 'gone';

-- The servers that are alive, or were lately.
create table nodes (
  id text primary key,
  role text not null,
  version text not null,
  started_at double precision not null,
  seen_at double precision not null,
  live_runs integer not null
);

-- Where the session of a thread's code is: runs of the thread wait a moment for that server.
create table pins (
  thread_id text primary key,
  node text not null,
  until double precision not null
);
create index pins_node on pins (node);
create index pins_until on pins (until);

-- postgres:
-- A heartbeat changes every job that is at work, and no index when its page has room: of 5,000 jobs,
-- 94 % of the changes are such, not 85, claims take 15 ms, not 20, and the table two thirds. They
-- are so many that autovacuum comes at each of its rounds, with its own thresholds as with lower ones.
alter table jobs set (fillfactor = 70);
-- all:
