"""Files that are broken, or made to break their reader, each with what has to become of it."""

# ruff: noqa: RUF001  Texts in other scripts have letters that look like ours.

import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reportlab.pdfgen.canvas import Canvas

from tests.search.compound import compound, word_document
from tests.search.corpus import write_docx, write_html, write_pdf, write_pptx

SAID = "The heron of Zorvalka waits for the ferry."
MIB = 1024 * 1024


@dataclass(frozen=True)
class Hostile:
    """A file: the name it is uploaded with, what makes it, and its end."""

    name: str
    make: Callable[[Path], None]
    status: Literal["completed", "failed"] = "completed"
    code: Literal["invalid_file", "unsupported_file"] | None = None
    words: tuple[str, ...] = ()  # Of the error's text; of the file's text when it is completed.
    is_slow: bool = False  # It needs all the processor time that it may have.


def _bytes(data: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(data)

    return make


def _text(text: str, encoding: str = "utf-8") -> Callable[[Path], None]:
    return _bytes(text.encode(encoding, "surrogatepass"))


def _noise(count: int) -> bytes:
    return random.Random(count).randbytes(count)


# --- Archives ----------------------------------------------------------------------------------

RELATIONS = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="r1" Target="word/document.xml" Type="http://schemas.openxmlformats.org/'
    'officeDocument/2006/relationships/officeDocument"/></Relationships>'
)
WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
BODY = f'<w:document xmlns:w="{WORD}"><w:body><w:p><w:r><w:t>{{}}</w:t></w:r></w:p></w:body>'


def _docx(document: str, **others: bytes) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("_rels/.rels", RELATIONS)
            archive.writestr("word/document.xml", document)
            for name, data in others.items():
                archive.writestr(name, data)

    return make


def _zeros(count_mib: int) -> bytes:
    """Zeros, packed: the same block again and again, so that making a bomb takes no time."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(b"\0" * MIB) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * count_mib + packer.flush()


def _bomb(name: str, *, says_bytes: int | None = None) -> Callable[[Path], None]:
    """A .docx of 1 MB with an entry that unpacks to 1 GiB, whatever the directory says."""

    def make(path: Path) -> None:
        packed = _zeros(1024)
        size = says_bytes or 1024 * MIB
        entries = [(b"_rels/.rels", RELATIONS.encode(), None)]
        if name != "word/document.xml":
            entries.append((b"word/document.xml", BODY.format(SAID).encode(), None))
        path.write_bytes(_archive([*entries, (name.encode(), packed, size)]))

    return make


def _archive(entries: list[tuple[bytes, bytes, int | None]]) -> bytes:
    """A ZIP file of entries: name, data, and the size if the data is packed already."""
    body, directory = b"", b""
    for name, data, size in entries:
        method, check = (0, zlib.crc32(data)) if size is None else (8, 0)
        said = len(data) if size is None else size
        facts = struct.pack("<HHHHIIIHH", 0, method, 0, 0, check, len(data), said, len(name), 0)
        place = struct.pack("<HHHII", 0, 0, 0, 0, len(body))
        directory += b"PK\x01\x02\x14\0\x14\0" + facts + place + name
        body += b"PK\x03\x04\x14\0" + facts + name + data
    count = min(len(entries), 0xFFFF)
    end = struct.pack("<HHHHIIH", 0, 0, count, count, len(directory), len(body), 0)
    return body + directory + b"PK\x05\x06" + end


def _many_entries(path: Path) -> None:
    names = [f"word/media/{number}".encode() for number in range(20_000)]
    path.write_bytes(_archive([(name, b"", None) for name in names]))


def _zip_with_password(path: Path) -> None:
    _docx(BODY.format(SAID) + "</w:document>")(path)
    data = bytearray(path.read_bytes())
    at = 0
    while (at := data.find(b"PK\x01\x02", at)) >= 0:
        data[at + 8] |= 1
        at += 4
    path.write_bytes(bytes(data))


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
BILLION_LAUGHS = f'<!DOCTYPE w [<!ENTITY l0 "ha">{LAUGHS}]>' + BODY.format("&l9;")
FETCHED = '<!DOCTYPE w [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + BODY.format("&x;")
DEEP_XML = BODY.format("<w:sdt>" * 100_000)


# --- PDF ---------------------------------------------------------------------------------------


def _pdf(path: Path, *, pages: int = 1, password: str | None = None, owner: bool = False) -> None:
    from reportlab.lib.pdfencrypt import StandardEncryption

    encrypt = None
    if password:
        encrypt = StandardEncryption("" if owner else password, ownerPassword=password)
    canvas = Canvas(str(path), invariant=1, encrypt=encrypt)
    for number in range(1, pages + 1):
        canvas.drawString(60, 700, f"{SAID} Page {number}.")
        canvas.showPage()
    canvas.save()


def _scan(path: Path) -> None:
    canvas = Canvas(str(path), invariant=1)
    for _ in range(3):
        canvas.rect(50, 50, 400, 600, fill=1)
        canvas.showPage()
    canvas.save()


def _cut_pdf(path: Path) -> None:
    _pdf(path, pages=20)
    path.write_bytes(path.read_bytes()[:300])


def _pdf_of(content: bytes, *, pages: int = 1) -> bytes:
    """A PDF whose pages all have this content, packed already."""
    kids = b" ".join(b"%d 0 R" % (number + 5) for number in range(pages))
    page = (
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 800]/Contents 3 0 R"
        b"/Resources<</Font<</F 4 0 R>>>>>>"
    )
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, pages),
        b"<</Filter/FlateDecode/Length %d>>stream\n%s\nendstream" % (len(content), content),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        *[page] * pages,
    ]
    body, places = b"%PDF-1.4\n", []
    for number, said in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, said)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    count = len(objects) + 1
    table = b"xref\n0 %d\n0000000000 65535 f \n%s" % (count, table)
    end = b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (count, len(body))
    return body + table + end


def _repeated(block: bytes, count: int) -> bytes:
    """The same block again and again, packed as PDF wants it, but for the sum at its end."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x78\xda" + packed * count + packer.flush() + b"\0\0\0\0"


def _busy_pdf(path: Path) -> None:
    """200 KB of packed operators that do nothing: 60,000,000 of them on each of 500 pages."""
    path.write_bytes(_pdf_of(_repeated(b"q Q\n" * 250_000, 120), pages=500))


def _swollen_pdf(path: Path) -> None:
    """1 MB that unpacks to 1 GiB of text."""
    path.write_bytes(_pdf_of(_repeated(b"BT /F 9 Tf 9 9 Td (abc) Tj ET\n" * 35_000, 1024)))


# --- Everything --------------------------------------------------------------------------------


def _named(write: Callable[[Path, list[str], int], None]) -> Callable[[Path], None]:
    return lambda path: write(path, [SAID, "Another one.", "A third one.", "A fourth one."], 1)


def _shaped(write: Callable[[Path, list[str], int], None], suffix: str) -> Callable[[Path], None]:
    """Written under its own extension, then renamed: some writers look at it."""

    def make(path: Path) -> None:
        own = path.with_name("made" + suffix)
        _named(write)(own)
        own.rename(path)

    return make


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", SAID)


def _many_bytes(path: Path) -> None:
    line = (SAID + "\n").encode()
    path.write_bytes(line * (70 * MIB // len(line)))


DEEP_HTML = f"<html><body>{'<div>' * 100_000}{SAID}{'</div>' * 100_000}</body></html>"
GREEK = "Ο ερωδιός περιμένει το πλοίο στην όχθη του ποταμού. " * 3
JAPANESE = "青鷺は渡し船を待っています。川の水は静かに流れています。\n" * 3
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0\x90wS\xde" + _noise(2000)
UNSEEN_BIDI = "\u202e"

HOSTILE = [
    # Nothing in it.
    Hostile("empty.txt", _bytes(b""), "failed", "invalid_file", ("empty",)),
    Hostile("blank.txt", _text(" \n\t" * 999), "failed", "invalid_file", ("no text", ".txt")),
    Hostile("blank.html", _text("<html><p> </p><script>x()</script></html>"), "failed",
            "invalid_file", ("no text",)),
    Hostile("empty.docx", _docx(BODY.format("") + "</w:document>"), "failed", "invalid_file",
            ("no text", ".docx")),
    # PDF.
    Hostile("password.pdf", lambda path: _pdf(path, password="a"), "failed", "invalid_file",
            ("encrypted", "password")),
    Hostile("printing-forbidden.pdf", lambda path: _pdf(path, password="a", owner=True),
            words=(SAID,)),
    Hostile("thousand-pages.pdf", lambda path: _pdf(path, pages=1000),
            words=("Page 1.", "Page 1000.")),
    Hostile("scan.pdf", _scan, "failed", "invalid_file", ("3 pages", "no text", "OCR")),
    Hostile("cut.pdf", _cut_pdf, "failed", "invalid_file", ("damaged", "PDF")),
    Hostile("broken.pdf", _bytes(b"%PDF-1.7\n" + _noise(9000)), "failed", "invalid_file",
            ("damaged", "PDF")),
    Hostile("busy.pdf", _busy_pdf, "failed", "invalid_file", ("took too long",), is_slow=True),
    Hostile("swollen.pdf", _swollen_pdf, "failed", "invalid_file", ("memory", "448 MiB")),
    # Office files.
    Hostile("bomb.docx", _bomb("word/document.xml"), "failed", "invalid_file",
            ("unpacks to 1,073,7",)),
    Hostile("lying-bomb.docx", _bomb("word/document.xml", says_bytes=999), "failed",
            "invalid_file", ("damaged",)),
    Hostile("picture-bomb.docx", _bomb("word/media/a.bin"), "failed", "invalid_file",
            ("unpacks to", "times its size")),
    Hostile("many-entries.docx", _many_entries, "failed", "invalid_file", ("10,000 entries",)),
    Hostile("laughs.docx", _docx(BILLION_LAUGHS), "failed", "invalid_file", ("entities",)),
    Hostile("fetch.docx", _docx(FETCHED), "failed", "invalid_file", ("entities",)),
    Hostile("deep.docx", _docx(DEEP_XML), "failed", "invalid_file", ("nested",)),
    Hostile("cut.docx", _docx(BODY.format(SAID)[:-9]), "failed", "invalid_file", ("damaged",)),
    Hostile("locked-entries.docx", _zip_with_password, "failed", "invalid_file", ("password",)),
    Hostile("locked.docx", _bytes(compound({"EncryptedPackage": b"x", "EncryptionInfo": b"y"})),
            "failed", "invalid_file", ("encrypted", "password")),
    Hostile("locked.doc", _bytes(word_document(SAID, flags=0x100)), "failed", "invalid_file",
            ("encrypted", "password")),
    Hostile("cut.doc", _bytes(word_document(SAID)[:2000]), "failed", "invalid_file", ("damaged",)),
    Hostile("noise.doc", _bytes(word_document(SAID)[:512] + _noise(9000)), "failed",
            "invalid_file", ("damaged",)),
    Hostile("old.doc", _bytes(compound({"PowerPoint Document": b"x"})), "failed",
            "unsupported_file", ("PowerPoint 97-2003",)),
    # Texts.
    Hostile("random.txt", _bytes(_noise(20_000)), "failed", "invalid_file", ("not text", ".txt")),
    Hostile("short-random.txt", _bytes(_noise(64)), "failed", "invalid_file", ("not text",)),
    Hostile("random.pdf", _bytes(_noise(20_000)), "failed", "invalid_file", ("not text", ".pdf")),
    Hostile("random", _bytes(_noise(20_000)), "failed", "invalid_file", ("not text",)),
    Hostile("latin-1.txt", _text("Grüße aus Köln, à bientôt, señor!", "latin-1"),
            words=("Grüße aus Köln, à bientôt, señor!",)),
    Hostile("windows.txt", _text("Der „Reiher“ wartet – für 5 €.", "cp1252"),
            words=("Der „Reiher“ wartet – für 5 €.",)),
    Hostile("utf-16.txt", _text(JAPANESE, "utf-16"), words=("青鷺は渡し船を待っています。",)),
    Hostile("utf-16-be.txt", _text(GREEK, "utf-16-be"), words=(GREEK[:50],)),
    Hostile("utf-32.txt", _text(GREEK, "utf-32"), words=(GREEK[:50],)),
    Hostile("shift-jis.txt", _text(JAPANESE, "shift-jis"),
            words=("青鷺は渡し船を待っています。",)),
    Hostile("koi8-r.txt", _text("Цапля ждёт парома на берегу реки. " * 3, "koi8-r"),
            words=("Цапля ждёт парома на берегу реки.",)),
    Hostile("gb18030.txt", _text("苍鹭在河边等待渡船，河水静静地流淌。\n" * 3, "gb18030"),
            words=("苍鹭在河边等待渡船，河水静静地流淌。",)),
    Hostile("zeros.txt", _text(f"\0{SAID}\0\r\n" * 20), words=(SAID,)),
    Hostile("surrogates.txt", _text(f"{SAID} \ud83d and on. " * 20), words=(SAID, "and on.")),
    Hostile("deep.html", _text(DEEP_HTML), words=(SAID,)),
    Hostile("laughs.html", _text("<!DOCTYPE w [" + LAUGHS + "]><p>&l9;" + SAID), words=(SAID,)),
    Hostile("braces.doc", _text("{\\rtf1 " + "{\\b " * 100_000 + SAID), words=(SAID,)),
    Hostile("many-bytes.txt", _many_bytes, "failed", "invalid_file", ("bytes of text", "split")),
    Hostile("many-tokens.txt", _text("7 q " * 4_000_000), "failed", "invalid_file",
            ("tokens", "5,000,000")),
    # Names that lie, and names to stumble over.
    Hostile("really-pdf.txt", _pdf, words=(SAID,)),
    Hostile("really-text.pdf", _text(SAID), words=(SAID,)),
    Hostile("really-docx.doc", _shaped(write_docx, ".docx"), words=(SAID,)),
    Hostile("really-pptx.docx", _shaped(write_pptx, ".pptx"), words=(SAID,)),
    Hostile("really-rtf.doc", _text("{\\rtf1\\ansi " + SAID + "}"), words=(SAID,)),
    Hostile("really-html.doc", _shaped(write_html, ".html"), words=(SAID,)),
    Hostile("really-png.txt", _bytes(PNG), "failed", "unsupported_file", ("image/png",)),
    Hostile("REPORT.PDF", _shaped(write_pdf, ".pdf"), words=(SAID,)),
    Hostile("no-extension", _text(SAID), words=(SAID,)),
    Hostile("line\nbreak.txt", _text(SAID), words=(SAID,)),
    Hostile('quo"te\'s.txt', _text(SAID), words=(SAID,)),
    Hostile(f"right{UNSEEN_BIDI}txt.exe.txt", _text(SAID), words=(SAID,)),
    Hostile("../../etc/passwd.txt", _text(SAID), words=(SAID,)),
    # Other kinds.
    Hostile("table.csv", _text("a,b\n1,2\n"), "failed", "unsupported_file", (".csv",)),
    Hostile("picture.png", _bytes(PNG), "failed", "unsupported_file", (".png",)),
    Hostile("files.zip", _zip, "failed", "unsupported_file", ("ZIP archive",)),
    Hostile("program.exe", _bytes(b"MZ\x90\0" + _noise(5000)), "failed", "unsupported_file",
            (".exe",)),
]  # fmt: skip
