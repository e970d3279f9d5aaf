-- A record as it is after some weeks: 50,000 objects, 5,000 jobs, 25,000 events and an index.
insert into objects (id, kind, project, parent, created_at, body)
select 'thread_' || n, 'thread', 'proj_' || n % 50, '', n,
  '{"tool_resources":{"file_search":{"vector_store_ids":["vs_' || n % 50 || '"]}}}'
from generate_series(1, 1250) as n;
insert into objects (id, kind, project, parent, created_at, body)
select 'asst_' || n, 'assistant', 'proj_' || n % 50, '', n, '{"tool_resources":{}}'
from generate_series(1, 500) as n;
-- A thread of very many messages, and many of some.
insert into objects (id, kind, project, parent, created_at, body, private)
select 'msg_' || n, 'message', 'proj_' || thread % 50, 'thread_' || thread, n,
  '{"run_id":"run_' || n / 8 || '","metadata":{},"content":"' || repeat('x', 200) || '"}', '{}'
from (
  select n, case when n <= 5000 then 1 else 2 + n % 1249 end as thread
  from generate_series(1, 32500) as n
) as one;
insert into objects (id, kind, project, parent, created_at, body)
select 'run_' || n, 'run', 'proj_' || thread % 50, 'thread_' || thread, n, '{"status":"completed"}'
from (
  select n, case when n <= 600 then 1 else 2 + n % 1249 end as thread
  from generate_series(1, 4000) as n
) as one;
insert into objects (id, kind, project, parent, created_at, body)
select 'step_' || n, 'step', 'proj_1', 'run_' || 1 + n % 4000, n, '{}'
from generate_series(1, 5500) as n;
insert into objects (id, kind, project, parent, created_at, body)
select 'file-' || n, 'file', 'proj_' || n % 50, '', n,
  '{"purpose":"' || case when n % 10 = 0 then 'user_data' else 'assistants' end || '"}'
from generate_series(1, 2500) as n;
-- A vector store of very many files, and many of some.
insert into objects (id, kind, project, parent, created_at, body)
select 'vs_' || store || '/file-' || file, 'vector_store_file', 'proj_' || store, 'vs_' || store,
  file, '{"id":"file-' || file || '","status":"'
  || case when file % 1000 = 0 then 'in_progress' else 'completed' end || '"}'
from (
  select 0 as store, n as file from generate_series(1, 2000) as n
  union all select 1 + n % 49, n from generate_series(1, 1750) as n
) as one;
insert into stores (id, project, last_active_at)
select 'vs_' || n, 'proj_' || n, 1 from generate_series(0, 49) as n;
insert into documents (store, file_id, project, state, attributes, filename, parts)
select stores.number, objects.body ->> 'id', objects.project, 'ready', '{}', 'a', 2
from objects join stores on stores.id = objects.parent
where objects.kind = 'vector_store_file';
insert into parts select number, part, '["a"]', '\x00', '\x00010203'
from documents, generate_series(0, 1) as part;
insert into chunks select number, chunk, chunk, chunk + 1, repeat('word ', 20)
from documents, generate_series(0, 3) as chunk;
insert into postings select store, 'term' || (number * 7 + term) % 3000, number, 0, '\x0001'
from documents, generate_series(0, 7) as term;
insert into tombstones select 'gone_' || n, 'message', 'proj_1', 'thread_' || n % 1250, n, n
from generate_series(1, 5000) as n;
insert into idempotency select 'proj_' || n % 50, 'key_' || n, 'hash', n, '{}', null
from generate_series(1, 5000) as n;
insert into journal select 'run_' || 1 + n % 4000, 'turn-' || n / 4000, 1, 1, n, n, 'done'
from generate_series(1, 10000) as n;
insert into keys select 'key_' || n, 'proj_' || n % 50, 'hash_' || n, 'sk-', 'n', n, null
from generate_series(1, 1250) as n;
insert into events
select 'run_' || 1 + n % 500, 1, n / 500 * 3, n / 500 * 3 + 2,
  case when n % 50 = 0 then 'life' else 'delta' end, n, '\x00010203'
from generate_series(0, 24999) as n;
-- Queued runs: the backlog of one project, and some of others.
insert into jobs (id, kind, project, thread_id, due_at, expires_at, fence, next_call)
select 'run_q' || n, 'run', case when n <= 2500 then 'proj_big' else 'proj_' || n % 5 end, 'q' || n,
  n, 1e10, 0, 'turn-1'
from generate_series(1, 2550) as n;
-- Runs that are driven, those that wait for their client, and what else there is to do.
insert into jobs (id, kind, project, thread_id, due_at, expires_at, fence, lease_owner, lease_until)
select 'run_l' || n, 'run', 'proj_' || n % 50, 'l' || n, n, 1e10, 1,
  case when n <= 500 then 'me' else 'w' || n % 20 end, 1e9
from generate_series(1, 1300) as n;
insert into jobs (id, kind, project, thread_id, due_at, expires_at, fence)
select 'run_w' || n, 'run', 'proj_' || n % 50, 'w' || n, 2e9, 2e9, 1
from generate_series(1, 1000) as n;
insert into jobs (id, kind, project, due_at, fence)
select 'vs_' || n, 'ingest', 'proj_' || n, n, 0 from generate_series(0, 49) as n;
insert into jobs (id, kind, project, due_at, fence)
select 'purge_' || n, 'purge', 'proj_' || n % 50, 2e9, 0 from generate_series(1, 100) as n;
analyze;
