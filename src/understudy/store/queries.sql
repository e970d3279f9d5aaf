-- Every statement of the store, named and described.
--
-- Rules of this file. A statement begins with its name and one line that says what it does.
-- One text serves both databases where it can; a statement that cannot carries the dialect
-- as a suffix (.sqlite, .postgres) and is called by the name before it. Parameters are :named.
-- An object without a parent has parent ''. The order of every list is (created_at, seq).
-- A write that is guarded or counted returns a row per row changed.

-- name: ping
-- Succeeds when the record answers.
select 1;


-- Objects.

-- name: get
-- One object of a project.
select id, kind, project, parent, created_at, seq, version, children, body, private
from objects
where id = :id and kind = :kind and project = :project;

-- name: get_many.sqlite
-- Several objects of a project; :ids is a JSON array.
select id, kind, project, parent, created_at, seq, version, children, body, private
from objects
where id in (select value from json_each(:ids)) and kind = :kind and project = :project;

-- name: cursor
-- The place of an object of a list, or of one that was deleted from it.
select created_at, seq from objects
where id = :id and kind = :kind and project = :project and parent = :parent
union all
select created_at, seq from tombstones
where id = :id and kind = :kind and project = :project and parent = :parent
limit 1;

-- name: list_asc
-- The objects of a parent between two places, oldest first.
select id, kind, project, parent, created_at, seq, version, children, body, private
from objects
where parent = :parent and kind = :kind and project = :project
  and (created_at, seq) > (:low_at, :low_seq)
  and (created_at, seq) < (:high_at, :high_seq)
order by created_at, seq
limit :limit;

-- name: list_desc
-- The objects of a parent between two places, newest first.
select id, kind, project, parent, created_at, seq, version, children, body, private
from objects
where parent = :parent and kind = :kind and project = :project
  and (created_at, seq) > (:low_at, :low_seq)
  and (created_at, seq) < (:high_at, :high_seq)
order by created_at desc, seq desc
limit :limit;

-- name: list_run_messages_asc
-- The messages of a thread that one run made, between two places, oldest first.
select id, kind, project, parent, created_at, seq, version, children, body, private
from objects
where parent = :parent and kind = 'message' and project = :project
  and body ->> 'run_id' = :run_id
  and (created_at, seq) > (:low_at, :low_seq)
  and (created_at, seq) < (:high_at, :high_seq)
order by created_at, seq
limit :limit;

-- name: list_run_messages_desc
-- The messages of a thread that one run made, between two places, newest first.
select id, kind, project, parent, created_at, seq, version, children, body, private
from objects
where parent = :parent and kind = 'message' and project = :project
  and body ->> 'run_id' = :run_id
  and (created_at, seq) > (:low_at, :low_seq)
  and (created_at, seq) < (:high_at, :high_seq)
order by created_at desc, seq desc
limit :limit;

-- name: insert_object
-- A new object; its seq comes back.
insert into objects (id, kind, project, parent, created_at, body, private)
values (:id, :kind, :project, :parent, :created_at, :body, :private)
returning seq;

-- name: update_object
-- A new body, and a new private part if one is given; only at :version if that is given.
update objects
set body = :body, private = coalesce(:private, private), version = version + 1
where id = :id and project = :project
  and (cast(:version as bigint) is null or version = :version)
returning version;

-- name: bury_object
-- The tombstone of an object that is about to go. The id may have lived and died before.
insert into tombstones (id, kind, project, parent, created_at, seq)
select id, kind, project, parent, created_at, seq from objects
where id = :id and kind = :kind and project = :project
on conflict (id) do update
set kind = excluded.kind, project = excluded.project, parent = excluded.parent,
    created_at = excluded.created_at, seq = excluded.seq;

-- name: delete_object
-- The object goes.
delete from objects
where id = :id and kind = :kind and project = :project
returning id;

-- name: grow
-- Count children of a parent up to a limit; this also locks its row.
update objects set children = children + :by
where id = :id and project = :project and children + :by <= :limit
returning children;

-- name: require_object.sqlite
-- The object is there.
select id from objects
where id = :id and kind = :kind and project = :project;

-- name: purge_steps
-- Children of the runs of a deleted parent.
delete from objects
where seq in (
  select step.seq from objects as run join objects as step on step.parent = run.id
  where run.parent = :parent and run.kind = 'run'
  limit :limit
)
returning id;

-- name: purge_events
-- The log of a deleted parent, or of its runs.
delete from events
where (run_id, fence, seq_from) in (
  select run_id, fence, seq_from from events
  where run_id = :parent
    or run_id in (select id from objects where parent = :parent and kind = 'run')
  limit :limit
)
returning run_id;

-- name: purge_journal
-- The journal of a deleted parent, or of its runs.
delete from journal
where (run_id, key, attempt) in (
  select run_id, key, attempt from journal
  where run_id = :parent
    or run_id in (select id from objects where parent = :parent and kind = 'run')
  limit :limit
)
returning run_id;

-- name: purge_children
-- Children of a deleted parent; a run only when nothing of its own is left.
delete from objects
where seq in (
  select child.seq from objects as child
  where child.parent = :parent
    and (
      child.kind <> 'run'
      or not exists (select 1 from objects as step where step.parent = child.id)
      and not exists (select 1 from events where run_id = child.id)
      and not exists (select 1 from journal where run_id = child.id)
    )
  limit :limit
)
returning id;

-- name: purge_tombstones
-- Tombstones of the children of a deleted parent.
delete from tombstones
where id in (select id from tombstones where parent = :parent limit :limit)
returning id;


-- Jobs. A lease is alive while lease_until is ahead; whoever takes a job takes the next fence.

-- name: job
-- One job.
select id, kind, project, thread_id, due_at, expires_at, lease_owner, lease_until, fence,
  reclaims, cancel_asked_at, was_leased
from jobs
where id = :id;

-- name: active_run
-- The job of the run that holds a thread.
select id, kind, project, thread_id, due_at, expires_at, lease_owner, lease_until, fence,
  reclaims, cancel_asked_at, was_leased
from jobs
where thread_id = :thread_id and kind = 'run';

-- name: next_due
-- When the first job without a live lease wants a look.
select min(at) from (
  select due_at as at from (
    select due_at from jobs
    where lease_owner is null or lease_until <= :now
    order by due_at
    limit 1
  ) as due
  union all
  select expires_at as at from (
    select expires_at from jobs
    where expires_at is not null and (lease_owner is null or lease_until <= :now)
    order by expires_at
    limit 1
  ) as expiring
  union all
  select cancel_asked_at as at from jobs
  where cancel_asked_at is not null and (lease_owner is null or lease_until <= :now)
) as moments;

-- name: claim_jobs.sqlite
-- Lease what is due: urgent jobs always, others oldest first within the free slots and the
-- cap per project. Candidates are cut by the cap a second time, since one claim may bring
-- several jobs of one project.
with held as (
  select project, count(*) as leases from jobs
  where lease_owner is not null and lease_until > :now
  group by project
),
expired as (
  select id from jobs
  where expires_at <= :now and (lease_owner is null or lease_until <= :now)
  order by expires_at
  limit :urgent
),
cancelled as (
  select id from jobs
  where cancel_asked_at is not null and (lease_owner is null or lease_until <= :now)
  order by cancel_asked_at
  limit :urgent
),
urgent as (
  select id from expired union select id from cancelled limit :urgent
),
candidates as (
  select id, project, due_at from jobs
  where due_at <= :now
    and (lease_owner is null or lease_until <= :now)
    and (expires_at is null or expires_at > :now)
    and cancel_asked_at is null
    and project not in (select project from held where leases >= :per_project)
  order by due_at, id
  limit :free
),
placed as (
  select candidates.id,
    coalesce(held.leases, 0) + row_number() over (
      partition by candidates.project order by candidates.due_at, candidates.id
    ) as place
  from candidates left join held on held.project = candidates.project
)
update jobs
set lease_owner = :owner,
    lease_until = :lease_until,
    fence = fence + 1,
    reclaims = reclaims + case when lease_owner is not null then 1 else 0 end,
    was_leased = lease_owner is not null
where id in (
  select id from urgent union all select id from placed where place <= :per_project
)
returning id, kind, project, thread_id, due_at, expires_at, lease_owner, lease_until, fence,
  reclaims, cancel_asked_at, was_leased;

-- name: renew_leases.sqlite
-- Prolong leases that nobody took; :held is a JSON array of [id, fence].
update jobs set lease_until = :lease_until
where lease_owner = :owner
  and (id, fence) in (select value ->> 0, value ->> 1 from json_each(:held))
returning id, fence, cancel_asked_at;

-- name: free_leases
-- End the live leases of all other owners; whose they were stays, so that it counts as a reclaim.
update jobs set lease_until = :now
where lease_owner <> :owner and lease_until > :now
returning id;

-- name: thread_free
-- The run that holds a thread, if any.
select id from jobs where thread_id = :thread_id and kind = 'run';

-- name: insert_job
-- A new job, maybe already leased.
insert into jobs (id, kind, project, thread_id, due_at, expires_at, lease_owner, lease_until, fence)
values (
  :id, :kind, :project, :thread_id, :due_at, :expires_at, :lease_owner, :lease_until, :fence
);

-- name: hold_job.sqlite
-- The job is still its holder's, and no cancel was asked unless that is fine.
select id from jobs
where id = :id and lease_owner = :owner and fence = :fence
  and (:cancelled_ok or cancel_asked_at is null);

-- name: rest_job
-- Give the lease back.
update jobs set lease_owner = null, lease_until = null, due_at = :due_at
where id = :id and fence = :fence
returning id;

-- name: hand_over_job
-- End a lease in good order: the claim that follows counts a reclaim, so one is taken off.
update jobs set lease_until = :now, reclaims = reclaims - 1
where id = :id and lease_owner = :owner and fence = :fence
returning id;

-- name: take_job
-- Take the next fence of a job that nobody holds.
update jobs
set fence = fence + 1, lease_owner = :owner, lease_until = :lease_until, due_at = :due_at
where id = :id and fence = :fence and (lease_owner is null or lease_until <= :now)
returning fence;

-- name: ask_cancel
-- Mark a job as to be cancelled, once.
update jobs set cancel_asked_at = :now
where id = :id and cancel_asked_at is null
returning fence;

-- name: delete_job
-- The work is over, said by the holder of the fence.
delete from jobs where id = :id and fence = :fence returning id;

-- name: drop_job
-- The work is over, whoever holds it.
delete from jobs where id = :id returning id;


-- Events and the journal.

-- name: append_events
-- A stretch of a run's log.
insert into events (run_id, fence, seq_from, seq_to, kind, created_at, frames)
values (:run_id, :fence, :seq_from, :seq_to, :kind, :created_at, :frames);

-- name: events
-- The rows of a run's log that hold anything after a place.
select run_id, fence, seq_from, seq_to, kind, created_at, frames
from events
where run_id = :run_id and (fence > :fence or (fence = :fence and seq_to > :seq))
order by fence, seq_from;

-- name: prune_deltas
-- Old deltas of runs that are at rest.
delete from events
where (run_id, fence, seq_from) in (
  select run_id, fence, seq_from from events
  where kind = 'delta' and created_at < :before
    and not exists (select 1 from jobs where jobs.id = events.run_id)
  limit :limit
)
returning run_id;

-- name: start_call
-- An outside call is about to start.
insert into journal (run_id, key, attempt, fence, started_at)
values (:run_id, :key, :attempt, :fence, :started_at);

-- name: end_call
-- How an outside call ended.
update journal set ended_at = :ended_at, outcome = :outcome
where run_id = :run_id and key = :key and attempt = :attempt
returning run_id;

-- name: journal
-- The outside calls of a run.
select run_id, key, attempt, fence, started_at, ended_at, outcome
from journal
where run_id = :run_id
order by started_at, key, attempt;


-- Idempotency and keys.

-- name: answer
-- What was answered under an idempotency key.
select project, key, hash, created_at, answer, run_id
from idempotency
where project = :project and key = :key;

-- name: remember_answer
-- What was answered under an idempotency key.
insert into idempotency (project, key, hash, created_at, answer, run_id)
values (:project, :key, :hash, :created_at, :answer, :run_id);

-- name: forget_answers
-- A batch of old answers.
delete from idempotency
where (project, key) in (
  select project, key from idempotency where created_at < :before limit :limit
)
returning key;

-- name: key
-- The key with this hash, unless it was revoked.
select id, project, hash, prefix, name, created_at, revoked_at
from keys
where hash = :hash and revoked_at is null;

-- name: keys
-- The keys of a project, or all.
select id, project, hash, prefix, name, created_at, revoked_at
from keys
where cast(:project as text) is null or project = :project
order by created_at, id;

-- name: insert_key
-- A new API key.
insert into keys (id, project, hash, prefix, name, created_at)
values (:id, :project, :hash, :prefix, :name, :created_at);

-- name: revoke_key
-- The key opens nothing any more.
update keys set revoked_at = :now
where id = :id and revoked_at is null
returning id;


-- Migrations.

-- name: create_migrations
-- The table that says which migrations were applied.
create table if not exists migrations (
  name text primary key,
  applied_at double precision not null
);

-- name: applied_migrations
-- The migrations that were applied.
select name from migrations order by name;

-- name: record_migration.sqlite
-- A migration was applied.
insert into migrations (name, applied_at) values (:name, unixepoch('subsec'));
