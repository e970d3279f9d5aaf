"""A driver without input or output: plays a random script against the machine.



What it keeps is what a store would: the objects as JSON, and the log of events.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

import msgspec

from understudy import limits
from understudy.machine import citations, code_output, file_search, toolbox
from understudy.machine.annotations import Annotations
from understudy.machine.begin import begin
from understudy.machine.citations import Citations
from understudy.machine.deltas import Said, Turn
from understudy.machine.file_paths import FilePaths
from understudy.machine.happenings import (
    BudgetExhausted,
    CancelAsked,
    Claimed,
    DeadlinePassed,
    Happening,
    Interrupted,
    ModelFailed,
    Move,
    OutputsSubmitted,
    Reclaimed,
    RunTool,
    State,
    ToolFailed,
    ToolRan,
)
from understudy.machine.introduce import logs_delta
from understudy.machine.private import RunPrivate, SandboxFile, StepPrivate
from understudy.machine.run import apply
from understudy.wire.assistants import Assistant
from understudy.wire.chat import ChatChunk, ChatUsage, ChunkChoice, ChunkDelta
from understudy.wire.events import Event
from understudy.wire.messages import Message
from understudy.wire.runs import CreateRun, Run
from understudy.wire.steps import (
    ResultText,
    SearchResult,
    Step,
    StepDelta,
    StepDeltaBody,
    ToolCallsDetails,
)
from understudy.wire.tools import (
    CodeInterpreterTool,
    FileSearchTool,
    FunctionDefinition,
    FunctionTool,
    Tool,
    ToolResources,
)

NOW = 1_767_225_600
FUNCTIONS: list[Tool] = [
    FunctionTool(function=FunctionDefinition(name="get_weather")),
    FunctionTool(function=FunctionDefinition(name="get_time")),
]
ALL_TOOLS: list[Tool] = [*FUNCTIONS, CodeInterpreterTool(), FileSearchTool()]
FOUND = [
    SearchResult(
        file_id=f"file-{place}",
        file_name=f"{place}.md",
        score=0.5,
        content=[ResultText(text=f"Passage {place}.")],
    )
    for place in range(2)
]


def assistant(tools: list[Tool]) -> Assistant:
    """An assistant with these tools."""
    return Assistant(
        id="asst_1",
        created_at=NOW,
        name=None,
        description=None,
        model="m",
        instructions="Be brief.",
        tools=tools,
        tool_resources=ToolResources(),
        metadata={},
        temperature=1.0,
        top_p=1.0,
        response_format="auto",
        reasoning_effort=None,
    )


def chunk(delta: ChunkDelta | None = None, finish: str | None = None) -> ChatChunk:
    """One provider chunk."""
    return ChatChunk(choices=[ChunkChoice(delta=delta, finish_reason=finish)])


LINKS = {"a.csv": "file-a", "b c.csv": "file-b"}


@dataclass(frozen=True)
class Result:
    """What code gave; `shown` is the start of its logs that clients saw while it ran."""

    logs: str = "4\n"
    shown: str = ""
    images: tuple[str, ...] = ()
    files: tuple[SandboxFile, ...] = ()


@dataclass
class Play:
    """A run being played: `state` as committed, every event, and the stored objects."""

    state: State
    next: object
    events: list[Event] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)
    moves: list[tuple[str, Happening | None, Move]] = field(default_factory=list)
    ids: Iterator[int] = field(default_factory=count)
    turn: Turn | None = None
    reclaims: int = 0

    @classmethod
    def start(
        cls, tools: list[Tool], *, parallel: bool = True, include_content: bool = False
    ) -> "Play":
        """A queued run."""
        move = begin(
            CreateRun(assistant_id="asst_1", parallel_tool_calls=parallel),
            assistant(tools),
            id="run_1",
            thread_id="thread_1",
            now=NOW,
            ttl_s=600,
            include_content=include_content,
        )
        play = cls(move.state, move.next)
        play._take("", None, move)
        return play

    def new_id(self, kind: str) -> str:
        """Ids in the order they are asked for."""
        return f"{kind}_{next(self.ids)}"

    def happen(self, happening: Happening) -> Move:
        """Apply, and take over what a commit would make true. Raises Illegal."""
        before = self.state.run.status
        move = apply(self.state, happening)
        self._take(before, happening, move)
        return move

    def _take(self, before: str, happening: Happening | None, move: Move) -> None:
        self.state, self.next = move.state, move.next
        self.events.extend(move.events)
        self.moves.append((before, happening, move))
        for write in move.writes:
            self.stored[write.object.id] = msgspec.json.encode((write.object, write.private))

    def reload(self) -> State:
        """The state as the next driver reads it from what is stored."""
        run, private = msgspec.json.decode(self.stored["run_1"], type=tuple[Run, RunPrivate])
        step = step_private = message = None
        if private.open_step is not None:
            step, step_private = msgspec.json.decode(
                self.stored[private.open_step], type=tuple[Step, StepPrivate]
            )
        if private.open_message is not None:
            message, _ = msgspec.json.decode(
                self.stored[private.open_message], type=tuple[Message, object]
            )
        return State(run, private, step, step_private, message)

    @property
    def steps(self) -> list[Step]:
        """The steps as stored, oldest first."""
        return [
            msgspec.json.decode(body, type=tuple[Step, object])[0]
            for id, body in self.stored.items()
            if id.startswith("step_")
        ]

    # What can happen.

    def claim(self) -> None:
        """A worker takes the run."""
        self.happen(Claimed(now=NOW, spare_id=self.new_id("step")))

    def reclaim(self) -> None:
        """The worker died, another takes the run."""
        self.reclaims += 1
        partial = self.turn.content() if self.turn else []
        self.turn = None
        self.happen(
            Reclaimed(
                now=NOW, spare_id=self.new_id("step"), partial=partial, reclaims=self.reclaims
            )
        )

    def hear(self, deltas: list[ChunkDelta]) -> None:
        """The model says these pieces, and is not done."""
        types = toolbox.built_in(self.state.run.tools).values()
        sources = citations.sources(self.steps)
        self.turn = Turn(
            self.state.run,
            prompt_tokens=7,
            new_id=self.new_id,
            annotations=Annotations(
                Citations(sources) if "file_search" in types else None,
                FilePaths(LINKS) if "code_interpreter" in types else None,
            ),
            images=self.state.private.drawn,
        )
        for delta in deltas:
            self._say(self.turn.feed(chunk(delta), NOW))

    def end_turn(self, finish: str, usage: ChatUsage | None = None) -> None:
        """The turn that was heard is over."""
        assert self.turn is not None
        self._say(self.turn.feed(chunk(finish=finish), NOW))
        if usage is not None:
            self.turn.feed(ChatChunk(usage=usage), NOW)
        self._say(self.turn.finish(NOW))
        spoke = self.turn.spoke(NOW, self.new_id("step"))
        self.turn = None
        self.happen(spoke)

    def speak(
        self, deltas: list[ChunkDelta], finish: str = "stop", usage: ChatUsage | None = None
    ) -> None:
        """A whole turn."""
        self.hear(deltas)
        self.end_turn(finish, usage)

    def _say(self, said: list[Said]) -> None:
        for one in said:
            if isinstance(one, Happening):
                self.happen(one)
            else:
                assert isinstance(one, Event), "chunks are fed one by one"
                self.events.append(one)

    def tool(self, result: "Result | None" = None, *, works: bool = True) -> None:
        """The built-in tool that runs answers, or cannot; `result` is what code gave."""
        assert isinstance(self.next, RunTool)
        if not works:
            self.happen(ToolFailed(now=NOW, message="The tool is off."))
            return
        call = self.next.call
        if call.name == "file_search":
            answer = file_search.answered(
                call, file_search.scope(self.state.run, limits.CONTEXT_TOKENS), FOUND
            )
            self.happen(ToolRan(now=NOW, call=answer, spare_id=self.new_id("step")))
            return
        result = result or Result()
        step = self.state.step
        assert step is not None
        if result.shown:
            body = StepDeltaBody(
                step_details=ToolCallsDetails(tool_calls=[logs_delta(result.shown)])
            )
            delta = StepDelta(id=step.id, delta=body)
            self.events.append(Event(name="thread.run.step.delta", data=delta))
        self.happen(
            ToolRan(
                now=NOW,
                spare_id=self.new_id("step"),
                call=code_output.answered(call, result.logs, result.images),
                shown_logs=result.shown,
                files=result.files,
            )
        )

    def submit(self) -> dict[str, str]:
        """The client answers every required call."""
        action = self.state.run.required_action
        ids = [call.id for call in action.submit_tool_outputs.tool_calls] if action else []
        outputs = {id: f"output of {id}" for id in ids}
        self.happen(OutputsSubmitted(now=NOW, outputs=outputs))
        return outputs

    def stop(self, kind: type[Interrupted]) -> None:
        """The turn, if one is heard, is cut."""
        partial = self.turn.content() if self.turn else []
        usage = self.turn.usage_so_far() if self.turn and self.turn.has_spoken else None
        self.turn = None
        if kind is ModelFailed:
            happening: Happening = ModelFailed(
                now=NOW, code="server_error", message="No.", partial=partial, usage=usage
            )
        else:
            assert kind in (CancelAsked, DeadlinePassed)
            happening = kind(now=NOW, partial=partial, usage=usage)
        self.happen(happening)

    def exhaust(self) -> None:
        """A token budget is spent."""
        self.happen(BudgetExhausted(now=NOW, budget="max_prompt_tokens"))

    @property
    def names(self) -> list[str]:
        """The names of all events so far."""
        return [event.name for event in self.events]
