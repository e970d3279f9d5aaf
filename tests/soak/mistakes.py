"""Clients that do wrong: wrong keys, broken bodies, and connections that end amid a request."""

import asyncio
from urllib.parse import urlsplit

from tests.crash.processes import KEY
from tests.soak.client import Client
from tests.soak.runs import assistant, thread


async def strangers(client: Client) -> None:
    """Keys that open nothing."""
    for number in range(4):
        key = f"sk-no-key-of-this-server-{client.rng.randrange(10**9)}-{number}"
        headers = {"Authorization": f"Bearer {key}"}
        async with client.http.get(f"{client.url}/assistants", headers=headers) as answer:
            client.counts[str(answer.status)] += 1
            assert answer.status == 401, await answer.text()


async def broken_bodies(client: Client) -> None:
    """Bodies that are no JSON, or say what cannot be."""
    bodies = [b"{", b"\xff\xfe", b"[" * 5_000, b"nonsense" * 20_000]
    bodies += [b'{"metadata": 7}', b'{"metadata": {"a": {}}}', b'{"unheard": 1}']
    for body in bodies:
        headers = {"content-type": "application/json"}
        place = f"{client.url}/threads"
        async with client.http.post(place, data=body, headers=headers) as answer:
            client.counts[str(answer.status)] += 1
            assert answer.status == 400, (body[:40], await answer.text())
            assert "error" in await answer.json()


async def nothing_there(client: Client) -> None:
    """Objects, runs and places that do not exist."""
    for method, path, body in (
        ("GET", "/assistants/asst_nothing", None),
        ("GET", "/threads/thread_nothing/messages", None),
        ("POST", "/threads/thread_nothing/runs", {"assistant_id": "asst_nothing"}),
        ("DELETE", "/files/file-nothing", None),
        ("POST", "/vector_stores/vs_nothing/search", {"query": "q"}),
        ("GET", "/no/such/place", None),
    ):
        await client.ask(method, path, body, status=404)


async def refused(client: Client) -> None:
    """What is well said and not allowed."""
    async with assistant(client) as id, thread(client) as path:
        await client.ask("POST", f"{path}/runs", {"assistant_id": "asst_no"}, status=404)
        run = await client.post(f"{path}/runs", {"assistant_id": id})
        place = f"{path}/runs/{run['id']}"
        await client.until(place, "completed")
        await client.ask("POST", f"{place}/cancel", {}, status=400)
        outputs = {"tool_outputs": [{"tool_call_id": "call_no", "output": ""}]}
        await client.ask("POST", f"{place}/submit_tool_outputs", outputs, status=400)


async def cut_off(client: Client) -> None:
    """Connections that end amid a head, amid a body, amid an upload, and before the answer."""
    head = f"Host: h\r\nAuthorization: Bearer {KEY}\r\nOpenAI-Beta: assistants=v2\r\n"
    form = (
        f"POST /v1/files HTTP/1.1\r\n{head}Content-Type: multipart/form-data; boundary=b\r\n"
        "Content-Length: 300000\r\n\r\n--b\r\n"
        'Content-Disposition: form-data; name="purpose"\r\n\r\nvision\r\n--b\r\n'
        'Content-Disposition: form-data; name="file"; filename="cut.png"\r\n\r\n'
    )
    await _send_and_go(client, b"GET /v1/assis")
    await _send_and_go(
        client,
        f"POST /v1/threads HTTP/1.1\r\n{head}Content-Length: 500\r\n\r\n".encode() + b'{"messages"',
    )
    await _send_and_go(client, form.encode() + client.rng.randbytes(120_000))
    await _send_and_go(client, f"GET /v1/assistants HTTP/1.1\r\n{head}\r\n".encode())


async def _send_and_go(client: Client, data: bytes) -> None:
    to = urlsplit(client.url)
    _, writer = await asyncio.open_connection(to.hostname, to.port)
    writer.write(data)
    await writer.drain()
    await asyncio.sleep(client.rng.uniform(0, 0.1))
    if client.rng.random() < 0.5:
        writer.transport.abort()
    else:
        writer.close()


ALL = [strangers, broken_bodies, nothing_there, refused, cut_off]
