"""Code in runs: its files, state, logs, images and outputs."""

import pytest

from tests.crash.checks import check_order
from tests.crash.client import events_in as events
from tests.engine.coding import (
    CODE,
    PNG,
    Troubled,
    answers,
    begin,
    calls,
    done,
    download,
    logs,
    outputs,
    ran,
    runs,
    says,
    upload,
)
from tests.engine.stage import FUNCTION, Clock, Stage, opened_stage
from tests.engine.test_stops import saved
from understudy import limits
from understudy.sandbox import SandboxLost
from understudy.store.store import Store

# Files.


@pytest.mark.assertion(203)
async def test_files_are_read_by_their_names_and_ids(coder: Stage) -> None:
    one = await upload(coder, "a b.csv", b"of the assistant")
    other = await upload(coder, "folder/a b.csv", b"of the thread")
    thread = (
        await coder.post(
            "/threads", {"tool_resources": {"code_interpreter": {"file_ids": [other]}}}
        )
    )["id"]
    code = (
        "import os\n"
        f"for name in ['a b.csv', 'a b (2).csv', '{one}', '{other}']:\n"
        "    print(open('/mnt/data/' + name).read())"
    )
    printed = await ran(coder, code, files=[one], thread=thread)
    assert printed == "of the assistant\nof the thread\nof the assistant\nof the thread\n"


async def test_deleted_files_are_not_there(coder: Stage) -> None:
    one = await upload(coder, "x.csv", b"gone")
    other = await upload(coder, "x.csv", b"there")
    assistant_files = [one, other]
    run = await begin(
        coder,
        [{"delay_ms": 150}, runs("print(open('/mnt/data/x.csv').read())")],
        [says("ok")],
        files=assistant_files,
    )
    assert (await coder.http.delete(f"/files/{one}")).status_code == 200
    await coder.rested(run)
    assert await logs(coder, run) == ["there\n"]


async def test_a_file_that_was_only_read_makes_no_file(coder: Stage) -> None:
    one = await upload(coder, "x.csv", b"1,2")
    run = await done(coder, [runs("open('/mnt/data/x.csv').read()")], [says("ok")], files=[one])
    assert await logs(coder, run) == ["'1,2'\n"]
    assert await outputs(coder) == []
    (message,) = await answers(coder, run)
    assert message["attachments"] == []


@pytest.mark.assertion(207)
async def test_a_written_file_is_linked_attached_and_downloaded(coder: Stage) -> None:
    one = await upload(coder, "in.csv", b"1,2")
    to = "sandbox:/mnt/data"
    link = f"[in]({to}/in.csv) [new]({to}/out/new%20one.csv) [x]({to}/x)"
    code = (
        "import os\nos.mkdir('/mnt/data/out')\n"
        "open('/mnt/data/out/new one.csv', 'w').write('3')\n"
        "open('/mnt/data/in.csv', 'a').write(',3');"
    )
    run = await done(coder, [runs(code)], [says(link)], files=[one])
    (printed,) = await logs(coder, run)
    assert printed.endswith("[Files written: /mnt/data/in.csv, /mnt/data/out/new one.csv]\n")
    (message,) = await answers(coder, run)
    text = message["content"][0]["text"]
    notes = text["annotations"]
    assert [note["text"] for note in notes] == [
        "sandbox:/mnt/data/in.csv",
        "sandbox:/mnt/data/out/new%20one.csv",
    ]
    for note in notes:
        assert text["value"][note["start_index"] : note["end_index"]] == note["text"]
    ids = [note["file_path"]["file_id"] for note in notes]
    assert ids[0] != one, "what it became, not what it was"
    assert [await download(coder, id) for id in ids] == [b"1,2,3", b"3"]
    assert message["attachments"] == [
        {"file_id": id, "tools": [{"type": "code_interpreter"}]} for id in ids
    ]
    files = await outputs(coder)
    assert [file["filename"] for file in files] == ["in.csv", "new one.csv"]
    assert [file["bytes"] for file in files] == [5, 1]


async def test_a_file_is_stored_again_only_when_it_changes(coder: Stage) -> None:
    write = "open('/mnt/data/x', 'w').write('1');"
    run = await done(
        coder,
        [runs(write)],
        [runs("1")],
        [runs("open('/mnt/data/x', 'a').write('2');")],
        [says("ok")],
    )
    first, second, third = await logs(coder, run)
    assert "Files written" in first and "Files written" not in second and "Files written" in third
    (message,) = await answers(coder, run)
    (attached,) = message["attachments"]
    assert await download(coder, attached["file_id"]) == b"12"


async def test_what_is_over_the_limits_is_refused_in_the_logs(
    coder: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CODE_FILE_BYTES", 3)
    monkeypatch.setattr(limits, "CODE_FILES", 2)
    code = "\n".join(f"open('/mnt/data/{n}', 'w').write('x' * {n});" for n in (2, 4, 1))
    run = await done(coder, [runs(code)], [runs("1")], [runs("2")], [says("ok")])
    first, second, third = await logs(coder, run)
    assert "[1 more files were not saved: at most 2 are with one call." in first
    assert "[4 was not saved: it has 4 bytes, and 3 are allowed.]" in first + second
    assert third == "2\n", "the rest came with the second call"
    assert sorted(file["filename"] for file in await outputs(coder)) == ["1", "2"]


async def test_names_that_are_no_names_are_refused_in_the_logs(coder: Stage) -> None:
    printed = await ran(
        coder, "open('/mnt/data/ ', 'w').write('x'); open('/mnt/data/a\\n', 'w').write('x');"
    )
    assert "[A file was not saved: it has no name.]" in printed
    assert [file["filename"] for file in await outputs(coder)] == ["a_"]


# Images.


@pytest.mark.assertion(206)
async def test_an_image_is_an_output_a_part_of_the_message_and_a_file(
    coder: Stage, sandbox: Troubled
) -> None:
    sandbox.images = [PNG, b"<script>", PNG + b"2"]
    run = await done(coder, [runs("1")], [says("A chart.")])
    (call,) = await calls(coder, run)
    assert call["outputs"][0]["logs"].startswith("1\n[1 images were dropped")
    ids = [one["image"]["file_id"] for one in call["outputs"][1:]]
    assert [await download(coder, id) for id in ids] == [PNG, PNG + b"2"]
    assert [file["filename"] for file in await outputs(coder)] == [f"{id}.png" for id in ids]
    (message,) = await answers(coder, run)
    *images, text = message["content"]
    assert [one["image_file"]["file_id"] for one in images] == ids
    assert text["text"]["value"] == "A chart."
    assert message["attachments"] == []


# State.


@pytest.mark.assertion(204)
async def test_variables_last_from_run_to_run_in_one_thread_only(coder: Stage) -> None:
    thread = await coder.thread()
    assert await ran(coder, "x = 41", thread=thread) == ""
    assert await ran(coder, "x + 1", thread=thread) == "42\n"
    assert "NameError" in await ran(coder, "x")


async def test_a_new_session_gets_the_files_back_and_says_what_is_lost(
    coder: Stage, sandbox: Troubled
) -> None:
    one = await upload(coder, "in.csv", b"1")
    code = "x = 1\nopen('/mnt/data/out.csv', 'w').write('2');"
    run = await done(coder, [runs(code)], [says("ok")], files=[one])
    thread = run["thread_id"]
    await sandbox.forget(thread)
    read = "print(open('/mnt/data/in.csv').read(), open('/mnt/data/out.csv').read())"
    printed = await ran(coder, read, thread=thread, files=[one])
    assert printed == (
        "[The session was restarted: variables of earlier calls are lost, files were put back.]\n"
        "1 2\n"
    )
    assert await ran(coder, "3", thread=thread, files=[one]) == "3\n", "once is enough"
    linked = await done(coder, [says("sandbox:/mnt/data/out.csv")], thread=thread)
    (message,) = await answers(coder, linked)
    assert len(message["content"][0]["text"]["annotations"]) == 1, "a later run can link it"


async def test_a_deleted_threads_session_ends(coder: Stage, sandbox: Troubled) -> None:
    run = await done(coder, [runs("x = 1")], [says("ok")])
    session = await sandbox.session(run["thread_id"])
    assert (await coder.http.delete(f"/threads/{run['thread_id']}")).status_code == 200
    with pytest.raises(SandboxLost):
        await session.run("x", timeout_s=5, on_logs=lambda text: None)


# What it prints.


@pytest.mark.assertion(208)
async def test_errors_and_endless_loops_are_logs_and_the_run_goes_on(
    coder: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CODE_S", 1.0)
    run = await done(
        coder, [runs("x = 1\n1/0")], [runs("while True: pass")], [runs("x")], [says("ok")]
    )
    error, loop, after = await logs(coder, run)
    assert "ZeroDivisionError" in error
    assert (
        "The code was stopped: it ran longer than 0 seconds. Variables and files are kept." in loop
        or "1 seconds" in loop
    )
    assert after == "1\n"


async def test_a_process_that_dies_loses_its_variables_and_says_so(coder: Stage) -> None:
    code = "x = 1\nprint('before', flush=True)\nimport os\nos._exit(1)"
    run = await done(coder, [runs(code)], [runs("x")], [says("ok")])
    died, after = await logs(coder, run)
    assert died == (
        "before\n[The Python process ended while the code ran. All variables are lost; the files "
        "under /mnt/data are kept.]\n"
    )
    assert "NameError" in after


async def test_logs_are_shown_while_the_code_runs(coder: Stage, sandbox: Troubled) -> None:
    code = "import time\nprint('on' + 'e', flush=True)\ntime.sleep(0.3)\nprint('two')"
    run = await begin(coder, [runs(code)], [says("ok")])
    await saved(coder, run, b"one\\n")
    assert (await coder.run(run))["status"] == "in_progress"
    await coder.rested(run)
    assert await logs(coder, run) == ["one\ntwo\n"]


async def test_more_than_a_call_may_print_is_dropped_and_counted(
    coder: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CODE_LOGS_BYTES", 100)
    printed = await ran(coder, "print('é' * 100)")
    assert printed == "é" * 50 + "\n[101 bytes of output were dropped: print less.]\n"


async def test_a_server_without_sandbox_fails_the_run_with_cause_and_remedy(
    store: Store, clock: Clock
) -> None:
    async with opened_stage(store, clock) as stage:
        run = await stage.rested(await begin(stage, [runs("1")], [says("never")]))
    assert run["status"] == "failed"
    assert run["last_error"]["message"] == (
        "code_interpreter is not available on this server: Tests have no sandbox. Give them one."
    )


# Beside other tools.


async def test_code_functions_and_a_forced_choice_go_together(coder: Stage) -> None:
    turns = [[{"call": {"name": "look_up", "arguments": {}}}, runs("1")], [says("Done.")]]
    run = await begin(coder, *turns, tools=[CODE, FUNCTION], tool_choice=CODE)
    waiting = await coder.until(run, "requires_action")
    await coder.answer(waiting)
    assert (await coder.rested(run))["status"] == "completed"
    check_order(events(await coder.frames(run)))
    assert await logs(coder, run) == ["1\n"]
