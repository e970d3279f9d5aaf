"""The main program of a reading child: files in, parts out, until its input ends.

It runs as `python -m understudy.search.reading <parent's pid>` with nothing but two pipes. When
the reader of its output is slow it waits in a write, so no more than a part is ever ahead.
"""

import contextlib
import os
import sys
import traceback
from pathlib import Path

import msgspec

from understudy import limits
from understudy.search import unreadable
from understudy.search.confine import allow_cpu, allow_memory, confine, resident_bytes
from understudy.search.frames import HEAD, Begun, Ended, Heard, Made, Read, packed
from understudy.search.part import parts
from understudy.search.unreadable import Unreadable


def main() -> None:
    """Answer requests from standard input on standard output."""
    confine(int(sys.argv[1]))
    requests, answers = os.dup(0), os.dup(1)
    # What a library prints must not get between the frames, nor into the server's log.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    os.close(nowhere)
    decoder = msgspec.msgpack.Decoder(Read)
    with contextlib.suppress(BrokenPipeError):
        while head := _exactly(requests, HEAD.size):
            (length,) = HEAD.unpack(head)
            _answer(decoder.decode(_exactly(requests, length)), answers)


def _answer(request: Read, answers: int) -> None:
    """Everything that is said about one file."""
    _send(answers, Begun())
    try:
        _send_parts(request, answers)
        end = Ended(resident_bytes())
    except Unreadable as why:
        end = _ended(why)
    except MemoryError:
        end = Ended(resident_bytes(), is_out_of_memory=True)
    except BrokenPipeError:
        raise
    except Exception:  # noqa: BLE001  One file's oddity; the next file deserves a living child.
        end = _ended(unreadable.reader_failed())
    _send(answers, end)


def _send_parts(request: Read, answers: int) -> None:
    allow_memory(request.address_bytes)
    allow_cpu(request.cpu_s)
    text = _text(request)
    _check_tokens(text)
    made = parts(text, request.size_tokens, request.overlap_tokens, skip=request.skip_parts)
    del text
    for part in made:
        _send(answers, Made(part))
        allow_cpu(limits.READER_PART_CPU_S)


def _text(request: Read) -> str:
    from understudy.search.parse import read_text

    try:
        return read_text(Path(request.path), request.filename, more_types=request.more_types)
    except (Unreadable, MemoryError):
        raise
    except OSError as gone:
        # The path is our own spool file: not the client's doing.
        raise unreadable.reader_failed() from gone
    except Exception as odd:  # Parsers stumble over odd files in ways that nobody can list.
        raise unreadable.damaged("its type says") from odd


def _check_tokens(text: str) -> None:
    """Refuse a text of too many tokens. Counting takes time, so a sample may speak for the rest."""
    step = limits.TOKENISED_CHARS // 8
    if len(text) * 4 <= limits.FILE_TOKENS:
        return
    sampled = range(0, len(text) - step, len(text) // limits.SAMPLED_PIECES)
    seen = sum(_tokens(text[start : start + step]) for start in sampled)
    about = seen * len(text) // (len(sampled) * step)
    if about < limits.FILE_TOKENS * limits.SAMPLED_SHARE:
        return
    if about * limits.SAMPLED_SHARE > limits.FILE_TOKENS:
        raise unreadable.too_many_tokens(f"some {about:,}", limits.FILE_TOKENS)
    count = sum(_tokens(text[start : start + step]) for start in range(0, len(text), step))
    if count > limits.FILE_TOKENS:
        raise unreadable.too_many_tokens(f"{count:,}", limits.FILE_TOKENS)


def _tokens(text: str) -> int:
    from understudy.machine import tokens

    return tokens.count(text)


def _ended(why: Unreadable) -> Ended:
    """The end of a file that failed. The log learns where, never what the file says."""
    odd = why.__cause__ or sys.exception()
    where = traceback.extract_tb(odd.__traceback__) if odd and odd is not why else []
    lines = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in where]
    detail = " > ".join([type(odd).__name__, *lines]) if lines else ""
    return Ended(resident_bytes(), why.code, why.message, detail[-limits.READER_DETAIL_CHARS :])


def _send(answers: int, frame: Heard) -> None:
    data = memoryview(packed(frame))
    while data:
        data = data[os.write(answers, data) :]


def _exactly(requests: int, length: int) -> bytes:
    """So many bytes; fewer only when the input ends."""
    pieces: list[bytes] = []
    while length and (piece := os.read(requests, length)):
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)


if __name__ == "__main__":
    main()
