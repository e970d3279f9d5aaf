"""The state diagram of the docs, generated from the table."""

from understudy.machine.run import TERMINAL, TRANSITIONS


def mermaid() -> str:
    """TRANSITIONS as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> queued"]
    for before, row in TRANSITIONS.items():
        causes: dict[str, list[str]] = {}
        for happening, afters in row.items():
            for after in afters:
                causes.setdefault(after, []).append(happening.__name__)
        lines += [
            f"    {before} --> {after}: {', '.join(causes[after])}"
            for after in sorted(causes)
            if after != before
        ]
    lines += [f"    {status} --> [*]" for status in sorted(TERMINAL)]
    return "\n".join(lines) + "\n"
