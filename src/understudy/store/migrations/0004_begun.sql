-- What a run's driver begins with, for the claims that read it along.
-- postgres:
create function begun(
  of_run text, of_thread text, of_project text, most bigint, most_bytes bigint
)
returns table (place bigint, id text, version bigint, body text, private text) stable
begin atomic
  select 0 as place, run.id, run.version, run.body, run.private from objects as run
  where run.id = of_run and run.kind = 'run' and run.project = of_project
  union all
  select row_number() over (order by newest.created_at desc, newest.seq desc) as place, newest.id,
    newest.version, newest.body, newest.private
  from (
    select one.id, one.version, one.created_at, one.seq, one.private,
      case when octet_length(one.body) <= most_bytes then one.body end as body
    from objects as one
    where one.parent = of_thread and one.kind = 'message' and one.project = of_project
    order by one.created_at desc, one.seq desc
    limit most
  ) as newest;
end;
-- all:
