-- Every statement of the store, named and described.
--
-- Rules of this file. A statement begins with its name and one line that says what it does.
-- One text serves both databases where it can; a statement that cannot carries the dialect
-- as a suffix (.sqlite, .postgres) and is called by the name before it. Parameters are :named.
-- An object without a parent has parent ''. The order of every list is (created_at, seq).
-- A write whose changes a caller counts or looks at returns a row per row changed; one that is only
-- guarded does not, since the engine counts: rows that come back cost SQLite as much as the write.
-- A statement that is run many times has a twin for PostgreSQL that takes them all: :rows is a JSON
-- array of arrays, in which bytes are the place and the length of what is meant in :bytes.

-- name: ping.sqlite
-- Succeeds when the record answers.
select 1;

-- name: ping.postgres
-- Succeeds when the record may be written: a standby refuses it.
update commits set number = number where false;

-- name: forget_commits.postgres
-- The last commits of connections that made none for long.
delete from commits where made_at < :before;


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

-- name: get_many.postgres
-- Several objects of a project; :ids is a JSON array.
select id, kind, project, parent, created_at, seq, version, children, body, private
from objects
where id = any (texts(:ids)) and kind = :kind and project = :project;

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
select id, version, body, private
from objects
where parent = :parent and kind = :kind and project = :project
  and (created_at, seq) > (:low_at, :low_seq)
  and (created_at, seq) < (:high_at, :high_seq)
order by created_at, seq
limit :limit;

-- name: list_desc
-- The objects of a parent between two places, newest first.
select id, version, body, private
from objects
where parent = :parent and kind = :kind and project = :project
  and (created_at, seq) > (:low_at, :low_seq)
  and (created_at, seq) < (:high_at, :high_seq)
order by created_at desc, seq desc
limit :limit;

-- name: newest
-- The newest objects of a parent; a body of more bytes than that is not read.
select id, version, case when octet_length(body) <= :most_bytes then body end, private
from objects
where parent = :parent and kind = :kind and project = :project
order by created_at desc, seq desc
limit :limit;

-- name: beginning.sqlite
-- The run of a job, and the newest messages of its thread as above.
select place, id, version, body, private from (
  select 0 as place, id, version, body, private from objects
  where id = :id and kind = 'run' and project = (select project from jobs where id = :id)
  union all
  select row_number() over (order by created_at desc, seq desc) as place, id, version, body, private
  from (
    select id, version, created_at, seq, private,
      case when octet_length(body) <= :most_bytes then body end as body
    from objects
    where parent = (select thread_id from jobs where id = :id)
      and kind = 'message' and project = (select project from jobs where id = :id)
    order by created_at desc, seq desc
    limit :limit
  ) as newest
) as found
order by place;

-- name: beginning.postgres
-- The run of a job, and the newest messages of its thread as above.
select begun.place, begun.id, begun.version, begun.body, begun.private
from jobs cross join lateral begun(
  jobs.id, jobs.thread_id, jobs.project, :limit, :most_bytes
)
where jobs.id = :id
order by begun.place;

-- name: list_run_messages_asc
-- The messages of a thread that one run made, between two places, oldest first.
select id, version, body, private
from objects
where parent = :parent and kind = 'message' and project = :project
  and body ->> 'run_id' = :run_id
  and (created_at, seq) > (:low_at, :low_seq)
  and (created_at, seq) < (:high_at, :high_seq)
order by created_at, seq
limit :limit;

-- name: list_run_messages_desc
-- The messages of a thread that one run made, between two places, newest first.
select id, version, body, private
from objects
where parent = :parent and kind = 'message' and project = :project
  and body ->> 'run_id' = :run_id
  and (created_at, seq) > (:low_at, :low_seq)
  and (created_at, seq) < (:high_at, :high_seq)
order by created_at desc, seq desc
limit :limit;

-- name: list_filtered_asc.sqlite
-- The objects of a parent that have these fields, between two places, oldest first; a filter
-- that is null keeps all. :ids is a JSON array.
select id, version, body, private
from objects
where parent = :parent and kind = :kind and project = :project
  and (:purpose is null or body ->> 'purpose' = :purpose)
  and (:status is null or body ->> 'status' = :status)
  and (:ids is null or id in (select value from json_each(:ids)))
  and (created_at, seq) > (:low_at, :low_seq)
  and (created_at, seq) < (:high_at, :high_seq)
order by created_at, seq
limit :limit;

-- name: list_filtered_asc.postgres
-- The objects of a parent that have these fields, between two places, oldest first; a filter
-- that is null keeps all. :ids is a JSON array.
select id, version, body, private
from objects
where parent = :parent and kind = :kind and project = :project
  and (cast(:purpose as text) is null or body ->> 'purpose' = :purpose)
  and (cast(:status as text) is null or body ->> 'status' = :status)
  and (cast(:ids as text) is null or id = any (texts(:ids)))
  and (created_at, seq) > (:low_at, :low_seq)
  and (created_at, seq) < (:high_at, :high_seq)
order by created_at, seq
limit :limit;

-- name: list_filtered_desc.sqlite
-- The objects of a parent that have these fields, between two places, newest first; a filter
-- that is null keeps all. :ids is a JSON array.
select id, version, body, private
from objects
where parent = :parent and kind = :kind and project = :project
  and (:purpose is null or body ->> 'purpose' = :purpose)
  and (:status is null or body ->> 'status' = :status)
  and (:ids is null or id in (select value from json_each(:ids)))
  and (created_at, seq) > (:low_at, :low_seq)
  and (created_at, seq) < (:high_at, :high_seq)
order by created_at desc, seq desc
limit :limit;

-- name: list_filtered_desc.postgres
-- The objects of a parent that have these fields, between two places, newest first; a filter
-- that is null keeps all. :ids is a JSON array.
select id, version, body, private
from objects
where parent = :parent and kind = :kind and project = :project
  and (cast(:purpose as text) is null or body ->> 'purpose' = :purpose)
  and (cast(:status as text) is null or body ->> 'status' = :status)
  and (cast(:ids as text) is null or id = any (texts(:ids)))
  and (created_at, seq) > (:low_at, :low_seq)
  and (created_at, seq) < (:high_at, :high_seq)
order by created_at desc, seq desc
limit :limit;

-- name: insert_object.sqlite
-- A new object.
insert into objects (id, kind, project, parent, created_at, children, body, private)
values (:id, :kind, :project, :parent, :created_at, :children, :body, :private);

-- name: insert_object.postgres
-- A new object. What servers know of the record's clock differs by milliseconds, so one may be given
-- a time before that of an object which was acknowledged earlier: it comes after that one all the
-- same, as seq decides between equal times.
insert into objects (id, kind, project, parent, created_at, children, body, private)
values (
  :id, :kind, :project, :parent,
  coalesce(
    (
      select max(earlier.created_at) from objects as earlier
      where earlier.parent = :parent and earlier.kind = :kind and earlier.project = :project
        and earlier.created_at > :created_at and earlier.created_at < :created_at + 0.25
    ),
    :created_at
  ),
  :children, :body, :private
);

-- name: update_object
-- A new body, and a new private part if one is given; only at :version if that is given.
update objects
set body = :body, private = coalesce(:private, private), version = version + 1
where id = :id and project = :project
  and (cast(:version as bigint) is null or version = :version);

-- name: overwrite_object.sqlite
-- A new body around the metadata which is there, whatever the version.
update objects
set body = :head || (body -> 'metadata') || :tail,
    private = coalesce(:private, private), version = version + 1
where id = :id and project = :project;

-- name: overwrite_object.postgres
-- A new body around the metadata which is there, whatever the version. What -> found has \ufffd for
-- each NUL; no body has that escape of its own, since only control characters are written so.
update objects
set body = :head || regexp_replace(
      (body -> 'metadata')::text, '(?<!\\)((?:\\\\)*)\\ufffd', '\1\\u0000', 'g'
    ) || :tail,
    private = coalesce(:private, private), version = version + 1
where id = :id and project = :project;

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
where id = :id and kind = :kind and project = :project;

-- name: grow
-- Count children of a parent up to a limit; this also locks its row.
update objects set children = children + :by
where id = :id and project = :project and children + :by <= :limit;

-- name: require_object.sqlite
-- The object is there.
select id from objects
where id = :id and kind = :kind and project = :project;

-- name: require_object.postgres
-- The object is there, and stays until the commit is over.
select id from objects
where id = :id and kind = :kind and project = :project
for share;

-- name: require_version
-- The object is there, at this version.
select id from objects
where id = :id and kind = :kind and project = :project and version = :version;

-- name: purge_steps
-- Children of the runs of a deleted parent.
delete from objects
where id in (
  select step.id from objects as run join objects as step on step.parent = run.id
  where run.parent = :parent and run.kind = 'run'
  limit :limit
)
returning id;

-- name: purge_events
-- The log of a deleted parent, or of its runs.
delete from events
where (run_id, fence, seq_from) in (
  select run_id, fence, seq_from from events
  where run_id in (
    select cast(:parent as text)
    union all select id from objects where parent = :parent and kind = 'run'
  )
  limit :limit
)
returning run_id;

-- name: purge_journal
-- The journal of a deleted parent, or of its runs.
delete from journal
where (run_id, key, attempt) in (
  select run_id, key, attempt from journal
  where run_id in (
    select cast(:parent as text)
    union all select id from objects where parent = :parent and kind = 'run'
  )
  limit :limit
)
returning run_id;

-- name: purge_children
-- Children of a deleted parent; a run only when nothing of its own is left.
delete from objects
where id in (
  select child.id from objects as child
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
  reclaims, cancel_asked_at, was_leased, next_call
from jobs
where id = :id;

-- name: active_run
-- The job of the run that holds a thread.
select id, kind, project, thread_id, due_at, expires_at, lease_owner, lease_until, fence,
  reclaims, cancel_asked_at, was_leased, next_call
from jobs
where thread_id = :thread_id and kind = 'run';

-- name: next_due
-- When the first job without a lease wants a look; ingestion has a pool of its own. Leases that ran
-- out, and runs that expire, come at the next poll: to find the first, one would read all leases.
select min(at) from (
  with recursive projects as (
    select min(project) as project from jobs where next_call is not null and lease_owner is null
    union all
    select (
      select min(jobs.project) from jobs
      where next_call is not null and lease_owner is null and jobs.project > projects.project
    )
    from projects where projects.project is not null
  )
  select (
    select min(due_at) from jobs
    where jobs.project = projects.project and next_call is not null and lease_owner is null
  ) as at
  from projects
  union all
  select min(due_at) as at from jobs
  where next_call is null and lease_owner is null and kind <> 'ingest'
  union all
  select min(cancel_asked_at) as at from jobs
  where cancel_asked_at is not null and lease_owner is null
) as moments;

-- name: next_ingest
-- When the first ingestion without a live lease wants a look.
select min(due_at) from jobs
where kind = 'ingest' and (lease_owner is null or lease_until <= :now);

-- name: claim_jobs.sqlite
-- Lease what is due. Jobs that only need a moment (expired or cancelled) are always taken. Of
-- queued runs each project has its turn: who holds the fewest leases comes first, and nobody gets
-- more than the cap; what else is due comes before them. A run whose thread has its code elsewhere
-- is left to that server for a moment. A queued run's first model call is journalled with its lease.
with recursive leased as materialized (
  select id, project, due_at, expires_at, cancel_asked_at, lease_until from jobs
  where lease_owner is not null and kind <> 'ingest'
),
held as (
  select project, count(*) as leases from leased
  where lease_until > :now
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
projects as (
  select min(project) as project from jobs where next_call is not null and lease_owner is null
  union all
  select (
    select min(jobs.project) from jobs
    where next_call is not null and lease_owner is null and jobs.project > projects.project
  )
  from projects where projects.project is not null
),
ready as (
  select jobs.id, jobs.project, jobs.due_at from projects join jobs on jobs.id in (
    select id from jobs as first
    where first.project = projects.project and next_call is not null and lease_owner is null
      and due_at <= :now and (expires_at is null or expires_at > :now)
      and cancel_asked_at is null
      and (due_at <= :waited_since or not exists (
        select 1 from pins join nodes on nodes.id = pins.node
        where pins.thread_id = first.thread_id and pins.node <> :owner and pins.until > :now
          and nodes.seen_at > :alive_since
      ))
    order by due_at, id
    limit :free
  )
),
others as (
  select id, project, due_at from leased
  where due_at <= :now and lease_until <= :now
    and (expires_at is null or expires_at > :now) and cancel_asked_at is null
  union all
  select * from (
    select id, project, due_at from jobs
    where due_at <= :now and lease_owner is null and next_call is null and kind <> 'ingest'
      and (expires_at is null or expires_at > :now) and cancel_asked_at is null
    order by due_at, id
    limit :free + :urgent
  )
),
placed as (
  select ready.id, ready.due_at, 1 as turn,
    coalesce(held.leases, 0) + row_number() over (
      partition by ready.project order by ready.due_at, ready.id
    ) as place
  from ready left join held on held.project = ready.project
  union all
  select others.id, others.due_at, 0 as turn,
    coalesce(held.leases, 0) + row_number() over (
      partition by others.project order by others.due_at, others.id
    ) as place
  from others left join held on held.project = others.project
),
chosen as (
  select id from placed
  where place <= :per_project
  order by turn, place, due_at, id
  limit :free
)
update jobs
set lease_owner = :owner,
    lease_until = :lease_until,
    fence = fence + 1,
    reclaims = reclaims + case when lease_owner is not null then 1 else 0 end,
    was_leased = lease_owner is not null
where id in (
  select id from expired union select id from cancelled union select id from chosen
)
returning id, kind, project, thread_id, due_at, expires_at, lease_owner, lease_until, fence,
  reclaims, cancel_asked_at, was_leased, next_call;
insert into journal (run_id, key, attempt, fence, started_at)
select id, next_call, 1, fence, :now from jobs
where lease_owner = :owner and lease_until = :lease_until and next_call is not null
  and not was_leased
on conflict (run_id, key, attempt) do nothing;

-- name: claim_jobs.postgres
-- Lease what is due. Jobs that only need a moment (expired or cancelled) are always taken. Of
-- queued runs each project has its turn: who holds the fewest leases comes first, and nobody gets
-- more than the cap; what else is due comes before them. A run whose thread has its code elsewhere
-- is left to that server for a moment. A queued run's first model call is journalled with its lease,
-- and beside its job there is a row for each of what `beginning` would find; none where somebody had
-- the job since this statement began to look, and may have changed that. Leases that ran out are
-- looked for only where that is asked for: it reads all that did not.
with recursive expired as (
  select id from jobs
  where expires_at <= :now and (lease_owner is null or lease_until <= :now)
  order by expires_at
  limit :urgent
  for update skip locked
),
cancelled as (
  select id from jobs
  where cancel_asked_at is not null and (lease_owner is null or lease_until <= :now)
  order by cancel_asked_at
  limit :urgent
  for update skip locked
),
projects as (
  select min(project) as project from jobs where next_call is not null and lease_owner is null
  union all
  select (
    select min(jobs.project) from jobs
    where next_call is not null and lease_owner is null and jobs.project > projects.project
  )
  from projects where projects.project is not null
),
ready as (
  select first.id, first.project, first.due_at from projects cross join lateral (
    select id, project, due_at from jobs
    where jobs.project = projects.project and next_call is not null and lease_owner is null
      and due_at <= :now and (expires_at is null or expires_at > :now)
      and cancel_asked_at is null
      and (due_at <= :waited_since or not exists (
        select 1 from pins join nodes on nodes.id = pins.node
        where pins.thread_id = jobs.thread_id and pins.node <> :owner and pins.until > :now
          and nodes.seen_at > :alive_since
      ))
    order by due_at, id
    limit :free + :urgent
  ) as first
),
others as (
  (
    select id, project, due_at from jobs
    where :with_lost and due_at <= :now and lease_owner is not null and lease_until <= :now
      and kind <> 'ingest' and (expires_at is null or expires_at > :now)
      and cancel_asked_at is null
    order by due_at, id
    limit :free + :urgent
  )
  union all
  (
    select id, project, due_at from jobs
    where due_at <= :now and lease_owner is null and next_call is null and kind <> 'ingest'
      and (expires_at is null or expires_at > :now) and cancel_asked_at is null
    order by due_at, id
    limit :free + :urgent
  )
),
waiting as (
  select id, project, due_at, 1 as turn from ready
  union all
  select id, project, due_at, 0 as turn from others
),
held as materialized (
  select waits.project, counted.leases from (select distinct project from waiting) as waits
  cross join lateral (
    select count(*) as leases from jobs
    where jobs.project = waits.project and lease_owner is not null and kind <> 'ingest'
      and lease_until > :now
  ) as counted
),
placed as (
  select id, turn, due_at,
    held.leases + row_number() over (partition by project, turn order by due_at, id) as place
  from waiting join held using (project)
),
ranked as (
  select id, turn, place, due_at from placed
  where place <= :per_project
  order by turn, place, due_at, id
  limit :free + :urgent
),
chosen as (
  select jobs.id from ranked join jobs on jobs.id = ranked.id
  where jobs.lease_owner is null or jobs.lease_until <= :now
  order by ranked.turn, ranked.place, ranked.due_at, ranked.id
  limit :free
  for update of jobs skip locked
),
claimed as (
  update jobs
  set lease_owner = :owner,
      lease_until = :lease_until,
      fence = fence + 1,
      reclaims = reclaims + case when lease_owner is not null then 1 else 0 end,
      was_leased = lease_owner is not null
  where id in (
    select id from expired union select id from cancelled union select id from chosen
  )
  returning id, kind, project, thread_id, due_at, expires_at, lease_owner, lease_until, fence,
    reclaims, cancel_asked_at, was_leased, next_call
),
journalled as (
  insert into journal (run_id, key, attempt, fence, started_at)
  select id, next_call, 1, fence, :now from claimed
  where next_call is not null and not was_leased
  on conflict (run_id, key, attempt) do nothing
)
select claimed.id, claimed.kind, claimed.project, claimed.thread_id, claimed.due_at,
  claimed.expires_at, claimed.lease_owner, claimed.lease_until, claimed.fence, claimed.reclaims,
  claimed.cancel_asked_at, claimed.was_leased, claimed.next_call,
  begun.place, begun.id, begun.version, begun.body, begun.private
from claimed left join jobs as seen on seen.id = claimed.id and seen.fence + 1 = claimed.fence
  and claimed.next_call is not null and not claimed.was_leased
left join lateral begun(seen.id, seen.thread_id, seen.project, :limit, :most_bytes) on true
order by claimed.due_at, claimed.id, begun.place;

-- name: claimed
-- What a claim of this owner has leased, by its moment. What a door has leased is none of it.
select id, kind, project, thread_id, due_at, expires_at, lease_owner, lease_until, fence,
  reclaims, cancel_asked_at, was_leased, next_call
from jobs
where lease_owner = :owner and lease_until = :lease_until
  and (kind <> 'run' or next_call is not null or was_leased);

-- name: claim_run.sqlite
-- Lease a queued run that was just told of, as claim_jobs would if it were the only one. It is due
-- since it was made, though by a clock that may be ahead of ours.
update jobs
set lease_owner = :owner, lease_until = :lease_until, fence = fence + 1, was_leased = false
where id = (
  select id from jobs as waiting
  where id = :id and next_call is not null and lease_owner is null
    and (expires_at is null or expires_at > :now) and cancel_asked_at is null
    and (
      select count(*) from jobs as held
      where held.lease_owner is not null and held.kind <> 'ingest'
        and held.lease_until > :now and held.project = waiting.project
    ) < :per_project
    and (due_at <= :waited_since or not exists (
      select 1 from pins join nodes on nodes.id = pins.node
      where pins.thread_id = waiting.thread_id and pins.node <> :owner and pins.until > :now
        and nodes.seen_at > :alive_since
    ))
);
select id, kind, project, thread_id, due_at, expires_at, lease_owner, lease_until, fence,
  reclaims, cancel_asked_at, was_leased, next_call
from jobs where id = :id and changes() > 0;
insert into journal (run_id, key, attempt, fence, started_at)
select id, next_call, 1, fence, :now from jobs
where id = :id and lease_owner = :owner and lease_until = :lease_until
on conflict (run_id, key, attempt) do nothing;

-- name: claim_run.postgres
-- Lease a queued run that was just told of, as claim_jobs would if it were the only one. It is due
-- since it was made, though by a clock that may be ahead of ours. Only who may have it locks it: all
-- are told at once, and who finds it locked looks no further. Who comes too late writes nothing; who
-- asks again, since the first answer was lost, is told what was leased then.
with claimed as (
  update jobs
  set lease_owner = :owner, lease_until = :lease_until, fence = fence + 1, was_leased = false
  where id = (
    select id from jobs as waiting
    where id = :id and next_call is not null and lease_owner is null
      and (expires_at is null or expires_at > :now) and cancel_asked_at is null
      and (
        select count(*) from jobs as held
        where held.lease_owner is not null and held.kind <> 'ingest'
          and held.lease_until > :now and held.project = waiting.project
      ) < :per_project
      and (due_at <= :waited_since or not exists (
        select 1 from pins join nodes on nodes.id = pins.node
        where pins.thread_id = waiting.thread_id and pins.node <> :owner and pins.until > :now
          and nodes.seen_at > :alive_since
      ))
    for update skip locked
  )
  returning id, kind, project, thread_id, due_at, expires_at, lease_owner, lease_until, fence,
    reclaims, cancel_asked_at, was_leased, next_call
),
journalled as (
  insert into journal (run_id, key, attempt, fence, started_at)
  select id, next_call, 1, fence, :now from claimed
  on conflict (run_id, key, attempt) do nothing
),
leased as (
  select id, kind, project, thread_id, due_at, expires_at, lease_owner, lease_until, fence,
    reclaims, cancel_asked_at, was_leased, next_call
  from jobs
  where id = :id and lease_owner = :owner and lease_until = :lease_until
  union all
  select * from claimed
)
select leased.id, leased.kind, leased.project, leased.thread_id, leased.due_at,
  leased.expires_at, leased.lease_owner, leased.lease_until, leased.fence, leased.reclaims,
  leased.cancel_asked_at, leased.was_leased, leased.next_call,
  begun.place, begun.id, begun.version, begun.body, begun.private
from leased left join jobs as seen on seen.id = leased.id and seen.fence + 1 = leased.fence
left join lateral begun(seen.id, seen.thread_id, seen.project, :limit, :most_bytes) on true
order by begun.place;

-- name: claim_ingest.sqlite
-- Lease stores whose files are to be indexed: those of the projects that hold the fewest leases
-- first, then the oldest, so that one project's many stores do not keep others waiting.
with held as (
  select project, count(*) as leases from jobs
  where lease_owner is not null and lease_until > :now and kind = 'ingest'
  group by project
),
waiting as (
  select jobs.id, jobs.due_at,
    coalesce(held.leases, 0) + row_number() over (
      partition by jobs.project order by jobs.due_at, jobs.id
    ) as place
  from jobs left join held on held.project = jobs.project
  where jobs.kind = 'ingest' and jobs.due_at <= :now
    and (jobs.lease_owner is null or jobs.lease_until <= :now)
)
update jobs
set lease_owner = :owner,
    lease_until = :lease_until,
    fence = fence + 1,
    reclaims = reclaims + case when lease_owner is not null then 1 else 0 end,
    was_leased = lease_owner is not null
where id in (
  select id from waiting order by place, due_at, id limit :free
)
returning id, kind, project, thread_id, due_at, expires_at, lease_owner, lease_until, fence,
  reclaims, cancel_asked_at, was_leased, next_call;

-- name: claim_ingest.postgres
-- Lease stores whose files are to be indexed: those of the projects that hold the fewest leases
-- first, then the oldest, so that one project's many stores do not keep others waiting. Another
-- worker may take one meanwhile: then this claim brings one less.
with held as (
  select project, count(*) as leases from jobs
  where lease_owner is not null and lease_until > :now and kind = 'ingest'
  group by project
),
waiting as (
  select jobs.id, jobs.due_at,
    coalesce(held.leases, 0) + row_number() over (
      partition by jobs.project order by jobs.due_at, jobs.id
    ) as place
  from jobs left join held on held.project = jobs.project
  where jobs.kind = 'ingest' and jobs.due_at <= :now
    and (jobs.lease_owner is null or jobs.lease_until <= :now)
),
free as (
  select id from jobs
  where id in (select id from waiting order by place, due_at, id limit :free)
    and kind = 'ingest' and (lease_owner is null or lease_until <= :now)
  for update skip locked
)
update jobs
set lease_owner = :owner,
    lease_until = :lease_until,
    fence = fence + 1,
    reclaims = reclaims + case when lease_owner is not null then 1 else 0 end,
    was_leased = lease_owner is not null
where id in (select id from free)
returning id, kind, project, thread_id, due_at, expires_at, lease_owner, lease_until, fence,
  reclaims, cancel_asked_at, was_leased, next_call;

-- name: renew_leases.sqlite
-- Prolong leases that nobody took; :held is a JSON array of [id, fence].
update jobs set lease_until = :lease_until
where lease_owner = :owner
  and (id, fence) in (select value ->> 0, value ->> 1 from json_each(:held))
returning id, fence, cancel_asked_at;

-- name: renew_leases.postgres
-- Prolong leases that nobody took; :held is a JSON array of [id, fence]. Who locks many jobs locks
-- them by their ids: save_deltas does so, too.
with held as (
  select jobs.id from json_array_elements(cast(:held as json)) as one
  join jobs on jobs.id = one ->> 0 and jobs.fence = (one ->> 1)::bigint
    and jobs.lease_owner = :owner
  order by jobs.id
  for no key update of jobs
)
update jobs set lease_until = :lease_until
from held
where jobs.id = held.id
returning jobs.id, jobs.fence, jobs.cancel_asked_at;

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
insert into jobs (
  id, kind, project, thread_id, due_at, expires_at, lease_owner, lease_until, fence, next_call
)
values (
  :id, :kind, :project, :thread_id, :due_at, :expires_at, :lease_owner, :lease_until, :fence,
  :next_call
);

-- name: wake_job
-- A job that is looked at no later than :due_at; one that is there is brought forward.
insert into jobs (id, kind, project, due_at, fence)
values (:id, :kind, :project, :due_at, 0)
on conflict (id) do update
set due_at = case when jobs.due_at < excluded.due_at then jobs.due_at else excluded.due_at end;

-- name: replace_job
-- A job in the place of another one: whoever held that one holds nothing any more.
insert into jobs (id, kind, project, due_at, fence)
values (:id, :kind, :project, :due_at, 0)
on conflict (id) do update
set kind = excluded.kind, project = excluded.project, due_at = excluded.due_at,
    fence = jobs.fence + 1, lease_owner = null, lease_until = null, reclaims = 0, next_call = null;

-- name: hold_job.sqlite
-- The job is still its holder's, and no cancel was asked unless that is fine.
select id from jobs
where id = :id and lease_owner = :owner and fence = :fence
  and (:cancelled_ok or cancel_asked_at is null);

-- name: hold_job.postgres
-- The job is still its holder's, and no cancel was asked unless that is fine.
select id from jobs
where id = :id and lease_owner = :owner and fence = :fence
  and (cast(:cancelled_ok as boolean) or cancel_asked_at is null)
for update;

-- name: rest_job
-- Give the lease back.
update jobs set lease_owner = null, lease_until = null, due_at = :due_at, next_call = null
where id = :id and fence = :fence;

-- name: hand_over_job
-- End a lease in good order: the claim that follows counts a reclaim, so one is taken off. A renewal
-- that is on its way finds another owner, and does not bring the lease back.
update jobs set lease_owner = 'nobody', lease_until = :now, reclaims = reclaims - 1
where id = :id and lease_owner = :owner and fence = :fence;

-- name: take_job
-- Take the next fence of a job that nobody holds.
update jobs
set fence = fence + 1, lease_owner = :owner, lease_until = :lease_until, due_at = :due_at,
    next_call = :next_call
where id = :id and fence = :fence and (lease_owner is null or lease_until <= :now);

-- name: ask_cancel
-- Mark a job as to be cancelled, once.
update jobs set cancel_asked_at = :now
where id = :id and cancel_asked_at is null;

-- name: delete_job
-- The work is over, said by the holder of the fence.
delete from jobs where id = :id and fence = :fence;

-- name: drop_job
-- The work is over, whoever holds it.
delete from jobs where id = :id;


-- Nodes.

-- name: keep_node
-- A server is alive.
insert into nodes (id, role, version, started_at, seen_at, live_runs)
values (:id, :role, :version, :now, :now, :live_runs)
on conflict (id) do update set seen_at = excluded.seen_at, live_runs = excluded.live_runs;

-- name: nodes
-- The servers that were seen since a moment.
select id, role, version, started_at, seen_at, live_runs from nodes
where seen_at > :since
order by started_at, id;

-- name: drop_node
-- A server ends in good order.
delete from nodes where id = :id;

-- name: pin
-- Where the session of a thread's code is.
select node from pins where thread_id = :thread_id and until > :now;

-- name: keep_pin
-- The session of a thread's code is here now, wherever it was.
insert into pins (thread_id, node, until) values (:thread_id, :node, :until)
on conflict (thread_id) do update set node = excluded.node, until = excluded.until;

-- name: drop_pins
-- A server ends, and its sessions with it.
delete from pins where node = :id;

-- name: forget_pins
-- Sessions that are gone by now.
delete from pins where until < :before;

-- name: forget_nodes
-- Servers that were not seen for long.
delete from nodes where seen_at < :before;


-- Events and the journal.

-- name: append_events
-- A stretch of a run's log.
insert into events (run_id, fence, seq_from, seq_to, kind, created_at, frames)
values (:run_id, :fence, :seq_from, :seq_to, :kind, :created_at, :frames);

-- name: append_deltas
-- A stretch of deltas of a run's log. A save of its first ones may have happened unheard.
insert into events (run_id, fence, seq_from, seq_to, kind, created_at, frames)
values (:run_id, :fence, :seq_from, :seq_to, 'delta', :created_at, :frames)
on conflict (run_id, fence, seq_from) do update
set seq_to = excluded.seq_to, frames = excluded.frames
where events.seq_to < excluded.seq_to;

-- name: save_deltas.sqlite
-- A stretch of deltas of a run whose job is still its holder's; else nothing. As above.
insert into events (run_id, fence, seq_from, seq_to, kind, created_at, frames)
select :run_id, :fence, :seq_from, :seq_to, 'delta', :created_at, :frames
where exists (
  select 1 from jobs where id = :run_id and fence = :fence and lease_owner = :owner
)
on conflict (run_id, fence, seq_from) do update
set seq_to = excluded.seq_to, frames = excluded.frames
where events.seq_to < excluded.seq_to;

-- name: save_deltas.postgres
-- Stretches of deltas of the runs whose jobs are still their holder's, and stay so until these are
-- there. They may be lost with the server, for then their turns are made again. As above.
with soon as materialized (
  select set_config('synchronous_commit', 'off', true)
),
held as (
  select row from soon, json_array_elements(cast(:rows as json)) as row
  join jobs on jobs.id = row ->> 0 and jobs.fence = (row ->> 1)::bigint
    and jobs.lease_owner = row ->> 6
  order by jobs.id
  for share of jobs
)
insert into events (run_id, fence, seq_from, seq_to, kind, created_at, frames)
select row ->> 0, (row ->> 1)::bigint, (row ->> 2)::bigint, (row ->> 3)::bigint, 'delta',
  (row ->> 4)::double precision,
  substring(cast(:bytes as bytea) from (row -> 5 ->> 0)::integer for (row -> 5 ->> 1)::integer)
from held
on conflict (run_id, fence, seq_from) do update
set seq_to = excluded.seq_to, frames = excluded.frames
where events.seq_to < excluded.seq_to;

-- name: events
-- The rows of a run's log that hold anything after a place.
select run_id, fence, seq_from, seq_to, kind, created_at, frames
from events
where run_id = :run_id and (fence > :fence or (fence = :fence and seq_to > :seq))
order by fence, seq_from;

-- name: prune_deltas.sqlite
-- Old deltas of runs that are at rest.
delete from events
where (run_id, fence, seq_from) in (
  select run_id, fence, seq_from from events
  where kind = 'delta' and created_at < :before
    and not exists (select 1 from jobs where jobs.id = events.run_id)
  limit :limit
)
returning run_id;

-- name: prune_deltas.postgres
-- Old deltas of runs that are at rest, without those that another server is removing.
delete from events
where (run_id, fence, seq_from) in (
  select run_id, fence, seq_from from events
  where kind = 'delta' and created_at < :before
    and not exists (select 1 from jobs where jobs.id = events.run_id)
  limit :limit
  for update skip locked
)
returning run_id;

-- name: start_call
-- An outside call is about to start.
insert into journal (run_id, key, attempt, fence, started_at)
values (:run_id, :key, :attempt, :fence, :started_at);

-- name: end_call
-- How an outside call ended.
update journal set ended_at = :ended_at, outcome = :outcome
where run_id = :run_id and key = :key and attempt = :attempt;

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
where id = :id and revoked_at is null;


-- Vector stores and the search index. A document is building, ready or gone; only ready ones
-- are found. Every change of what a search may find makes the store's version grow.

-- name: insert_store
-- The hot numbers of a new vector store.
insert into stores (id, project, last_active_at) values (:id, :project, :now);

-- name: touch_store
-- A vector store was used.
update stores set last_active_at = :now where id = :id and last_active_at < :now;

-- name: store_facts.sqlite
-- The hot numbers of vector stores, a row per status of their files; :ids is a JSON array.
select stores.id, stores.last_active_at, stores.size_bytes, stores.embedding_model,
  counts.status, counts.files
from stores left join (
  select parent, body ->> 'status' as status, count(*) as files
  from objects
  where kind = 'vector_store_file' and parent in (select value from json_each(:ids))
  group by parent, body ->> 'status'
) as counts on counts.parent = stores.id
where stores.id in (select value from json_each(:ids));

-- name: store_facts.postgres
-- The hot numbers of vector stores, a row per status of their files; :ids is a JSON array.
select stores.id, stores.last_active_at, stores.size_bytes, stores.embedding_model,
  counts.status, counts.files
from stores left join (
  select parent, body ->> 'status' as status, count(*) as files
  from objects
  where kind = 'vector_store_file' and parent = any (texts(:ids))
  group by parent, body ->> 'status'
) as counts on counts.parent = stores.id
where stores.id = any (texts(:ids));

-- name: count_statuses.sqlite
-- How many of these objects have which status; :ids is a JSON array.
select body ->> 'status', count(*)
from objects
where id in (select value from json_each(:ids)) and kind = 'vector_store_file'
group by body ->> 'status';

-- name: count_statuses.postgres
-- How many of these objects have which status; :ids is a JSON array.
select body ->> 'status', count(*)
from objects
where id = any (texts(:ids)) and kind = 'vector_store_file'
group by body ->> 'status';

-- name: indexes.sqlite
-- What searches must know of vector stores; :ids is a JSON array.
select number, id, project, version, last_active_at, chunks, words, trust, size_bytes,
  embedding_model, dimensions
from stores
where id in (select value from json_each(:ids)) and project = :project;

-- name: indexes.postgres
-- What searches must know of vector stores; :ids is a JSON array.
select number, id, project, version, last_active_at, chunks, words, trust, size_bytes,
  embedding_model, dimensions
from stores
where id = any (texts(:ids)) and project = :project;

-- name: ready_documents
-- The documents of a store that searches may find.
select number, file_id, filename, attributes, parts
from documents
where store = :store and state = 'ready'
order by number;

-- name: document
-- A file in a store, unless it is gone.
select number, store, file_id, state, attempts, parts, chunks, words, size_bytes
from documents
where file_id = :file_id and state <> 'gone'
  and store = (select number from stores where id = :store_id and project = :project);

-- name: file_names.sqlite
-- Names of files that searches may find, and how many files there are; :ids is a JSON array.
select filename, count(*) over () from documents
where state = 'ready' and store in (
  select number from stores
  where id in (select value from json_each(:ids)) and project = :project
)
order by number
limit :limit;

-- name: file_names.postgres
-- Names of files that searches may find, and how many files there are; :ids is a JSON array.
select filename, count(*) over () from documents
where state = 'ready' and store in (
  select number from stores
  where id = any (texts(:ids)) and project = :project
)
order by number
limit :limit;

-- name: store_referenced
-- Another assistant or thread that names a vector store.
select id from objects
where kind in ('assistant', 'thread') and project = :project
  and (body -> 'tool_resources' -> 'file_search' -> 'vector_store_ids' ->> 0) = :store_id
  and id <> :besides
limit 1;

-- name: postings.sqlite
-- The postings of terms in stores; :terms and :stores are JSON arrays.
select term, document, data from postings
where store in (select value from json_each(:stores))
  and term in (select value from json_each(:terms));

-- name: postings.postgres
-- The postings of terms in stores; :terms and :stores are JSON arrays.
select term, document, data from postings
where store = any (numbers(:stores))
  and term = any (texts(:terms));

-- name: count_postings.sqlite
-- How many bytes of postings each term has in stores; :terms and :stores are JSON arrays.
select term, sum(length(data)) from postings
where store in (select value from json_each(:stores))
  and term in (select value from json_each(:terms))
group by term;

-- name: count_postings.postgres
-- How many bytes of postings each term has in stores; :terms and :stores are JSON arrays.
select term, sum(length(data))::bigint from postings
where store = any (numbers(:stores))
  and term = any (texts(:terms))
group by term;

-- name: vectors.sqlite
-- The vectors of documents; :documents is a JSON array.
select document, owners, vectors from parts
where document in (select value from json_each(:documents)) and vectors is not null
order by document, part;

-- name: vectors.postgres
-- The vectors of documents; :documents is a JSON array.
select document, owners, vectors from parts
where document = any (numbers(:documents)) and vectors is not null
order by document, part;

-- name: vector_rows.postgres
-- Single vectors, by their places in parts; :places is a JSON array of [document, part, place], of
-- vectors of so many bytes. The offset as in chunk_spans.
select found.document, found.part, found.place, found.vector
from json_array_elements(cast(:places as json)) as wanted
cross join lateral (
  select document, part, (wanted ->> 2)::integer as place,
    substring(vectors from (wanted ->> 2)::integer * :size_bytes + 1 for :size_bytes) as vector
  from parts
  where document = (wanted ->> 0)::bigint and part = (wanted ->> 1)::integer
  offset 0
) as found;

-- name: halved.postgres
-- Those of the documents all of whose vectors the server can compare; :documents is a JSON array. Who
-- restores one table without the other must not be told that there is nothing to be found. The offset
-- as in chunk_spans.
select document from halved
where document = any (numbers(:documents))
  and exists (select 1 from halves where halves.document = halved.document offset 0);

-- name: nearest.postgres
-- The vectors of documents that are most like a query, as halves; :documents is a JSON array.
select document, part, place, ordinal, score
from nearest_halves(numbers(:documents), :query, :most);

-- name: chunk_spans.sqlite
-- Where chunks are in their documents; :places is a JSON array of [document, ordinal].
select chunks.document, chunks.ordinal, chunks.start, chunks.stop
from json_each(:places) as place
join chunks on chunks.document = place.value ->> 0 and chunks.ordinal = place.value ->> 1;

-- name: chunk_spans.postgres
-- Where chunks are in their documents; :places is a JSON array of [document, ordinal]. The offset
-- keeps it to the index: else a table that was never analysed is read from end to end.
select found.document, found.ordinal, found.start, found.stop
from json_array_elements(cast(:places as json)) as place
cross join lateral (
  select document, ordinal, start, stop from chunks
  where document = (place ->> 0)::bigint and ordinal = (place ->> 1)::bigint
  offset 0
) as found;

-- name: chunk_texts.sqlite
-- The rows of chunks that belong to stretches; :stretches is a JSON array of
-- [document, first ordinal, last ordinal].
select chunks.document, chunks.ordinal, chunks.start, chunks.stop, chunks.text
from json_each(:stretches) as stretch
join chunks on chunks.document = stretch.value ->> 0
  and chunks.ordinal between stretch.value ->> 1 and stretch.value ->> 2
order by chunks.document, chunks.ordinal;

-- name: chunk_texts.postgres
-- The rows of chunks that belong to stretches; :stretches is a JSON array of
-- [document, first ordinal, last ordinal]. The offset as in chunk_spans.
select found.document, found.ordinal, found.start, found.stop, found.text
from json_array_elements(cast(:stretches as json)) as stretch
cross join lateral (
  select document, ordinal, start, stop, text from chunks
  where document = (stretch ->> 0)::bigint
    and ordinal between (stretch ->> 1)::bigint and (stretch ->> 2)::bigint
  offset 0
) as found
order by found.document, found.ordinal;

-- name: text
-- The text of a document, in the order of its chunks, from an ordinal on.
select ordinal, text from chunks
where document = :document and ordinal >= :from
order by ordinal
limit :limit;

-- name: claim_embedder
-- The embedding model of a store, which never changes once it is known.
update stores set embedding_model = :model, dimensions = :dimensions
where number = :store
  and (embedding_model is null or (embedding_model = :model and dimensions = :dimensions))
returning number;

-- name: insert_document
-- A file that is about to be indexed; its number comes back.
insert into documents (store, file_id, project, state, attributes, filename)
values (:store, :file_id, :project, 'building', :attributes, :filename)
returning number;

-- name: try_document
-- A file that is being indexed is taken up once more.
update documents set attempts = attempts + 1 where number = :number;

-- name: insert_chunk.sqlite
-- A chunk of a document that is building.
insert into chunks (document, ordinal, start, stop, text)
values (:document, :ordinal, :start, :stop, :text);

-- name: insert_chunk.postgres
-- Chunks of a document that is building.
insert into chunks (document, ordinal, start, stop, text)
select (row ->> 0)::bigint, (row ->> 1)::bigint, (row ->> 2)::bigint, (row ->> 3)::bigint, row ->> 4
from json_array_elements(cast(:rows as json)) as row;

-- name: insert_posting.sqlite
-- Where a term stands in a part of a document.
insert into postings (store, term, document, part, data)
values (:store, :term, :document, :part, :data);

-- name: insert_posting.postgres
-- Where terms stand in parts of documents.
insert into postings (store, term, document, part, data)
select (row ->> 0)::bigint, row ->> 1, (row ->> 2)::bigint, (row ->> 3)::integer,
  substring(cast(:bytes as bytea) from (row -> 4 ->> 0)::integer for (row -> 4 ->> 1)::integer)
from json_array_elements(cast(:rows as json)) as row;

-- name: insert_part
-- A part of a document.
insert into parts (document, part, terms, owners, vectors)
values (:document, :part, :terms, :owners, :vectors);

-- name: grow_document
-- A part was added to a document that is building, the next one in order.
update documents
set attempts = 0, parts = parts + 1, chunks = chunks + :chunks, words = words + :words, trust = trust + :trust,
    size_bytes = size_bytes + :size_bytes
where number = :number and state = 'building' and parts = :part
returning number;

-- name: unhalved.postgres
-- The first document of a store behind a number that searches may find, and whose vectors are not all
-- there as halves. The offsets as in chunk_spans.
select number from documents
where store = :store and state = 'ready' and number > :after
  and (
    not exists (select 1 from halved where halved.document = documents.number offset 0)
    or not exists (select 1 from halves where halves.document = documents.number offset 0)
    and exists (
      select 1 from parts
      where parts.document = documents.number and octet_length(vectors) > 0
      offset 0
    )
  )
order by number
limit 1;

-- name: unhalved_parts.postgres
-- The first parts of a document whose vectors are not there as halves.
select part, owners, vectors from parts
where document = :document and octet_length(vectors) > 0
  and not exists (
    select 1 from halves where halves.document = parts.document and halves.part = parts.part
  )
order by part
limit :limit;

-- name: keep_halves.postgres
-- The vectors of a part as halves; what is there stays. Nothing is changed if the part is gone.
select keep_halves(:document, :part, :ordinals, :halves);

-- name: mark_halved.postgres
-- All vectors of a document are there as halves, if they are.
insert into halved (document)
select number from documents
where number = :document and state = 'ready' and not exists (
  select 1 from parts
  where parts.document = :document and octet_length(vectors) > 0 and not exists (
    select 1 from halves where halves.document = parts.document and halves.part = parts.part
  )
)
on conflict do nothing;

-- name: ready_document
-- A document is complete: searches find it from now on.
update documents set state = 'ready', attributes = :attributes
where number = :number and state = 'building'
returning number;

-- name: count_document
-- The store's sums, with a document that became ready.
update stores
set version = version + 1,
    chunks = stores.chunks + documents.chunks,
    words = stores.words + documents.words,
    trust = stores.trust + documents.trust,
    size_bytes = stores.size_bytes + documents.size_bytes
from documents
where documents.number = :number and stores.number = documents.store;

-- name: uncount_document
-- The store's sums, without a document of a file that is about to go.
update stores
set version = version + 1,
    chunks = stores.chunks - documents.chunks,
    words = stores.words - documents.words,
    trust = stores.trust - documents.trust,
    size_bytes = stores.size_bytes - documents.size_bytes
from documents
where documents.store = stores.number and documents.state = 'ready'
  and documents.file_id = :file_id and documents.project = :project
  and (cast(:store_id as text) is null or stores.id = :store_id);

-- name: drop_document
-- The document of a file goes, from one store or from all.
update documents set state = 'gone'
where file_id = :file_id and project = :project and state <> 'gone'
  and (
    cast(:store_id as text) is null
    or store = (select number from stores where id = :store_id)
  );

-- name: drop_documents
-- All documents of a store go.
update documents set state = 'gone'
where state <> 'gone'
  and store = (select number from stores where id = :store_id and project = :project);

-- name: abandon_documents
-- What was begun of a store's files and will not be finished goes.
update documents set state = 'gone'
where store = :store and state = 'building'
returning number;

-- name: delete_store
-- The hot numbers of a vector store go.
delete from stores where id = :store_id and project = :project;

-- name: bury_store_files
-- The tombstones of a file's places in vector stores.
insert into tombstones (id, kind, project, parent, created_at, seq)
select id, kind, project, parent, created_at, seq from objects
where kind = 'vector_store_file' and body ->> 'id' = :file_id and project = :project
on conflict (id) do update
set kind = excluded.kind, project = excluded.project, parent = excluded.parent,
    created_at = excluded.created_at, seq = excluded.seq;

-- name: delete_store_files
-- A file leaves all vector stores.
delete from objects
where kind = 'vector_store_file' and body ->> 'id' = :file_id and project = :project;

-- name: set_attributes
-- The attributes of a file in a store, as filters see them.
update documents set attributes = :attributes
where file_id = :file_id and state <> 'gone'
  and store = (select number from stores where id = :store_id);

-- name: touch_version
-- What searches of a store may find has changed.
update stores set version = version + 1 where id = :store_id;

-- name: gone_part
-- A part of a document that is gone.
select documents.number, documents.store, parts.part
from documents join parts on parts.document = documents.number
where documents.state = 'gone'
order by documents.number, parts.part
limit 1;

-- name: purge_postings.sqlite
-- The postings of a part go.
delete from postings
where store = :store and document = :document and part = :part and term in (
  select term.value from parts, json_each(parts.terms) as term
  where parts.document = :document and parts.part = :part
);

-- name: purge_postings.postgres
-- The postings of a part go.
delete from postings
where store = :store and document = :document and part = :part and term = any (texts((
  select terms from parts where parts.document = :document and parts.part = :part
)));

-- name: purge_part
-- A part goes.
delete from parts where document = :document and part = :part;

-- name: purge_chunks
-- Chunks of documents that are gone.
delete from chunks
where (document, ordinal) in (
  select chunks.document, chunks.ordinal
  from documents join chunks on chunks.document = documents.number
  where documents.state = 'gone'
  limit :limit
)
returning ordinal;

-- name: purge_documents
-- Documents that are gone and have nothing left.
delete from documents
where number in (
  select number from documents
  where state = 'gone'
    and not exists (select 1 from parts where parts.document = documents.number)
    and not exists (select 1 from chunks where chunks.document = documents.number)
  limit :limit
)
returning number;

-- name: wake_clean_up_if_gone
-- The job that removes what is gone, if anything is.
insert into jobs (id, kind, project, due_at, fence)
select :id, 'clean_up', '', :due_at, 0
where exists (select 1 from documents where state = 'gone')
on conflict (id) do update
set due_at = case when jobs.due_at < excluded.due_at then jobs.due_at else excluded.due_at end;

-- name: any_gone
-- A document that is gone and not removed yet.
select number from documents where state = 'gone' limit 1;

-- name: require_in_progress
-- A file of a store still waits to be indexed.
select id from objects
where id = :id and kind = 'vector_store_file' and project = :project
  and body ->> 'status' = 'in_progress';

-- name: any_in_progress
-- A file of a store that waits to be indexed.
select id from objects
where parent = :store_id and kind = 'vector_store_file' and body ->> 'status' = 'in_progress'
limit 1;


-- Copying whole tables (store/tables.py). While a copy is not finished, its target has a table that
-- says how far it is.

-- name: unfinished_copy.sqlite
-- A row where the record is an unfinished copy.
select 1 from sqlite_master where type = 'table' and name = 'copying';

-- name: unfinished_copy.postgres
-- A row where the record is an unfinished copy.
select 1 where to_regclass('copying') is not null;

-- name: create_copying
-- From now on the record is an unfinished copy.
create table copying (
  name text primary key,
  source text not null,
  place text,
  copied_rows bigint not null default 0,
  size_bytes bigint not null default 0,
  replaced bigint not null default 0,
  is_done boolean not null default false
);

-- name: begin_copying
-- Nothing of a table is copied yet.
insert into copying (name, source) values (:name, :source);

-- name: copying
-- How far the copy of each table is.
select source, name, place, copied_rows, size_bytes, replaced, is_done from copying;

-- name: keep_copying
-- A table is copied as far as this.
update copying
set place = :place, copied_rows = :copied_rows, size_bytes = :size_bytes, replaced = :replaced,
    is_done = :is_done
where name = :name;

-- name: drop_copying
-- The copy is finished.
drop table copying;

-- name: any_record.sqlite
-- A row where there is a record of whatever version.
select 1 from sqlite_master where type = 'table' and name = 'migrations';

-- name: any_record.postgres
-- A row where there is a record of whatever version.
select 1 where to_regclass('migrations') is not null;

-- name: first_migration
-- When the record was made.
select name, applied_at from migrations order by name limit 1;

-- name: columns.sqlite
-- All columns of all tables, with their types.
select tables.name, columns.name, columns.type
from sqlite_master as tables join pragma_table_info(tables.name) as columns
where tables.type = 'table' and tables.name not like 'sqlite\_%' escape '\'
order by tables.name, columns.cid;

-- name: columns.postgres
-- All columns of all tables, with their types.
select table_name, column_name, data_type from information_schema.columns
where table_schema = current_schema()
order by table_name, ordinal_position;

-- name: last_number.sqlite
-- The highest number that a table's counter has given.
select seq from sqlite_sequence where name = :table;

-- name: last_number.postgres
-- The highest number that a table's counter has given.
select pg_sequence_last_value(pg_get_serial_sequence(:table, :column)::regclass);

-- name: number_on.sqlite
-- A table's counter goes on behind a number.
delete from sqlite_sequence where name = :table;
insert into sqlite_sequence (name, seq) values (:table, :last);

-- name: number_on.postgres
-- A table's counter goes on behind a number.
select setval(pg_get_serial_sequence(:table, :column)::regclass, :last);


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

-- name: record_migration.postgres
-- A migration was applied.
insert into migrations (name, applied_at) values (:name, extract(epoch from clock_timestamp()));
