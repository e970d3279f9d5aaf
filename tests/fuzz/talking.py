"""Talking: random operations on assistants, threads, messages and runs, asked of two servers."""

import json

from hypothesis import strategies as st
from hypothesis.stateful import MultipleResults, initialize, multiple, rule

from tests.api.conversation import Json, call, call_ids, function
from tests.fuzz import odd
from tests.fuzz.operations import Made, Operations, Path, id_of, parent_of, some
from tests.fuzz.twins import Answered

LOOK_UP = function("look_up", parameters={"type": "object", "properties": {}})
SEARCH = {"type": "file_search"}
_SILENT = {"steps": [{"text": "Wait"}, {"silence": True}]}


def rehearse(script: Json) -> str:
    """A message whose answer is this."""
    return f"Please rehearse:{json.dumps(script)}"


# What the model does in a turn.
_texts = st.builds(lambda text: {"text": text}, odd.words)
_calls = st.builds(
    lambda arguments: call("look_up", arguments),
    st.dictionaries(odd.short_texts, odd.texts, max_size=2),
)
_turns = st.one_of(
    st.lists(_calls, min_size=1, max_size=2),
    st.lists(_texts, min_size=1, max_size=2),
    st.sampled_from(
        [
            [{"refusal": "I will not."}],
            [{"text": "Cut"}, {"finish": "length"}],
            [{"status": 400, "body": {"error": {"message": "No.", "type": "x", "code": "y"}}}],
            [call("file_search", {"queries": ["red apple"]})],
            [call("unknown")],
            [],
        ]
    ),
)
_scripts = st.lists(_turns, min_size=1, max_size=3).map(lambda turns: rehearse({"turns": turns}))
_sensible = some(
    metadata=odd.metadata,
    instructions=odd.texts,
    additional_instructions=odd.texts,
    truncation_strategy=st.just({"type": "last_messages", "last_messages": 1}),
    max_completion_tokens=st.just(256),
    tools=st.sampled_from([[LOOK_UP, SEARCH], None]),
)
_any_options = some(
    truncation_strategy=st.sampled_from(
        [{"type": "auto"}, {"type": "last_messages", "last_messages": 1}, {"type": "last_messages"}]
    ),
    max_completion_tokens=st.sampled_from([256, 1000, 1]),
    max_prompt_tokens=st.sampled_from([1000, 1]),
    temperature=odd.numbers,
    tool_choice=st.sampled_from(["auto", "none", "required", LOOK_UP]),
    tools=st.sampled_from([[], [LOOK_UP], [LOOK_UP, SEARCH], None]),
    model=odd.words,
)
_options = odd.mostly(_sensible, _any_options)


class Talking(Operations):
    """Assistants, threads, messages and runs."""

    @initialize(target=Operations.assistants)
    def first_assistant(self) -> Made:
        """One that can call a function and search."""
        return self.make("/assistants", {"model": "m", "tools": [LOOK_UP, SEARCH]})

    @initialize(target=Operations.threads)
    def first_thread(self) -> Made:
        """One with two messages of one moment."""
        said = [{"role": "user", "content": text} for text in ("One.", "Two.")]
        return self.make("/threads", {"messages": said})

    @rule(
        target=Operations.assistants,
        body=some(
            name=odd.mostly(odd.short_texts, odd.texts),
            description=odd.texts,
            instructions=odd.texts,
            metadata=odd.metadata,
            tools=st.sampled_from([[], [LOOK_UP], [SEARCH]]),
            temperature=odd.mostly(st.just(0.5), odd.numbers),
        ),
        model=odd.words,
        store=st.one_of(st.none(), odd.or_odd(Operations.stores.map(id_of), "vs_")),
        key=Operations.keys,
    )
    def make_assistant(self, body: Json, model: str, store: str | None, key: str | None) -> Made:
        """An assistant, which may name a store."""
        if store:
            body["tool_resources"] = {"file_search": {"vector_store_ids": [store]}}
        return self.make("/assistants", {**body, "model": model}, key)

    @rule(
        target=Operations.threads,
        metadata=odd.metadata,
        texts=st.lists(odd.words, max_size=3),
        store=st.one_of(st.none(), Operations.stores.map(id_of)),
        key=Operations.keys,
    )
    def make_thread(
        self, metadata: Json, texts: list[str], store: str | None, key: str | None
    ) -> Made:
        """A thread with some messages, which may name a store."""
        body: Json = {"metadata": metadata}
        body["messages"] = [{"role": "user", "content": text} for text in texts]
        if store:
            body["tool_resources"] = {"file_search": {"vector_store_ids": [store]}}
        return self.make("/threads", body, key)

    # Messages.

    @rule(
        target=Operations.messages,
        thread=Operations.threads,
        body=some(
            metadata=odd.metadata,
            attachments=st.lists(
                st.fixed_dictionaries({"file_id": Operations.file_ids, "tools": st.just([SEARCH])}),
                max_size=2,
            ),
        ),
        content=st.one_of(odd.words, st.lists(odd.words, min_size=1, max_size=2)),
        role=odd.mostly(st.sampled_from(["user", "assistant"]), st.just("system")),
        key=Operations.keys,
    )
    def add_message(
        self, thread: Path, body: Json, content: str | list[str], role: str, key: str | None
    ) -> Made:
        """A message, maybe with files for a search."""
        if isinstance(content, list):
            body["content"] = [{"type": "text", "text": text} for text in content]
        else:
            body["content"] = content
        message = self.make(f"{thread}/messages", {**body, "role": role}, key)
        self.settle(thread)
        return message

    @rule(target=Operations.messages, thread=Operations.threads)
    def know_messages(self, thread: Path) -> MultipleResults[str]:
        """The messages of a thread, those of runs among them."""
        found = self.page(f"{thread}/messages", {"limit": "100", "order": "asc"})
        return multiple(*[f"{thread}/messages/{one['id']}" for one in found[-3:]])

    @rule(
        thread=Operations.threads,
        query=some(
            limit=odd.limits,
            order=odd.orders,
            after=odd.or_odd(Operations.messages.map(id_of), "msg_"),
            before=odd.or_odd(Operations.messages.map(id_of), "msg_"),
            run_id=odd.or_odd(Operations.runs.map(id_of), "run_"),
        ),
    )
    def list_messages(self, thread: Path, query: dict[str, str]) -> None:
        """A page of a thread's messages, with cursors of this and other threads."""
        self.page(f"{thread}/messages", query)

    # Runs.

    @rule(
        target=Operations.runs,
        thread=Operations.threads,
        assistant=Operations.assistants,
        script=_scripts,
        options=_options,
        outputs=st.lists(odd.texts, max_size=3),
        streams=st.booleans(),
        key=Operations.keys,
    )
    def run(
        self,
        thread: Path,
        assistant: Path,
        script: str,
        options: Json,
        outputs: list[str],
        streams: bool,
        key: str | None,
    ) -> Made:
        """A run of what a message asks for, with outputs for its calls as long as there are any."""
        body = {
            "assistant_id": id_of(assistant),
            "additional_messages": [{"role": "user", "content": script}],
            "stream": streams,
            **options,
        }
        headers = {} if key is None else {"Idempotency-Key": key}
        answer = self.twins.ask("POST", f"{thread}/runs", body, headers=headers)
        run = self.rested(answer)
        if isinstance(run, str):
            for output in outputs:
                self.submit_all(run, [output], streams, None)
        return run

    @rule(
        targets=(Operations.runs,),
        assistant=Operations.assistants,
        script=_scripts,
        options=_options,
        streams=st.booleans(),
    )
    def run_new_thread(self, assistant: Path, script: str, options: Json, streams: bool) -> Made:
        """A thread and its run at once."""
        thread = {"messages": [{"role": "user", "content": script}], "metadata": {"a": "\0"}}
        body = {"assistant_id": id_of(assistant), "thread": thread, "stream": streams, **options}
        return self.rested(self.twins.ask("POST", "/threads/runs", body))

    def rested(self, answer: Answered) -> Made:
        """The run that an answer is about, at its rest."""
        shown = answer.frames[-2].data if answer.frames else answer.object
        if "thread_id" not in shown:
            return multiple()
        thread = f"/threads/{shown['thread_id']}"
        run = f"{thread}/runs/{shown['run_id' if 'run_id' in shown else 'id']}"
        self.twins.rested(run)
        self.page(f"{thread}/messages", {})
        self.page(f"{run}/steps", {})
        return run

    @rule(
        run=Operations.runs,
        outputs=st.lists(odd.texts, max_size=2),
        streams=st.booleans(),
        key=Operations.keys,
    )
    def submit(self, run: Path, outputs: list[str], streams: bool, key: str | None) -> None:
        """Outputs for the calls that a run waits for, maybe too few."""
        self.submit_all(run, outputs, streams, key)

    def submit_all(self, run: Path, outputs: list[str], streams: bool, key: str | None) -> None:
        """These outputs, or one for each call."""
        found = self.twins.ask("GET", run).object
        ids = call_ids(found) if found.get("required_action") else ["call_unknown"]
        pairs = zip(ids, outputs * len(ids) if len(outputs) < 2 else outputs, strict=False)
        body = {"tool_outputs": [{"tool_call_id": id, "output": text} for id, text in pairs]}
        headers = {} if key is None else {"Idempotency-Key": key}
        path = f"{run}/submit_tool_outputs"
        answer = self.twins.ask("POST", path, {**body, "stream": streams}, headers=headers)
        if answer.status == 200:
            self.rested(answer)

    @rule(run=Operations.runs)
    def cancel(self, run: Path) -> None:
        """Cancel a run, which mostly is over."""
        if self.twins.ask("POST", f"{run}/cancel").status == 200:
            self.twins.rested(run)

    @rule(run=Operations.runs, after=st.sampled_from(["", "1.1", "1.3", "9.9", "0.0", "x", "1"]))
    def replay(self, run: Path, after: str) -> None:
        """What a run's log has; what it does not have yet would be waited for."""
        if after == "9.9" and self.twins.ask("GET", run).object.get("required_action"):
            return
        self.twins.ask("GET", f"{run}/events" + odd.query({"after": after} if after else {}))

    @rule(
        target=Operations.runs,
        thread=Operations.threads,
        assistant=Operations.assistants,
        meanwhile=st.lists(st.sampled_from(["look", "label", "say", "run", "submit"]), max_size=3),
        end=st.sampled_from(["cancel", "delete"]),
        metadata=odd.metadata,
    )
    def interrupt(
        self, thread: Path, assistant: Path, meanwhile: list[str], end: str, metadata: Json
    ) -> Made:
        """A run that is cancelled, or deleted with its thread, in the middle of its text."""
        said = [{"role": "user", "content": rehearse(_SILENT)}]
        body = {"assistant_id": id_of(assistant), "additional_messages": said, "stream": True}
        run: str | None = None
        with self.twins.streams(f"{thread}/runs", body) as lives:
            if lives is None:
                return multiple()
            created = self.twins.heard(lives, "thread.message.delta")
            run = f"{thread}/runs/{created['id']}"
            for what in meanwhile:
                self._meanwhile(what, run, metadata)
            if end == "cancel":
                self.twins.ask("POST", f"{run}/cancel")
            else:
                self.twins.ask("DELETE", thread)
            self.twins.heard(lives, None)
        return self.rested(self.twins.ask("GET", run))

    def _meanwhile(self, what: str, run: Path, metadata: Json) -> None:
        thread = parent_of(run)
        match what:
            case "look":
                self.twins.ask("GET", run)
                self.page(f"{thread}/messages", {})
                self.page(f"{run}/steps", {})
            case "label":
                self.twins.ask("POST", run, {"metadata": metadata})
                for one in self.page(f"{thread}/messages", {"limit": "1"}):
                    path = f"{thread}/messages/{one['id']}"
                    self.twins.ask("POST", path, {"metadata": metadata})
            case "say":
                self.twins.ask("POST", f"{thread}/messages", {"role": "user", "content": "And?"})
            case "run":
                self.twins.ask("POST", f"{thread}/runs", {"assistant_id": "asst_unknown"})
            case _:
                self.twins.ask("POST", f"{run}/submit_tool_outputs", {"tool_outputs": []})

    @rule(target=Operations.steps, run=Operations.runs)
    def know_steps(self, run: Path) -> MultipleResults[str]:
        """The steps of a run."""
        return multiple(*[f"{run}/steps/{one['id']}" for one in self.page(f"{run}/steps", {})])

    @rule(
        thread=Operations.threads,
        query=some(
            limit=odd.limits,
            order=odd.orders,
            after=odd.or_odd(Operations.runs.map(id_of), "run_"),
            before=odd.or_odd(Operations.runs.map(id_of), "run_"),
        ),
    )
    def list_runs(self, thread: Path, query: dict[str, str]) -> None:
        """A page of a thread's runs."""
        self.page(f"{thread}/runs", query)

    @rule(
        run=Operations.runs,
        query=some(
            limit=odd.limits,
            order=odd.orders,
            after=odd.or_odd(Operations.steps.map(id_of), "step_"),
            before=odd.or_odd(Operations.steps.map(id_of), "step_"),
        ),
    )
    def list_steps(self, run: Path, query: dict[str, str]) -> None:
        """A page of a run's steps."""
        self.page(f"{run}/steps", query)
