"""Code interpreter: one call of the tool within a run.

The thread's session gets the files that it lacks, runs the code while clients watch its logs, and
what it made becomes file objects. Whatever the code does, the answer is its logs; only a server
without a sandbox fails the run. A cancel or the run's deadline cancels the task that waits here:
the session stops the code, and nothing of the call is committed.
"""

from typing import TYPE_CHECKING

from understudy import limits
from understudy.engine import code_logs, code_outputs, pins, sandbox_files
from understudy.engine.answer import Answer, ToolOff
from understudy.engine.code_logs import Logs
from understudy.engine.code_outputs import Outputs
from understudy.engine.lease import Interrupted
from understudy.machine.code_input import code_of
from understudy.machine.code_output import answered
from understudy.machine.introduce import logs_delta
from understudy.machine.private import Call
from understudy.sandbox import Result, SandboxLost, SandboxUnavailable, Session
from understudy.wire.events import Event
from understudy.wire.steps import StepDelta, StepDeltaBody, ToolCallsDetails

if TYPE_CHECKING:
    from understudy.engine.drive import Driver


async def run_code(driver: "Driver", call: Call) -> Answer:
    """One call. Raises ToolOff when there is no sandbox."""
    logs = Logs(lambda piece: _show(driver, piece))
    try:
        for attempt in range(1, limits.CODE_LOST_SESSIONS + 1):
            session = await _session(driver)
            try:
                outputs = await _run(driver, session, code_of(call.arguments), logs)
            except SandboxLost:
                logs.say(code_logs.lost(attempt == limits.CODE_LOST_SESSIONS))
                continue
            return _answer(call, session, outputs, logs)
        return Answer(call=answered(call, logs.text, []), shown_logs=logs.shown)
    finally:
        logs.stop()


def _answer(call: Call, session: Session, outputs: Outputs, logs: Logs) -> Answer:
    return Answer(
        call=answered(call, logs.text, outputs.images),
        shown_logs=logs.shown,
        files=outputs.files,
        statements=outputs.statements,
        keys=outputs.keys,
        committed=lambda: session.notes.update(outputs.notes),
    )


async def _session(driver: "Driver") -> Session:
    """The thread's session. A thread that was just deleted gets no new one."""
    if driver.lease.reason is not None:
        raise Interrupted(driver.lease.reason)
    thread_id = driver.state.run.thread_id
    await pins.take(driver)
    try:
        return await driver.app.sandbox.session(thread_id)
    except SandboxUnavailable as off:
        raise ToolOff(
            f"code_interpreter is not available on this server: {off.cause} {off.remedy}"
        ) from off


async def _run(driver: "Driver", session: Session, code: str, logs: Logs) -> Outputs:
    """The code in this session, from its files to its outputs. Raises SandboxLost."""
    app, project = driver.app, driver.lease.project
    mounts = await driver.mounts(fresh=True)
    logs.say(*await sandbox_files.prepare(app, project, driver.state.run, session, mounts))
    left_s = driver.time_left_s
    timeout_s = limits.CODE_S if left_s is None else min(limits.CODE_S, left_s)
    result = await session.run(code, timeout_s=timeout_s, on_logs=logs.hear)
    logs.say(*code_logs.ended(result, timeout_s))
    return await _collected(driver, session, result, logs)


async def _collected(driver: "Driver", session: Session, result: Result, logs: Logs) -> Outputs:
    """What the code made, on its way into the record, and what the logs say of it."""
    images = code_outputs.shown(result.images)
    found = await code_outputs.changed(session)
    outputs = await code_outputs.saved(driver, session, images, found)
    dropped_images = result.dropped_images + len(result.images) - len(images)
    logs.say(*code_logs.dropped(result.dropped_bytes + logs.dropped_bytes, dropped_images))
    logs.say(*outputs.refused)
    logs.say(*code_logs.written([one.path for one in outputs.files]))
    return outputs


def _show(driver: "Driver", piece: str) -> None:
    """Clients see the next piece of the logs, as they see text."""
    assert driver.state.step is not None, "a call's step is open"
    body = StepDeltaBody(step_details=ToolCallsDetails(tool_calls=[logs_delta(piece)]))
    delta = StepDelta(id=driver.state.step.id, delta=body)
    driver.show([Event(name="thread.run.step.delta", data=delta)])
