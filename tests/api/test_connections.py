"""HTTP, byte by byte: bodies and heads in unusual forms, and clients that behave badly."""

import socket

import pytest

from tests.api.conftest import client_for
from tests.api.serving import Running


def raw(server: Running, request: bytes, *, chunks: tuple[bytes, ...] = ()) -> bytes:
    """Send bytes on a socket of one's own; the whole answer."""
    address = (server.app.settings.host, int(server.root.rpartition(":")[2]))
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(request)
        for chunk in chunks:
            connection.sendall(chunk)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(65_536)
        head, _, body = answer.partition(b"\r\n\r\n")
        length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += connection.recv(65_536)
        return head + body


def head(key: str, *more: str) -> bytes:
    """The head of a POST /v1/assistants."""
    lines = [
        "POST /v1/assistants HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {key}",
        *more,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def test_a_body_may_come_in_chunks(server: Running, key: str) -> None:
    body = b'{"model":"m"}'
    chunks = tuple(b"%x\r\n%s\r\n" % (1, body[i : i + 1]) for i in range(len(body)))
    request = head(key, "Transfer-Encoding: chunked")
    assert b" 200 OK" in raw(server, request, chunks=(*chunks, b"0\r\n\r\n"))


@pytest.mark.parametrize("length", ["Content-Length: 13", "Transfer-Encoding: chunked"])
def test_an_offer_of_http2_loses_no_body(server: Running, key: str, length: str) -> None:
    offer = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAA"]
    body = b'{"model":"m"}'
    if "chunked" in length:
        body = b"d\r\n" + body + b"\r\n0\r\n\r\n"
    request = head(key, *offer, length)
    assert b" 200 OK" in raw(server, request + body)
    assert b" 200 OK" in raw(server, request, chunks=(body[:5], body[5:]))
    assert b" 200 OK" in raw(server, request[:-30], chunks=(request[-30:], body))


def test_an_endless_head_is_refused(server: Running, key: str) -> None:
    address = (server.app.settings.host, int(server.root.rpartition(":")[2]))
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(head(key)[:-2] + b"x-endless: ")
        with pytest.raises(OSError, match=r"reset|pipe"):
            for _ in range(64):
                connection.sendall(b"a" * 1_000_000)
    assert b" 200 OK" in raw(server, head(key, "Content-Length: 13") + b'{"model":"m"}')


def test_a_tunnel_is_refused(server: Running) -> None:
    assert b" 400 " in raw(server, b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n")


def test_a_body_that_is_too_large_is_refused_before_it_is_read(
    server: Running, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("understudy.limits.JSON_BODY_BYTES", 1000)
    answer = raw(server, head(key, "Content-Length: 1001"))
    assert b"413" in answer
    assert b"Maximum content size limit (1000) exceeded (1001 bytes read)" in answer
    assert b"connection: close" in answer
    chunk = b"3e8\r\n" + b" " * 1000 + b"\r\n"
    answer = raw(server, head(key, "Transfer-Encoding: chunked"), chunks=(chunk, chunk))
    assert b"413" in answer


def test_a_body_that_stalls_is_given_up(
    server: Running, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("understudy.limits.BODY_STALL_S", 0.1)
    answer = raw(server, head(key, "Content-Length: 10"), chunks=(b"{",))
    assert b" 400 " in answer
    assert b"stopped arriving" in answer


def test_a_client_that_goes_away_harms_nobody(server: Running, key: str) -> None:
    address = (server.app.settings.host, int(server.root.rpartition(":")[2]))
    for _ in range(3):
        with socket.create_connection(address, timeout=10) as connection:
            connection.sendall(head(key, "Content-Length: 100") + b"{")
    with client_for(server.url, key) as http:
        assert http.get("/assistants").json()["data"] == []
