"""What goes through the socket between a server and its writer: messages, each after its length.

Questions are marshalled: plain values are quick, and nothing else can reach the writer. Answers are
pickled, since exceptions are among them; both ends are the same program on the same machine. What
is told before a transaction is durable is marshalled, too: pairs of a caller's place among those
that wait, and the rows of its statements.
"""

import struct

_HEAD = struct.Struct("<Q")

# The last frame from a server that closes; one that is killed sends none.
END = _HEAD.pack(0)

# So begins what is told; a pickle begins otherwise.
TOLD = b"told"


def framed(message: bytes) -> bytes:
    """The message as a frame."""
    return _HEAD.pack(len(message)) + message


class Frames:
    """Takes the pieces of one direction in order."""

    def __init__(self) -> None:
        self._held = bytearray()

    def take(self, piece: bytes) -> list[bytes]:
        """The messages that this piece completes; an empty one is END."""
        held = self._held
        held += piece
        messages: list[bytes] = []
        at = 0
        while len(held) - at >= _HEAD.size:
            (size,) = _HEAD.unpack_from(held, at)
            begin = at + _HEAD.size
            if len(held) - begin < size:
                break
            at = begin + size
            messages.append(bytes(held[begin:at]))
        del held[:at]
        return messages
