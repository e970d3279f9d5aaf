"""The framing of PostgreSQL's protocol 3.0, as much as a proxy needs that watches what is asked.

After its start a connection carries messages in both directions, each of them

    one byte, its kind | four bytes, the length of these four and of the body | the body

(https://www.postgresql.org/docs/current/protocol-message-formats.html). A client's first message
has no kind, since it is older than kinds; its first four bytes after the length tell what it is:
a start (3.0), a request to cancel, or the question whether to encrypt, which is answered by one
byte without a frame, and after which the connection starts over.

A question ends with `Query` (one or more statements as text) or with `Sync` (after `Parse`, `Bind`,
`Execute` of prepared ones), and the start is a question, too. The server answers each with any
number of messages and then one `ReadyForQuery`, in order, also when it answers with an error. So
the n-th `ReadyForQuery` says that the n-th question is done: what it asked to commit is committed.
What comes between answers (notifications, notices) has kinds of its own and no `ReadyForQuery`.

`Bind` and `Execute` do not carry their statement but its name, or that of a portal. So that a test
can name a statement by its text, `Client` remembers the text that each name stands for.
"""

from dataclasses import dataclass, field

QUERY, PARSE, BIND, EXECUTE, SYNC = "Q", "P", "B", "E", "S"
CALL, CLOSE, END = "F", "C", "X"
READY, NOTIFICATION = "Z", "A"  # Of the server.
START = ""  # A client's first message, which has no kind.

# Codes in a first message.
CANCEL, TLS, GSSAPI = 80_877_102, 80_877_103, 80_877_104

_ENDS_QUESTION = (START, QUERY, SYNC, CALL)


@dataclass(frozen=True)
class Message:
    """One message; `sql` is the statement that it is about, where it is about one."""

    kind: str
    body: bytes
    raw: bytes = field(repr=False)
    sql: str = ""

    @property
    def ends_question(self) -> bool:
        """Whether the server answers this with its next ReadyForQuery."""
        return self.kind in _ENDS_QUESTION and self.code not in (CANCEL, TLS, GSSAPI)

    @property
    def code(self) -> int:
        """What a first message is; 0 for all others."""
        return int.from_bytes(self.body[:4]) if self.kind == START else 0


class Server:
    """Cuts what a server sends into messages."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """The messages that these bytes make whole."""
        self._pending += data
        messages = []
        while (message := self._take(1)) is not None:
            messages.append(message)
        return messages

    def _take(self, kind_bytes: int) -> Message | None:
        head = kind_bytes + 4
        if len(self._pending) < head:
            return None
        end = kind_bytes + int.from_bytes(self._pending[kind_bytes:head])
        if len(self._pending) < end:
            return None
        raw = bytes(self._pending[:end])
        del self._pending[:end]
        return Message(raw[:kind_bytes].decode("latin-1"), raw[head:], raw)


class Client(Server):
    """Cuts what a client sends into messages, and knows which statement each is about."""

    def __init__(self) -> None:
        super().__init__()
        self._has_started = False
        self._statements: dict[bytes, str] = {}
        self._portals: dict[bytes, str] = {}

    def _take(self, kind_bytes: int) -> Message | None:
        message = super()._take(kind_bytes if self._has_started else 0)
        if message is None:
            return None
        if message.kind == START:
            self._has_started = message.code not in (TLS, GSSAPI)
        return Message(message.kind, message.body, message.raw, self._sql(message))

    def _sql(self, message: Message) -> str:
        words = message.body.split(b"\0", 2)
        if message.kind == QUERY:
            return _text(words[0])
        if message.kind == PARSE:
            self._statements[words[0]] = _text(words[1])
            return self._statements[words[0]]
        if message.kind == BIND:
            self._portals[words[0]] = self._statements.get(words[1], "")
            return self._portals[words[0]]
        if message.kind == EXECUTE:
            return self._portals.get(words[0], "")
        return ""


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")
