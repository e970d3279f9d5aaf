"""code_interpreter: its files, variables, charts, links and failures, with and without a stream."""

from typing import Any

from openai.types.beta.threads import FilePathAnnotation, Run, TextContentBlock

from tests.acceptance.client.scene import Scene, call, rehearse, same, scenario

TOOLS: Any = [{"type": "code_interpreter"}]
CITIES = ("Größen.csv", b"city,people\nOslo,700\nRome,2800\n")
CHART = "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.show()\n"
PNG = b"\x89PNG\r\n\x1a\n"


def code(text: str, pieces: int = 2) -> dict[str, Any]:
    """A script's step: run this code, which comes in so many pieces (the first is the name)."""
    step = call("code_interpreter", code=text)
    step["call"]["pieces"] = pieces
    return step


def end(text: str = "That is all.") -> list[dict[str, Any]]:
    """A script's turn: say this."""
    return [{"text": text}]


def calls_of(scene: Scene, run: Run) -> list[Any]:
    """The code calls of a run, in order."""
    steps = scene.client.beta.threads.runs.steps.list(run.id, thread_id=run.thread_id, order="asc")
    return [
        one.code_interpreter
        for step in steps
        if step.step_details.type == "tool_calls"
        for one in step.step_details.tool_calls
        if one.type == "code_interpreter"
    ]


def logs_of(scene: Scene, run: Run) -> list[str]:
    """What each code call printed."""
    same(run.status, "completed")
    return [
        "".join(output.logs for output in one.outputs if output.type == "logs")
        for one in calls_of(scene, run)
    ]


@scenario(203)
def code_reads_files_by_their_names(scene: Scene) -> None:
    """Those of the assistant and those that a message brought."""
    ours = scene.client.files.create(file=CITIES, purpose="assistants")
    theirs = scene.client.files.create(file=("note.txt", b"hello"), purpose="assistants")
    assistant = scene.assistant(
        tools=TOOLS, tool_resources={"code_interpreter": {"file_ids": [ours.id]}}
    )
    reads = (
        f"print(open('/mnt/data/{CITIES[0]}', encoding='utf-8').read())\n"
        f"print(open('/mnt/data/note.txt').read(), open('/mnt/data/{theirs.id}').read())"
    )
    thread = scene.client.beta.threads.create(
        messages=[
            {
                "role": "user",
                "content": rehearse([code(reads)], end()),
                "attachments": [{"file_id": theirs.id, "tools": TOOLS}],
            }
        ]
    )
    [logs] = logs_of(scene, scene.run(thread, assistant))
    same(logs, CITIES[1].decode() + "\nhello hello\n")


@scenario(204)
def variables_stay_within_their_thread(scene: Scene) -> None:
    """A later run has them, another thread has not."""
    assistant = scene.assistant(tools=TOOLS)
    thread = scene.thread(rehearse([code("secret = 6 * 7")], end()))
    same(logs_of(scene, scene.run(thread, assistant)), [""])
    asks = rehearse([code("print(secret)")], end())
    scene.client.beta.threads.messages.create(thread.id, role="user", content=asks)
    same(logs_of(scene, scene.run(thread, assistant)), ["42\n"])
    [other] = logs_of(scene, scene.run(scene.thread(asks), assistant))
    assert "NameError: name 'secret' is not defined" in other


@scenario(206)
def a_chart_is_shown_and_downloaded(scene: Scene) -> None:
    """It is an output of the step, a part of the message before its text, and a file."""
    thread = scene.thread(rehearse([code(CHART)], end("Here it is.")))
    run = scene.run(thread, scene.assistant(tools=TOOLS))
    same(run.status, "completed")
    [made] = calls_of(scene, run)
    [output] = made.outputs
    same(output.type, "image")
    image, text = scene.messages(thread.id)[-1].content
    assert image.type == "image_file" and text.type == "text"
    same((image.image_file.file_id, text.text.value), (output.image.file_id, "Here it is."))
    file = scene.client.files.retrieve(output.image.file_id)
    same(file.purpose, "assistants_output")
    content = scene.client.files.content(file.id).read()
    same((content[:8], len(content)), (PNG, file.bytes))


@scenario(207)
def a_written_file_is_linked_and_downloaded(scene: Scene) -> None:
    """The link is annotated where it stands, in code points; the message has the file."""
    writes = "open('/mnt/data/sum.csv', 'w').write('sum\\n3500\\n')\nprint('done')"
    link = "sandbox:/mnt/data/sum.csv"
    said = f"合計 🎉 [Download]({link}), not sandbox:/mnt/data/other.csv"
    thread = scene.thread(rehearse([code(writes)], end(said)))
    run = scene.run(thread, scene.assistant(tools=TOOLS))
    [logs] = logs_of(scene, run)
    assert logs.startswith("done\n") and "sum.csv" in logs
    message = scene.messages(thread.id)[-1]
    [part] = message.content
    assert isinstance(part, TextContentBlock)
    [found] = part.text.annotations
    assert isinstance(found, FilePathAnnotation)
    same((part.text.value, found.text), (said, link))
    same(said[found.start_index : found.end_index], link)
    file = scene.client.files.retrieve(found.file_path.file_id)
    same((file.filename, file.purpose), ("sum.csv", "assistants_output"))
    same(scene.client.files.content(file.id).read(), b"sum\n3500\n")
    same([one.file_id for one in message.attachments or ()], [file.id])


@scenario(144, 208)
def code_that_fails_is_told_and_the_run_goes_on(scene: Scene) -> None:
    """A traceback is text; what prints nothing has no output at all."""
    script = rehearse([code("1 / 0")], [code("x = 1")], end())
    thread = scene.thread(script)
    run = scene.run(thread, scene.assistant(tools=TOOLS))
    same(run.status, "completed")
    failed, silent = calls_of(scene, run)
    assert "ZeroDivisionError: division by zero" in failed.outputs[0].logs
    same((silent.input, silent.outputs), ("x = 1", []))
    same([message["role"] for message in scene.asked()[-1]["messages"]][-2:], ["assistant", "tool"])


@scenario(153)
def code_is_streamed_with_its_outputs(scene: Scene) -> None:
    """Input in pieces, logs at output 0, the image at output 1; then the message."""
    text = "print('one')\n" + CHART
    thread = scene.thread(rehearse([code(text, pieces=6)], end("Look.")))
    events: list[Any] = []
    with scene.client.beta.threads.runs.stream(
        thread_id=thread.id, assistant_id=scene.assistant(tools=TOOLS).id
    ) as stream:
        events.extend(stream)
        messages = stream.get_final_messages()
    calls = [
        event.data.delta.step_details.tool_calls[0]
        for event in events
        if event.event == "thread.run.step.delta"
    ]
    same({one.index for one in calls}, {0})
    assert calls[0].id.startswith("call_") and all(one.id is None for one in calls[1:])
    first = calls[0].code_interpreter
    same((first.input, first.outputs), ("", []))
    pieces = [one.code_interpreter.input for one in calls[1:] if one.code_interpreter.input]
    same("".join(pieces), text)
    same(len(pieces), 5)
    outputs = [output for one in calls for output in one.code_interpreter.outputs or ()]
    same([(one.index, one.type) for one in outputs], [(0, "logs"), (1, "image")])
    same(outputs[0].logs, "one\n")
    names = [event.event for event in events]
    same(names.index("thread.run.step.completed") < names.index("thread.message.created"), True)
    [message] = messages
    same([part.type for part in message.content], ["image_file", "text"])
    deltas = [event.data.delta for event in events if event.event == "thread.message.delta"]
    kinds = [(part.index, part.type) for delta in deltas for part in delta.content or ()]
    same(kinds[:2], [(0, "image_file"), (1, "text")])


@scenario(205)
def code_reaches_no_network_and_no_server(scene: Scene) -> None:
    """Neither an address nor the server that asked for it, nor the server's variables."""
    port = scene.root.rsplit(":", 1)[1]
    tries = (
        "import os, socket\n"
        f"for at in (('127.0.0.1', {port}), ('1.1.1.1', 53)):\n"
        "    try:\n"
        "        socket.create_connection(at, 2)\n"
        "        print('connected')\n"
        "    except OSError:\n"
        "        print('refused')\n"
        "print([name for name in os.environ if 'UNDERSTUDY' in name or 'OPENAI' in name])\n"
    )
    thread = scene.thread(rehearse([code(tries)], end()))
    [logs] = logs_of(scene, scene.run(thread, scene.assistant(tools=TOOLS)))
    same(logs, "refused\nrefused\n[]\n")
