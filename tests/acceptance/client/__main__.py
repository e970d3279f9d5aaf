"""Plays every scenario against a running server and prints a JSON line for each.

    python -m tests.acceptance.client URL KEY PROVIDER [scenario ...]

URL ends in /v1, PROVIDER is the rehearsal server's address without /v1.
"""

import json
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

import openai

from tests.acceptance.client import SCENARIOS
from tests.acceptance.client.scene import SLOW, TIMEOUT_S, Scene


def main(url: str, key: str, provider: str, *wanted: str) -> None:
    """Play the wanted scenarios, or all."""
    client = openai.OpenAI(
        base_url=url,
        api_key=key,
        timeout=TIMEOUT_S,
        max_retries=0,  # A hidden retry would hide a fault.
        _strict_response_validation=True,
    )
    root = url.removesuffix("/v1")
    names = wanted or tuple(SCENARIOS)

    def timed(name: str) -> dict[str, object]:
        began = time.monotonic()
        failure = play(name, Scene(client, f"rehearsal-{name}", root, key, provider))
        return {"failure": failure, "seconds": round(time.monotonic() - began, 3)}

    say(scenario=None, sdk=openai.__version__)
    with ThreadPoolExecutor() as pool:
        beside = {name: pool.submit(timed, name) for name in names if name in SLOW}
        for name in names:
            if name not in SLOW:
                say(scenario=name, **timed(name))
        for name, played in beside.items():
            say(scenario=name, **played.result())


def play(name: str, scene: Scene) -> str | None:
    """Why the scenario failed, if it did."""
    try:
        SCENARIOS[name](scene)
    except Exception:  # noqa: BLE001 (whatever it is, it is this scenario's result)
        return traceback.format_exc()
    return None


def say(**line: object) -> None:
    """One line of the report."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


main(*sys.argv[1:])
