"""What is said in a soak: scripts for the rehearsal model, and texts of a bounded vocabulary.

The vocabulary is bounded because the server remembers the stems of words (TOKENS_CACHED): with
ever new words it would rightly grow for an hour.
"""

import json
import random
from typing import Any

Json = dict[str, Any]
FUNCTION: Json = {"type": "function", "function": {"name": "look_up", "parameters": {}}}
SEARCH: Json = {"type": "file_search"}
_WORDS = [f"{first}{last}" for first in ("ba", "do", "ki", "lu", "mes") for last in range(80)]


def words(rng: random.Random, count: int) -> str:
    """So many words."""
    return " ".join(rng.choices(_WORDS, k=count))


def script(*turns: list[Json]) -> Json:
    """A user message that makes the model play these turns."""
    return {"role": "user", "content": f"Please rehearse:{json.dumps({'turns': turns})}"}


def paced(text: str, every_ms: int) -> Json:
    """A step of text, word by word."""
    return {"text": text, "every_ms": every_ms}


def call(name: str, arguments: Json) -> Json:
    """A step that calls a function."""
    return {"call": {"name": name, "arguments": arguments}}
