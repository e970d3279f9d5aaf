"""Redaction: what of a provider's text a client may read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy import limits
from understudy.model.redaction import redact

SECRETS = ("my upstream key", "llm.corp.example:8443")


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (
            "Incorrect API key provided: sk-proj-abc***wxyz. See",
            "Incorrect API key provided: [redacted] See",
        ),
        ("key MY UPSTREAM KEY is bad", "key [redacted] is bad"),
        ("no route to llm.corp.example:8443", "no route to [redacted]"),
        ("sent Authorization: Bearer abc.def-123", "sent Authorization: Bearer [redacted]"),
        ("postgres://u:p@db/x failed", "[redacted] failed"),
        ("see https://u:p@example.com/x", "see [redacted]"),
        ("see http://10.0.0.5:8000/v1/chat", "see http://[redacted]/v1/chat"),
        ("connect 192.168.1.7:11434 refused", "connect [redacted] refused"),
        ("GET https://example.com/m?key=abc", "GET https://example.com/m"),
        ("api_key=abcdef was refused", "api_key=[redacted] was refused"),
        ("in organization org-AbCdEfGh123 on", "in organization org-[redacted] on"),
        ("token 0123456789abcdef0123456789abcdef", "token [redacted]"),
        ("AIzaSyA-1234567890abcdef", "[redacted]"),
        ("line one\r\nline\x00 two", "line one line two"),
    ],
)
def test_secrets_are_gone(said: str, shown: str) -> None:
    assert redact(said, SECRETS) == shown


@pytest.mark.parametrize(
    "said",
    [
        "Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000, Used 29500, "
        "Requested 1000. Please try again in 1s.",
        "Visit https://platform.openai.com/account/rate-limits to learn more.",
        "Unsupported parameter: 'max_tokens' is not supported with this model.",
        "This model's maximum context length is 8192 tokens.",
        "The model `llama3:latest` does not exist",
    ],
)
def test_what_helps_the_reader_stays(said: str) -> None:
    assert redact(said, SECRETS) == said


@given(st.text(max_size=200), st.text(max_size=200))
def test_an_exact_secret_never_survives(before: str, after: str) -> None:
    assert SECRETS[0] not in redact(before + SECRETS[0] + after, SECRETS)


def test_long_texts_are_cut() -> None:
    assert len(redact("word " * 10_000)) <= limits.MODEL_ERROR_CHARS + 1
