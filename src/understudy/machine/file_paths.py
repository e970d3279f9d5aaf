"""File paths: links like `sandbox:/mnt/data/report.csv` in a model's text, each annotated.

Rules of this file
- A link to a file that exists has exactly one annotation (SPEC 10.2); its text is the link as the
  model wrote it, percent-encoded or not. A link to anything else is plain text.
- The text itself is never changed, only held back: while a piece may still become a link, and no
  longer than the longest name that is known.
- A name may hold spaces and brackets, so where a link ends is told by the names that are known:
  the longest that fits, and that does not go on (`report.csv` is not in `report.csv.bak`).
- Offsets are code points of the shown text, and the end is exclusive.
"""

from collections.abc import Mapping
from urllib.parse import quote

from understudy import limits
from understudy.machine.annotations import Shown
from understudy.wire.messages import FilePath, FilePathAnnotation

FOLDER = "/mnt/data"
SCHEME = f"sandbox:{FOLDER}/"

# What a match of a name against a text may come to beside an end.
_NO = -1
_NOT_YET = -2


class FilePaths:
    """The links of one text: `feed` what is about to be shown, then `finish`.

    `files` maps paths below FOLDER to file ids.
    """

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = files
        self._held = ""
        self._length = 0  # Of what was shown.

    def feed(self, shown: Shown) -> list[Shown]:
        """What may be shown now. A piece that has an annotation already ends what was held."""
        if shown.annotation is None:
            return self._scan(self._held + shown.text, is_end=False)
        before = self.finish()
        self._length += len(shown.text)
        return [*before, shown]

    def finish(self) -> list[Shown]:
        """What was held back, now that nothing follows it."""
        return self._scan(self._held, is_end=True)

    def _scan(self, text: str, *, is_end: bool) -> list[Shown]:
        self._held = ""
        shown: list[Shown] = []
        plain = at = 0  # Where the plain text that is not shown yet starts, and where we look.
        while (at := text.find(SCHEME, at)) >= 0:
            end, file_id = self._link(text, at + len(SCHEME), is_end)
            if end == _NOT_YET:
                self._held = text[at:]
                break
            if end == _NO:
                at += len(SCHEME)
                continue
            shown += self._plain(text[plain:at])
            shown.append(self._linked(text[at:end], file_id))
            plain = at = end
        if at < 0 and not is_end:
            self._held = _begun(text[plain:])
        return shown + self._plain(text[plain : len(text) - len(self._held)])

    def _link(self, text: str, start: int, is_end: bool) -> tuple[int, str]:
        """Where the link ends that names a file at `start`, and the file's id."""
        may_wait = not is_end and len(text) - start < limits.FILE_LINK_CHARS
        longest, found = _NO, ""
        for path, file_id in self._files.items():
            end = _whole(text, start, path, is_end=not may_wait)
            if end == _NOT_YET and may_wait:
                return _NOT_YET, ""
            if end > longest:
                longest, found = end, file_id
        return longest, found

    def _plain(self, text: str) -> list[Shown]:
        self._length += len(text)
        return [Shown(text)] if text else []

    def _linked(self, text: str, file_id: str) -> Shown:
        start = self._length
        self._length += len(text)
        annotation = FilePathAnnotation(
            text=text,
            start_index=start,
            end_index=self._length,
            file_path=FilePath(file_id=file_id),
        )
        return Shown(text, annotation)


def _begun(text: str) -> str:
    """The end of a text that may become a link."""
    for length in range(min(len(text), len(SCHEME) - 1), 0, -1):
        if text.endswith(SCHEME[:length]):
            return SCHEME[:length]
    return ""


def _whole(text: str, start: int, path: str, *, is_end: bool) -> int:
    """Where a path that stands at `start` ends, if it ends there."""
    ends = [_as_it_is(text, start, path), _encoded(text, start, path)]
    if _NOT_YET in ends and not is_end:
        return _NOT_YET
    end = max(ends)
    if end < 0:
        return _NO
    after = text[end : end + 2]
    if not after or (len(after) == 1 and after in ".-/"):
        return end if is_end else _NOT_YET
    goes_on = _is_of_a_name(after[0]) or (after[0] in ".-/" and _is_of_a_name(after[1]))
    return _NO if goes_on else end


def _is_of_a_name(char: str) -> bool:
    """Whether a name that this follows goes on. Of letters only ASCII ones: other scripts write
    their words right behind a link."""
    return char.isascii() and (char.isalnum() or char in "_%")


def _as_it_is(text: str, start: int, path: str) -> int:
    if text.startswith(path, start):
        return start + len(path)
    return _NOT_YET if path.startswith(text[start : start + len(path)]) else _NO


def _encoded(text: str, start: int, path: str) -> int:
    """The same of a text that may be percent-encoded, all of it or what has to be."""
    at = start
    for char in path:
        code = quote(char, safe="") if char != "/" else "%2F"
        code = code if code != char else f"%{ord(char):02X}"
        there = text[at : at + len(code)]
        if there.upper() == code:
            at += len(code)
        elif there.startswith(char) and char != "%":
            at += 1
        else:
            return _NOT_YET if code.startswith(there.upper()) else _NO
    return at
