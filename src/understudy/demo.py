"""Demo: a first conversation with a server of its own, through the official Python SDK.

Everything is real: the server is a process, the model is reached over HTTP (the scripted one, so
that nothing leaves the machine), and the client is the `openai` package as anyone installs it.
The server is killed on the way, to show what stays. Whatever happens, the process is ended and
the temporary folder removed.
"""

import importlib.util
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from understudy.settings import (
    PREFIX,
    Settings,
    SettingsError,
    clean_environment,
    load,
    sandbox_folder_of,
)

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types.beta import AssistantStreamEvent, FunctionToolParam
    from openai.types.beta.threads import Message
    from openai.types.beta.threads.runs import RunStepDelta

_SERVE = "from understudy.cli import main; main()"
_STOP_S = 10.0
_LOOK_S = 0.25
_SANDBOX_LOOKS = 600  # Its test has time for a cold disk and a busy machine.
_WEATHER = {"city": "Oslo", "temperature_c": 7, "sky": "rain"}
_ASKS_FOR_WEATHER = 'What is the weather? Please call get_weather with {"city": "Oslo"}.'
_ASKS_WHO = "Thank you. And who are you?"
_HANDBOOK = (
    b"The museum opens at nine, on Sundays at ten.\n\nDogs wait outside. Herons may come in.\n"
)
_ASKS_THE_HANDBOOK = "May I bring my heron?"
# What the scripted model plays: it searches, then answers from the first result.
_READS = [
    [{"call": {"name": "file_search", "arguments": {"queries": ["bringing a heron"]}}}],
    [{"text": "Yes, herons may come in【4:0†source】."}],
]
# A file, and what the scripted model plays for it: code, then an answer with a link.
_SALES = b"""month,city,units
January,Oslo,120
January,Rome,95
February,Oslo,143
February,Rome,168
March,Oslo,131
March,Rome,210
"""
_ANALYSIS = """\
import matplotlib.pyplot as plt
import pandas as pd

sales = pd.read_csv("/mnt/data/sales.csv")
summary = sales.groupby("city")["units"].sum()
print(summary.to_string())
summary.plot.bar(title="Units sold")
plt.show()
summary.to_csv("/mnt/data/summary.csv")
"""
_ANALYSES = [
    [{"call": {"name": "code_interpreter", "arguments": {"code": _ANALYSIS}, "pieces": 40}}],
    [{"text": "Rome sold more. Here are the sums: sandbox:/mnt/data/summary.csv"}],
]
_ASKS_FOR_A_CHART = "Which city sold more? Draw it, and write the sums to a file."


class Failed(Exception):
    """The demo cannot go on; the text says why."""


def main() -> None:
    """Show it; exit code 1 with one line when it cannot be shown."""
    if importlib.util.find_spec("openai") is None:
        typer.echo("The demo needs the official SDK: pip install 'understudy[demo]'", err=True)
        raise typer.Exit(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # So that what is open gets closed.
    warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*Assistants API.*")
    warnings.filterwarnings("ignore", category=DeprecationWarning, message="deprecated")
    try:
        with tempfile.TemporaryDirectory(prefix="understudy-demo-") as folder:
            _show(Path(folder))
    except Failed as failure:
        typer.echo(f"understudy demo: {failure}", err=True)
        raise typer.Exit(1) from None


def _show(folder: Path) -> None:
    typer.echo("A conversation between the official openai SDK and Understudy, on this machine.\n")
    with ExitStack() as stack:
        server = stack.enter_context(_serving(folder))
        _say("server", f"is up at {server.url}; its first start made the key {server.key[:7]}…")
        client = _client(server.url, server.key)
        assistant_id, thread_id = _prepare(client)
        run_id = _converse(client, assistant_id, thread_id)
        _look_back(client, thread_id, run_id)
        _search_a_file(client)
        _analyse_data(client, server.url)
        _try_a_wrong_key(server.url)
        server.process.kill()
        server.process.wait()
        _say("kill -9", "of the server process, as a power cut would end it")
        again = stack.enter_context(_serving(folder))
        client = _client(again.url, server.key)
        kept = client.beta.threads.messages.list(thread_id).data
        _say("restart", f"on the same folder: all {len(kept)} messages are still there")
        client.beta.threads.delete(thread_id)
        client.beta.assistants.delete(assistant_id)
        _say("delete", "the thread and the assistant")
    typer.echo(
        "\nThat is all. `make serve` starts a server that stays; README.md says how to go on."
    )


def _say(what: str, text: str) -> None:
    typer.echo(f"{what:>10}  {text}")


# The conversation.


def _client(url: str, key: str) -> "OpenAI":
    """The SDK as applications use it; without proxies, because the server is on this machine."""
    from openai import DefaultHttpxClient, OpenAI

    return OpenAI(base_url=url, api_key=key, http_client=DefaultHttpxClient(trust_env=False))


def _prepare(client: "OpenAI") -> tuple[str, str]:
    """An assistant with a function, and a thread."""
    weather: FunctionToolParam = {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city, now.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
    assistant = client.beta.assistants.create(
        model="rehearsal", name="Weather", instructions="You know the weather.", tools=[weather]
    )
    _say("assistant", f"{assistant.id}, with a function get_weather")
    thread = client.beta.threads.create()
    _say("thread", thread.id)
    return assistant.id, thread.id


def _converse(client: "OpenAI", assistant_id: str, thread_id: str) -> str:
    """Two streamed runs on one thread; the id of the first, which called the function."""
    _ask(client, thread_id, _ASKS_FOR_WEATHER)
    with client.beta.threads.runs.stream(thread_id=thread_id, assistant_id=assistant_id) as stream:
        for event in stream:
            _hear(client, event)
        first = stream.current_run
    _ask(client, thread_id, _ASKS_WHO)
    with client.beta.threads.runs.stream(thread_id=thread_id, assistant_id=assistant_id) as stream:
        for event in stream:
            _hear(client, event)
    if first is None:
        raise Failed("the stream of the first run had no run in it.")
    return first.id


def _ask(client: "OpenAI", thread_id: str, text: str) -> None:
    client.beta.threads.messages.create(thread_id, role="user", content=text)
    _say("you", text)


def _hear(client: "OpenAI", event: "AssistantStreamEvent") -> None:
    """Print the answer word by word, and answer function calls from inside the stream."""
    match event.event:
        case "thread.message.created":
            typer.echo(f"{event.data.role:>10}  ", nl=False)
        case "thread.message.delta":
            for part in event.data.delta.content or ():
                if part.type == "text" and part.text is not None:
                    typer.echo(part.text.value or "", nl=False)
        case "thread.message.completed":
            typer.echo()
        case "thread.run.requires_action":
            action = event.data.required_action
            calls = [] if action is None else action.submit_tool_outputs.tool_calls
            for call in calls:
                _say("it calls", f"{call.function.name}({call.function.arguments})")
            _say("you answer", json.dumps(_WEATHER))
            with client.beta.threads.runs.submit_tool_outputs_stream(
                run_id=event.data.id,
                thread_id=event.data.thread_id,
                tool_outputs=[
                    {"tool_call_id": call.id, "output": json.dumps(_WEATHER)} for call in calls
                ],
            ) as stream:
                for further in stream:
                    _hear(client, further)
        case "thread.run.failed" | "thread.run.expired":
            raise Failed(f"the run ended with {event.event}: {event.data.last_error}")


def _look_back(client: "OpenAI", thread_id: str, run_id: str) -> None:
    """What is on record: messages, and the steps of the first run."""
    messages = client.beta.threads.messages.list(thread_id, order="asc").data
    _say("record", f"{len(messages)} messages: {', '.join(one.role for one in messages)}")
    steps = client.beta.threads.runs.steps.list(run_id, thread_id=thread_id, order="asc").data
    shown = ", ".join(f"{step.type} ({step.status})" for step in steps)
    _say("steps", f"of the first run: {shown}")


def _search_a_file(client: "OpenAI") -> None:
    """A question about a file that comes with it, answered with a citation."""
    file = client.files.create(file=("handbook.md", _HANDBOOK), purpose="assistants")
    _say("file", f"{file.filename}, {file.bytes} bytes: {file.id}")
    assistant = client.beta.assistants.create(
        model="rehearsal",
        instructions=f"You know the museum. rehearse: {json.dumps({'turns': _READS})}",
        tools=[{"type": "file_search"}],
    )
    thread = client.beta.threads.create(
        messages=[
            {
                "role": "user",
                "content": _ASKS_THE_HANDBOOK,
                "attachments": [{"file_id": file.id, "tools": [{"type": "file_search"}]}],
            }
        ]
    )
    _say("you", f"{_ASKS_THE_HANDBOOK} (with {file.filename} attached)")
    with client.beta.threads.runs.stream(thread_id=thread.id, assistant_id=assistant.id) as stream:
        for event in stream:
            _hear(client, event)
        [message] = stream.get_final_messages()
    for part in message.content:
        for note in part.text.annotations if part.type == "text" else ():
            if note.type == "file_citation":
                _say(
                    "citation",
                    f"{note.text} is {client.files.retrieve(note.file_citation.file_id).filename}",
                )
    client.beta.threads.delete(thread.id)
    client.beta.assistants.delete(assistant.id)
    client.files.delete(file.id)


# The data analysis.


def _analyse_data(client: "OpenAI", url: str) -> None:
    """Code reads a file, draws a chart and writes a file; both come back."""
    why_not = _no_sandbox(url)
    if why_not is not None:
        _say("no code", f"code_interpreter is off here. {why_not}")
        return
    file = client.files.create(file=("sales.csv", _SALES), purpose="assistants")
    assistant = client.beta.assistants.create(
        model="rehearsal",
        instructions=f"You analyse data. rehearse: {json.dumps({'turns': _ANALYSES})}",
        tools=[{"type": "code_interpreter"}],
        tool_resources={"code_interpreter": {"file_ids": [file.id]}},
    )
    thread = client.beta.threads.create(
        messages=[{"role": "user", "content": _ASKS_FOR_A_CHART}],
    )
    _say("you", f"{_ASKS_FOR_A_CHART} (with {file.filename}, {file.bytes} bytes)")
    printer = _Printer()
    with client.beta.threads.runs.stream(thread_id=thread.id, assistant_id=assistant.id) as stream:
        for event in stream:
            printer.hear(event)
            _hear(client, event)
        [message] = stream.get_final_messages()
    made = _download(client, message)
    client.beta.threads.delete(thread.id)
    client.beta.assistants.delete(assistant.id)
    for file_id in (file.id, *made):
        client.files.delete(file_id)


def _no_sandbox(url: str) -> str | None:
    """Why code cannot run, as /health tells it; None when it can. A test of the sandbox that has
    only begun is waited for."""
    from openai import DefaultHttpxClient

    with DefaultHttpxClient(trust_env=False) as http:
        for _ in range(_SANDBOX_LOOKS):
            seam = http.get(f"{url.removesuffix('/v1')}/health").json()["seams"]["sandbox"]
            if seam["state"] != "starting":
                return None if seam["state"] == "up" else str(seam["detail"])
            time.sleep(_LOOK_S)
    raise Failed("the sandbox neither starts nor fails.")


class _Printer:
    """Shows what the model writes and what its code prints, while it happens."""

    def __init__(self) -> None:
        self._label = ""
        self._is_in_line = False

    def hear(self, event: "AssistantStreamEvent") -> None:
        """One event; those that are not about code are left alone."""
        if event.event == "thread.run.step.delta":
            for label, text in _code_in(event.data.delta):
                self._show(label, text)
        elif event.event == "thread.run.step.completed":
            self._end_line()

    def _show(self, label: str, text: str) -> None:
        """A piece of a text that has its label at its left side."""
        if text and label != self._label:
            self._end_line()
            self._label = label
            self._begin_line(label)
        for line in text.splitlines(keepends=True):
            if not self._is_in_line:
                self._begin_line("")
            typer.echo(line, nl=False)
            self._is_in_line = not line.endswith("\n")

    def _begin_line(self, label: str) -> None:
        typer.echo(f"{label:>10}  ", nl=False)
        self._is_in_line = True

    def _end_line(self) -> None:
        if self._is_in_line:
            typer.echo()
        self._is_in_line = False
        self._label = ""


def _code_in(delta: "RunStepDelta") -> Iterator[tuple[str, str]]:
    """What a delta has of code: a label, and a piece of a text."""
    details = delta.step_details
    if details is None or details.type != "tool_calls":
        return
    for call in details.tool_calls or ():
        if call.type != "code_interpreter" or call.code_interpreter is None:
            continue
        yield "it writes", call.code_interpreter.input or ""
        for output in call.code_interpreter.outputs or ():
            if output.type == "logs":
                yield "it prints", output.logs or ""


def _download(client: "OpenAI", message: "Message") -> list[str]:
    """The chart and the file of an answer; their ids."""
    made = []
    for part in message.content:
        if part.type == "image_file":
            chart = client.files.content(part.image_file.file_id).read()
            _say("chart", f"a PNG image of {len(chart)} bytes was downloaded")
            made.append(part.image_file.file_id)
        for note in part.text.annotations if part.type == "text" else ():
            if note.type == "file_path":
                content = client.files.content(note.file_path.file_id).read()
                name = client.files.retrieve(note.file_path.file_id).filename
                _say("file", f"{name}, {len(content)} bytes, was downloaded: {note.text}")
                made.append(note.file_path.file_id)
    if len(made) != 2:
        raise Failed(f"the answer should have a chart and a file: {message.to_json()}")
    return made


# The server, and who may come in.


def _try_a_wrong_key(url: str) -> None:
    from openai import AuthenticationError

    try:
        _client(url, "sk-this-is-not-the-key").beta.assistants.list()
    except AuthenticationError as error:
        body = error.body if isinstance(error.body, dict) else {}
        _say("wrong key", f"is refused with {error.status_code}: {body.get('message')}")
    else:
        raise Failed("a wrong key was accepted.")


@dataclass(frozen=True)
class _Server:
    process: subprocess.Popen[str]
    url: str
    key: str  # Empty unless this was the first start.


@contextmanager
def _serving(folder: Path) -> Iterator[_Server]:
    """`understudy serve` at a free port; ended on the way out."""
    log = folder / "server.log"
    with log.open("a") as stderr:
        process = subprocess.Popen(  # noqa: S603 (this Python, this package)
            [sys.executable, "-c", _SERVE, "serve", "--port", "0", "--data", str(folder / "data")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=folder,  # No settings file of the caller's is read.
            env={**clean_environment(), f"{PREFIX}SANDBOX_FOLDER": str(_packages())},
        )
    try:
        banner = _banner(process)
        url, key = (re.search(rf"{name} +(\S+)", banner) for name in ("API base URL", "API key"))
        if url is None:
            raise Failed(f"the server did not start. {banner}{log.read_text()}")
        yield _Server(process, url[1], "" if key is None else key[1])
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _packages() -> Path:
    """The sandbox's packages are the caller's; no other setting of theirs plays a part."""
    try:
        return sandbox_folder_of(load().settings)
    except SettingsError:
        return sandbox_folder_of(Settings())


def _banner(process: "subprocess.Popen[str]") -> str:
    """What the server prints when it is ready, or before it gives up."""
    assert process.stdout is not None, "opened with a pipe"
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "OpenAI(" in line:  # The last one.
            break
    return "".join(lines)
