"""RTF files, under whatever name: most of the .doc files that are no Word document are these."""

import re
from pathlib import Path

from understudy import limits
from understudy.search import unreadable

# Pictures and fonts in hexadecimal: megabytes that hold no text.
_HEXADECIMAL = re.compile(rb"[0-9a-fA-F\s]{256,}")
# Their place keeps a border, so that the control word before it does not grow.
_NOTHING = b" "


def read(path: Path) -> str:
    """The text of an .rtf file."""
    from striprtf.striprtf import rtf_to_text  # Loaded late: few files need it.

    size = path.stat().st_size
    data = _HEXADECIMAL.sub(_NOTHING, path.read_bytes())
    if len(data) > limits.TEXT_BYTES:
        raise unreadable.too_many_bytes(size, limits.TEXT_BYTES)
    # RTF is ASCII; a writer that puts raw bytes in means one of these.
    try:
        source = data.decode("utf-8")
    except UnicodeDecodeError:
        source = data.decode("cp1252", errors="replace")
    text: str = rtf_to_text(source, errors="ignore")  # type: ignore[no-untyped-call]
    return text
