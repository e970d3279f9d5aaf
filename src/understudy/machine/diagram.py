"""The page of the docs that shows the table of states, generated from it."""

from understudy.machine.run import TERMINAL, TRANSITIONS

_HEAD = """# The states of a run

Generated from the table in `src/understudy/machine/run.py` by `understudy docs`.

A run that is queued, in progress or waiting for tool outputs holds its thread: no second run and
no message is accepted meanwhile. Every run ends in exactly one of the five states on the right,
at the latest when its `expires_at` is over. A cancel announces `cancelling` and `cancelled` in
one moment, so `cancelling` is seen in the answer and in the events, not at rest.

"""

_MEANINGS = {
    "Claimed": "a worker took the run",
    "Reclaimed": "a worker took it over from one that died",
    "TextBegan": "the model began to write a message",
    "TextEnded": "the model went on to tool calls",
    "CallsBegan": "the model began a tool call",
    "ModelSpoke": "a model turn is over",
    "ModelFailed": "the model call failed for good",
    "ToolRan": "a built-in tool answered",
    "ToolFailed": "a built-in tool cannot work on this server",
    "OutputsSubmitted": "the client answered all function calls",
    "BudgetExhausted": "a token budget leaves no room for another turn",
    "CancelAsked": "the client asked to stop",
    "DeadlinePassed": "`expires_at` is over",
}


def mermaid() -> str:
    """TRANSITIONS as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    direction LR", "    [*] --> queued"]
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


def states_page() -> str:
    """docs/run-states.md."""
    named = {happening.__name__ for row in TRANSITIONS.values() for happening in row}
    rows = [f"| `{name}` | {meaning} |" for name, meaning in _MEANINGS.items() if name in named]
    assert len(rows) == len(named), "every happening of the table has a meaning"
    table = "\n".join(["| happening | meaning |", "|---|---|", *rows])
    return f"{_HEAD}```mermaid\n{mermaid()}```\n\n{table}\n"
