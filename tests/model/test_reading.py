"""Reading: the chunks and errors of one answer, whatever comes in the same read."""

import pytest

from understudy.model import ModelError
from understudy.model.reading import Reading


def test_an_error_counts_though_nonsense_follows_in_the_same_read() -> None:
    error = b'{"error": {"message": "Rate limit", "type": "rate_limit_error"}}'
    with pytest.raises(ModelError, match="Rate limit") as caught:
        Reading().take(b"data: %b\n\ndata: upstream closed\n\n" % error)
    assert caught.value.retryable
