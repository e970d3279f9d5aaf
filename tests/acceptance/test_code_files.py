"""Large files that code writes, collected by a real server."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.beta.threads import FilePathAnnotation, TextContentBlock

from tests.acceptance.processes import KEY, Running, serving

MIB = 1024 * 1024
TOOLS: Any = [{"type": "code_interpreter"}]


@dataclass
class Desk:
    """A server, and an assistant that runs code."""

    server: Running
    client: openai.OpenAI
    assistant_id: str

    def run(self, code: str, answer: str) -> tuple[str, TextContentBlock]:
        """Run code on a new thread; what it printed, and the message after it."""
        call = {"call": {"name": "code_interpreter", "arguments": {"code": code}}}
        script = json.dumps({"turns": [[call], [{"text": answer}]]})
        threads = self.client.beta.threads
        run = threads.create_and_run_poll(
            assistant_id=self.assistant_id,
            thread={"messages": [{"role": "user", "content": f"rehearse: {script}"}]},
            poll_interval_ms=50,
        )
        assert run.status == "completed", run.last_error
        [_, step] = threads.runs.steps.list(run.id, thread_id=run.thread_id)
        details: Any = step.step_details
        outputs = details.tool_calls[0].code_interpreter.outputs
        [message] = threads.messages.list(run.thread_id, run_id=run.id)
        [part] = message.content
        assert isinstance(part, TextContentBlock)
        return "".join(one.logs for one in outputs if one.type == "logs"), part

    def most_memory_bytes(self) -> int:
        """The most that the server's own process has ever had."""
        status = Path(f"/proc/{self.server.process.pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A server that has run code before."""
    with (
        serving(tmp_path_factory.mktemp("desk"), sandbox="bubblewrap") as server,
        openai.OpenAI(base_url=server.url, api_key=KEY, max_retries=0) as client,
    ):
        assistant = client.beta.assistants.create(model="gpt-4o", tools=TOOLS)
        desk = Desk(server, client, assistant.id)
        desk.run("open('small', 'wb').write(bytes(1000))", "Done.")
        yield desk


@pytest.mark.assertion(207)
def test_the_servers_memory_does_not_grow_with_a_file_that_code_writes(desk: Desk) -> None:
    """300 MB, linked in the answer and downloaded."""
    before = desk.most_memory_bytes()
    link = "sandbox:/mnt/data/big.bin"
    writes = f"with open('big.bin', 'wb') as f:\n    for _ in range(300): f.write(bytes({MIB}))"
    logs, part = desk.run(writes, f"[The file]({link})")
    assert logs == "[Files written: /mnt/data/big.bin]\n"
    [found] = part.text.annotations
    assert isinstance(found, FilePathAnnotation)
    assert found.text == link
    file_id = found.file_path.file_id
    assert desk.client.files.retrieve(file_id).bytes == 300 * MIB
    with desk.client.files.with_streaming_response.content(file_id) as content:
        assert sum(map(len, content.iter_bytes(MIB))) == 300 * MIB
    assert desk.most_memory_bytes() - before < 64 * MIB


def test_a_file_over_the_limit_is_refused_in_the_logs(desk: Desk) -> None:
    """With its name, its size and the limit; others are saved all the same."""
    size = 512 * MIB + 1
    code = f"open('huge.bin', 'wb').truncate({size})\nopen('fine.txt', 'w').write('fine')"
    link = "sandbox:/mnt/data/fine.txt"
    logs, part = desk.run(code, f"sandbox:/mnt/data/huge.bin {link}")
    assert "huge.bin" in logs
    assert f"it has {size} bytes, and {512 * MIB} are allowed" in logs
    assert [found.text for found in part.text.annotations] == [link]
