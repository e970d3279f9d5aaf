"""wrk, the public load generator in C, for one request again and again."""

import re
import resource
import shutil
import subprocess
import tempfile
from pathlib import Path

from benchmarks.jobs import Ask, Done

_DONE = re.compile(r"(\d+) requests in ([0-9.]+)(ms|s)")
_BAD = re.compile(r"Non-2xx or 3xx responses: .*|Socket errors: .*")


def load(port: int, ask: Ask, clients: int, seconds: float, key: str) -> Done:
    """So many clients, each repeating a request for a time, in whole seconds. Raises RuntimeError
    when wrk is not installed or any answer was not a 2xx."""
    program = shutil.which("wrk")
    if program is None:
        raise RuntimeError("The benchmarks need wrk: apt-get install wrk")
    with tempfile.NamedTemporaryFile("w", suffix=".lua", encoding="utf-8") as script:
        script.write(_lua(ask, key))
        script.flush()
        before = _cpu_s()
        told = subprocess.run(
            [
                program,
                "--threads=1",
                f"--connections={clients}",
                f"--duration={max(1, round(seconds))}s",
                f"--script={Path(script.name)}",
                f"http://127.0.0.1:{port}{ask.path}",
            ],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        used = _cpu_s() - before
    bad, done = _BAD.search(told), _DONE.search(told)
    if bad or done is None:
        raise RuntimeError(f"wrk says: {bad[0] if bad else told}")
    took = float(done[2]) / (1000 if done[3] == "ms" else 1)
    return Done(count=int(done[1]), seconds=took, cpu_s=used)


def _cpu_s() -> float:
    """CPU time of all wrk processes so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _lua(ask: Ask, key: str) -> str:
    assert "]==]" not in ask.body, "the body is quoted"
    return (
        f'wrk.method = "{ask.method}"\n'
        f'wrk.headers["authorization"] = "Bearer {key}"\n'
        'wrk.headers["content-type"] = "application/json"\n'
        f"wrk.body = [==[{ask.body}]==]\n"
    )
