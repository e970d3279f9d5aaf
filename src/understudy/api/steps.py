"""Run steps (SPEC 7.5)."""

from understudy.api import objects
from understudy.api.operation import Call, operation
from understudy.api.runs import load_run
from understudy.machine.introduce import without_content
from understudy.store.records import Listed
from understudy.wire.base import ListOf
from understudy.wire.query import ListQuery
from understudy.wire.steps import Step

TAG = "Run steps"


@operation("GET", "/threads/{thread_id}/runs/{run_id}/steps", tag=TAG, beta=True)
async def list_run_steps(
    call: Call, thread_id: str, run_id: str, page: ListQuery, include: list[str]
) -> ListOf[Step]:
    """List the steps of a run, newest first."""
    await load_run(call, thread_id, run_id)

    def render(record: Listed) -> Step:
        return _shown(objects.decode_record(record, Step), include)

    return await objects.page(call, "step", Step, page, parent=run_id, render=render)


@operation("GET", "/threads/{thread_id}/runs/{run_id}/steps/{step_id}", tag=TAG, beta=True)
async def get_run_step(
    call: Call, thread_id: str, run_id: str, step_id: str, include: list[str]
) -> Step:
    """Retrieve a run step."""
    await load_run(call, thread_id, run_id)
    loaded = await objects.load(call, "step", step_id, Step, parent=run_id)
    return _shown(loaded.object, include)


def _shown(step: Step, include: list[str]) -> Step:
    """The text of search results is there only for who asks; else the key is absent."""
    return step if include else without_content(step)
