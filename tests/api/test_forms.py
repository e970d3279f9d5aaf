"""Multipart forms, byte by byte: every order and framing, hostile names, and bodies cut short."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.serving import Running
from understudy import limits
from understudy.api.forms import file_name
from understudy.wire.files import CreateFile

Json = dict[str, Any]
BOUNDARY = "----a-boundary"
PURPOSE = (b'form-data; name="purpose"', b"vision")
FILE = (b'form-data; name="file"; filename="a.txt"', b"Some text.")


def form(*parts: tuple[bytes, bytes], boundary: str = BOUNDARY, end: bytes = b"--\r\n") -> bytes:
    """A body of parts: content-disposition and bytes."""
    mark = b"--" + boundary.encode()
    head = b"\r\nContent-Disposition: "
    return b"".join(mark + head + place + b"\r\n\r\n" + data + b"\r\n" for place, data in parts) + (
        mark + end
    )


@pytest.fixture
def send(server: Running, key: str) -> Callable[..., tuple[int, Json]]:
    """Sends bytes as the body of POST /files, in pieces; gives status and answer."""

    def begin(
        *pieces: bytes,
        boundary: str = BOUNDARY,
        chunked: bool = False,
        length: int | None = None,
        lines: tuple[str, ...] = (),
    ) -> tuple[int, Json]:
        size = sum(map(len, pieces)) if length is None else length
        framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
        with connected(server) as connection:
            connection.sendall(head(key, boundary, framing, *lines))
            for piece in pieces:
                connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            if chunked:
                connection.sendall(b"0\r\n\r\n")
            return answer(connection)

    return begin


def connected(server: Running) -> socket.socket:
    """A connection to the server."""
    address = (server.app.settings.host, int(server.root.rpartition(":")[2]))
    return socket.create_connection(address, timeout=20)


def head(key: str, boundary: str, *lines: str) -> bytes:
    """The head of a POST /v1/files."""
    first = ["POST /v1/files HTTP/1.1", "Host: x", f"Authorization: Bearer {key}"]
    kind = f"Content-Type: multipart/form-data; boundary={boundary}"
    return ("\r\n".join([*first, kind, *lines]) + "\r\n\r\n").encode()


def answer(connection: socket.socket) -> tuple[int, Json]:
    """Status and JSON of one answer."""
    received = b""
    while b"\r\n\r\n" not in received:
        more = connection.recv(65_536)
        assert more, received
        received += more
    top, _, body = received.partition(b"\r\n\r\n")
    length = int(top.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65_536)
    return int(top.split()[1]), json.loads(body)


@pytest.fixture
def leaves_nothing(server: Running) -> Iterator[None]:
    """Whatever the test sends, no blob is left of it."""
    before = server.blobs()
    yield
    deadline = time.monotonic() + 5
    while server.blobs() - before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.blobs() - before == set()


def content(server: Running, project: str, id: str) -> bytes:
    """The bytes of a file."""
    record = server.record("file", project, id)
    assert record is not None
    [blob] = json.loads(record.private or b"{}")["blobs"]
    return server.blob(str(blob["key"]))


Send = Callable[..., tuple[int, Json]]


@pytest.mark.parametrize("parts", [(PURPOSE, FILE), (FILE, PURPOSE)])
@pytest.mark.parametrize("chunked", [False, True])
def test_the_fields_come_in_any_order(
    send: Send, parts: tuple[tuple[bytes, bytes], ...], chunked: bool
) -> None:
    status, file = send(form(*parts), chunked=chunked)
    assert status == 200, file
    assert (file["filename"], file["purpose"], file["bytes"]) == ("a.txt", "vision", 10)


def test_every_cut_between_two_packets_gives_the_same(
    server: Running, project: str, send: Send
) -> None:
    data = b"\r\n--\r\n------a-boundar\r\n------a-boundary-\r-\n--" * 3
    body = form(PURPOSE, (FILE[0], data))
    for at in range(1, len(body), 7):
        status, file = send(body[:at], body[at:], chunked=True)
        assert status == 200, file
        assert content(server, project, file["id"]) == data
    single = [body[i : i + 1] for i in range(len(body))]
    status, file = send(*single, chunked=True)
    assert content(server, project, file["id"]) == data


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b'filename="a.txt"', "a.txt"),
        ('filename="naïve 报告.txt"'.encode(), "naïve 报告.txt"),
        ('filename="naïve.txt"'.encode("latin-1"), "naïve.txt"),
        (b"filename=plain.txt", "plain.txt"),
        (b"filename=\"a.txt\"; filename*=UTF-8''na%C3%AFve%20%F0%9F%91%8B.txt", "naïve 👋.txt"),
        (b"filename*=utf-8'en'%E6%8A%A5.txt", "报.txt"),
        (b"filename*=iso-8859-1''na%EFve.txt", "naïve.txt"),
        (b"filename=\"fall.txt\"; filename*=UTF-8''%FF.txt", "fall.txt"),
        (b'filename="fall.txt"; filename*=nonsense', "fall.txt"),
        (rb'filename="a \"quoted\" \\ name.txt"', "name.txt"),
        (rb'filename="say \"hi\".txt"', 'say "hi".txt'),
        (b'filename="say %22hi%22.txt"', 'say "hi".txt'),
        (b'filename="semi;colon=x.txt"', "semi;colon=x.txt"),
        (b'filename="two%0D%0Alines.txt"', "twolines.txt"),
        (b'filename="tab\there.txt"', "tabhere.txt"),
        (b'filename="../../etc/passwd"', "passwd"),
        (rb'filename="C:\Users\me\new.txt"', "new.txt"),
        ('filename="a\u202etxt.exe"'.encode(), "atxt.exe"),
        ('filename="\u200fבגד.txt"'.encode(), "\u200fבגד.txt"),
        (b'filename=".."', "upload"),
        (b'filename="folder/"', "upload"),
        (b'filename=""', "upload"),
        (b"x=y", "upload"),
        (b'filename="%41.txt"', "%41.txt"),
        (b'filename="REPORT.PDF"', "REPORT.PDF"),
    ],
)
def test_names_are_kept_but_cannot_lead_elsewhere(send: Send, sent: bytes, kept: str) -> None:
    status, file = send(form((b'form-data; name="file"; ' + sent, b"x"), PURPOSE))
    assert (status, file.get("filename")) == (200, kept), file


def test_the_field_may_be_named_after_the_file(send: Send) -> None:
    place = b'form-data; filename="name=x; a.txt"; name="file"'
    status, file = send(form((place, b"x"), PURPOSE))
    assert (status, file.get("filename")) == (200, "name=x; a.txt"), file


def test_a_name_that_is_too_long_is_refused(send: Send) -> None:
    name = b"n" * (limits.FILENAME_CHARS + 1)
    status, error = send(form((b'form-data; name="file"; filename="' + name + b'"', b"x"), PURPOSE))
    assert status == 400
    assert error["error"]["code"] == "string_above_max_length"


def test_a_bare_name_is_as_good() -> None:
    assert file_name("a.txt") == "a.txt"
    assert file_name("\x00\r\n") == "upload"


@pytest.mark.parametrize(
    "fields",
    [
        [("expires_after[anchor]", "created_at"), ("expires_after[seconds]", "3600")],
        [("expires_after.anchor", "created_at"), ("expires_after.seconds", "3600")],
        [("expires_after", '{"anchor":"created_at","seconds":3600}')],
    ],
)
def test_an_expiry_is_read_in_every_spelling(send: Send, fields: list[tuple[str, str]]) -> None:
    parts = [(f'form-data; name="{name}"'.encode(), text.encode()) for name, text in fields]
    status, file = send(form(FILE, *parts, PURPOSE))
    assert status == 200, file
    assert file["expires_at"] == file["created_at"] + 3600


@pytest.mark.parametrize(
    ("name", "text", "param", "code"),
    [
        ("expires_after[seconds]", "3599", "expires_after.seconds", "integer_below_min_value"),
        ("expires_after[seconds]", "2592001", "expires_after.seconds", "integer_above_max_value"),
        ("expires_after[seconds]", "soon", "expires_after.seconds", "invalid_type"),
        ("expires_after[seconds]", "9" * 40, "expires_after.seconds", "invalid_type"),
        ("expires_after[anchor]", "now", "expires_after.anchor", "invalid_value"),
        ("expires_after", "soon", "expires_after", "invalid_type"),
        ("expires_after", "[" * 5000, "expires_after", "invalid_type"),
        ("foo", "bar", "foo", "unknown_parameter"),
        ("foo[bar]", "x", "foo[bar]", "unknown_parameter"),
        ("expires_after[days]", "3", "expires_after.days", "unknown_parameter"),
    ],
)
@pytest.mark.usefixtures("leaves_nothing")
@pytest.mark.assertion(177)
def test_a_wrong_field_is_named(send: Send, name: str, text: str, param: str, code: str) -> None:
    known = {"expires_after[seconds]": "3600", "expires_after[anchor]": "created_at"}
    fields = {**known, name: text} if name.startswith("expires_after[") else {name: text}
    parts = [(f'form-data; name="{key}"'.encode(), value.encode()) for key, value in fields.items()]
    status, error = send(form(FILE, PURPOSE, *parts))
    assert status == 400
    assert (error["error"]["param"], error["error"]["code"]) == (param, code), error


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "ends before its last boundary"),
        (b"no form at all", "could not parse the multipart form"),
        (form(FILE, PURPOSE, boundary="another"), "could not parse the multipart form"),
        (form(FILE, PURPOSE)[:-10], "ends before its last boundary"),
        (form(FILE, PURPOSE, end=b"\r\n"), "ends before its last boundary"),
        (form(FILE, FILE, PURPOSE), "expected one file"),
        (form((b'form-data; filename="a"', b"x")), "could not parse the multipart form"),
        (form((b"form-data", b"x")), "could not parse the multipart form"),
        (form(*[(b'form-data; name="x"', b"y")] * 65), "more than 64 parts"),
        (form((b'form-data; name="x"', b"y" * 300_000)), "more than 262144 bytes of text"),
        (form((b'form-data; name="' + b"x" * 20_000 + b'"', b"y")), "could not parse"),
        (form((b"x\r\n" + b"a: b\r\n" * 30, b"y")), "could not parse"),
        # Twice the bound and more: what comes in one read with the end is not counted.
        (form(FILE, PURPOSE) + b"x" * 700_000, "could not parse"),
    ],
)
@pytest.mark.usefixtures("leaves_nothing")
def test_what_is_no_form_is_refused(send: Send, body: bytes, text: str) -> None:
    status, error = send(body)
    assert status == 400
    assert text in error["error"]["message"]
    assert error["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("boundary", ['"a b"', "x" * 70, "'()+_,-./:=?", "--"])
def test_any_boundary_will_do(send: Send, boundary: str) -> None:
    body = form(FILE, PURPOSE, boundary=boundary.strip('"'))
    quoted = boundary if boundary.startswith('"') else f'"{boundary}"'
    status, file = send(body, boundary=quoted)
    assert status == 200, file


@pytest.mark.parametrize("boundary", ["", "x" * 201])
def test_no_boundary_is_refused(send: Send, boundary: str) -> None:
    status, error = send(form(FILE, PURPOSE), boundary=boundary)
    assert status == 400
    assert "could not parse the multipart form" in error["error"]["message"]


@pytest.mark.usefixtures("leaves_nothing")
@pytest.mark.parametrize("chunked", [False, True])
def test_a_file_over_the_limit_is_refused_while_it_arrives(
    send: Send, monkeypatch: pytest.MonkeyPatch, chunked: bool
) -> None:
    monkeypatch.setattr(CreateFile, "MAX_BYTES", 100_000)
    status, error = send(form(PURPOSE, (FILE[0], bytes(300_000))), chunked=chunked)
    assert status == 413
    assert error["error"]["message"].startswith("Maximum content size limit (100000) exceeded (")


@pytest.mark.assertion(171)
@pytest.mark.usefixtures("leaves_nothing")
def test_513_mb_are_refused_without_being_read(server: Running, key: str) -> None:
    size = 513 * 1024 * 1024
    with connected(server) as connection:
        connection.sendall(head(key, BOUNDARY, f"Content-Length: {size + 1000}"))
        status, error = answer(connection)  # No byte of the body was sent.
    assert status == 413
    assert error["error"]["message"] == (
        f"Maximum content size limit (536870912) exceeded ({size + 1000} bytes read)"
    )


@pytest.mark.usefixtures("leaves_nothing")
def test_a_client_that_still_sends_reads_why_it_was_refused(
    server: Running, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CreateFile, "MAX_BYTES", 100_000)
    with connected(server) as connection:
        connection.sendall(head(key, BOUNDARY, f"Content-Length: {30_000_000}"))

        def pour() -> None:
            try:
                for _ in range(30):
                    connection.sendall(bytes(1_000_000))
            except OSError:
                return

        pouring = threading.Thread(target=pour)
        pouring.start()
        status, _ = answer(connection)
        pouring.join()
    assert status == 413


@pytest.mark.usefixtures("leaves_nothing")
@pytest.mark.parametrize("sent", [100, 500_000, 9_000_000])
def test_a_client_that_leaves_half_way_leaves_nothing(server: Running, key: str, sent: int) -> None:
    body = form(PURPOSE, (FILE[0], bytes(10_000_000)))
    with connected(server) as connection:
        connection.sendall(head(key, BOUNDARY, f"Content-Length: {len(body)}"))
        connection.sendall(body[:sent])
        time.sleep(0.1)


@pytest.mark.usefixtures("leaves_nothing")
def test_a_form_that_stalls_is_given_up(
    server: Running, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BODY_STALL_S", 0.1)
    body = form(PURPOSE, FILE)
    with connected(server) as connection:
        connection.sendall(head(key, BOUNDARY, f"Content-Length: {len(body)}"))
        connection.sendall(body[:-30])
        status, error = answer(connection)
        assert connection.recv(1) == b""  # Closed.
    assert status == 400
    assert error["error"]["message"] == (
        "The request body stopped arriving for more than 0.1 seconds."
    )


@pytest.mark.usefixtures("leaves_nothing")
def test_a_form_that_trickles_for_ever_is_given_up(
    server: Running, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FORM_TOTAL_S", 0.3)
    body = form(PURPOSE, FILE)
    with connected(server) as connection:
        connection.sendall(head(key, BOUNDARY, f"Content-Length: {len(body)}"))
        for at in range(60):
            connection.sendall(body[at : at + 1])
            time.sleep(0.01)
        status, error = answer(connection)
    assert status == 400
    assert "took longer than 0.3 seconds" in error["error"]["message"]


@pytest.mark.parametrize("kind", ["application/json", "", "multipart/mixed; boundary=x"])
def test_what_is_sent_as_something_else_is_refused(server: Running, key: str, kind: str) -> None:
    lines = ["POST /v1/files HTTP/1.1", "Host: x", f"Authorization: Bearer {key}"]
    lines += [f"Content-Type: {kind}", "Content-Length: 2"]
    with connected(server) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n{}").encode())
        status, error = answer(connection)
    assert status == 400
    assert f"Invalid Content-Type header ({kind}), expected" in error["error"]["message"]


def test_the_connection_can_be_used_again(server: Running, key: str) -> None:
    body = form(FILE, PURPOSE) + b"\r\nan epilogue that means nothing\r\n"
    with connected(server) as connection:
        for _ in range(3):
            connection.sendall(head(key, BOUNDARY, f"Content-Length: {len(body)}") + body)
            status, _ = answer(connection)
            assert status == 200


@pytest.mark.assertion(171)
def test_a_large_file_passes_with_flat_memory(server: Running, project: str, key: str) -> None:
    size = 160 * 1024 * 1024
    block = bytes(range(256)) * 4096
    start, end = form(PURPOSE, (FILE[0], b"|")).split(b"|")
    peak = Peak()
    with connected(server) as connection, peak:
        connection.sendall(head(key, BOUNDARY, f"Content-Length: {size + len(start + end)}"))
        connection.sendall(start)
        for _ in range(size // len(block)):
            connection.sendall(block)
        connection.sendall(end)
        status, file = answer(connection)
    assert (status, file["bytes"]) == (200, size)
    assert content(server, project, file["id"])[-len(block) :] == block
    assert peak.growth_bytes < 64 * 1024 * 1024


class Peak:
    """How much this process, which has the server in it, grows within."""

    def __enter__(self) -> "Peak":
        self._before = self._highest = resident_bytes()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._is_over.set()
        self._thread.join()
        self.growth_bytes = self._highest - self._before

    def _watch(self) -> None:
        while not self._is_over.wait(0.01):
            self._highest = max(self._highest, resident_bytes())


def resident_bytes() -> int:
    """The memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
