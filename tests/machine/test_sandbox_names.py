"""Names below /mnt/data: whatever a client or code calls a file, it is safe there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy import limits
from understudy.machine.sandbox_names import base_name, free_path, safe_name, safe_path


@pytest.mark.parametrize(
    ("filename", "expected"),
    [
        ("x.csv", "x.csv"),
        ("a b (1).csv", "a b (1).csv"),
        ("../../etc/passwd", "passwd"),
        ("C:\\data\\x.csv", "x.csv"),
        ("売上🙂.csv", "売上🙂.csv"),
        (".env", ".env"),
        ("a\nb\x00\u202ec", "a_b__c"),
        ("a\ud83d", "a_"),
        ("..", "file"),
        ("a/", "file"),
        (" ", "file"),
        ("", "file"),
    ],
)
def test_the_name_of_an_upload(filename: str, expected: str) -> None:
    assert safe_name(filename) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("out/x.csv", "out/x.csv"),
        ("/out//./x.csv", "out/x.csv"),
        ("../../x", "x"),
        ("a\\b", "a_b"),
        ("/".join("abcdefghij"), "/".join("cdefghij")),
        (" / /..", None),
        ("", None),
    ],
)
def test_the_path_of_a_file_of_code(path: str, expected: str | None) -> None:
    assert safe_path(path) == expected


@given(st.text(st.characters(), max_size=400))
def test_every_name_is_safe(name: str) -> None:
    for safe in (safe_name(name), safe_path(name)):
        if safe is None:
            continue
        parts = safe.split("/")
        assert len(parts) <= limits.CODE_FOLDER_DEPTH
        assert all(part.strip() and part not in (".", "..") for part in parts)
        assert all(len(part.encode()) <= limits.CODE_PATH_BYTES for part in parts)
        assert safe_path(safe) == safe, "a path that was kept is the path that comes back"


def test_long_names_keep_their_extension() -> None:
    name = safe_name("é" * 500 + ".csv")
    assert name.endswith("é.csv") and len(name.encode()) <= limits.CODE_PATH_BYTES
    assert len(safe_name("." + "x" * 500)) == limits.CODE_PATH_BYTES


def test_two_files_of_one_name_get_a_number() -> None:
    assert free_path("x.csv", {"y.csv"}) == "x.csv"
    assert free_path("x.csv", {"x.csv", "x (2).csv"}) == "x (3).csv"
    assert free_path("a.b/x", {"a.b/x"}) == "a.b/x (2)"
    assert free_path(".env", {".env"}) == ".env (2)"
    assert base_name("a/b/c.csv") == base_name("c.csv") == "c.csv"
