// Streams: the SDK's events and final objects, its helpers, and the bare events.

import assert from "node:assert/strict";
import {
  AssistantStream, BOTH, WEATHER, all, asStreamed, call, isOld, names, outputs, rehearse, scenario, textOf,
} from "./scene.mjs";

const BEGIN = ["thread.run.created", "thread.run.queued", "thread.run.in_progress"];
const MESSAGE = [
  "thread.run.step.created",
  "thread.run.step.in_progress",
  "thread.message.created",
  "thread.message.in_progress",
  "thread.message.delta",
  "thread.message.completed",
  "thread.run.step.completed",
];
const CALLS = ["thread.run.step.created", "thread.run.step.in_progress", "thread.run.step.delta"];

/** Note what the SDK emits; equal neighbours once. */
function notes(stream) {
  const heard = [];
  const note = (what) => heard.at(-1) === what || heard.push(what);
  stream
    .on("runStepCreated", (step) => note(`step created: ${step.type}`))
    .on("runStepDone", (step) => note(`step ${step.status}: ${step.type}`))
    .on("messageCreated", (message) => note(`message created: ${message.content.length}`))
    .on("messageDone", (message) => note(`message done: ${textOf(message)}`))
    .on("textCreated", () => note("text created"))
    .on("textDelta", (_, snapshot) => note(`text delta ${typeof snapshot.value}`))
    .on("textDone", (text) => note(`text done: ${text.value}`))
    .on("toolCallCreated", (one) => note(`call created: ${one.function.name}`))
    .on("toolCallDelta", () => note("call delta"))
    .on("toolCallDone", (one) => note(`call done: ${one.function.name} ${one.function.arguments}`))
    .on("run", (run) => note(`run ${run.status}`))
    .on("end", () => isOld && note(`run ${stream.currentRun().status}`))
    .on("end", () => note("end"));
  return heard;
}

/** The stream's final objects are those of the record. */
async function expectRecord(scene, stream, threadId) {
  const run = await stream.finalRun();
  assert.deepEqual(run, await scene.calls.retrieveRun(threadId, run.id));
  const recorded = await all(scene.threads.messages.list(threadId, { run_id: run.id }));
  const seen = await stream.finalMessages();
  assert.deepEqual(
    seen.map(asStreamed), recorded.toReversed().slice(-seen.length).map(asStreamed),
  );
  const steps = await all(scene.calls.listSteps(threadId, run.id, { order: "asc" }));
  const followed = await stream.finalRunSteps();
  assert.deepEqual(followed, steps.slice(-followed.length));
  return run;
}

scenario("events_of_a_text", [147, 150, 165], async (scene) => {
  const assistant = await scene.assistant();
  const thread = await scene.thread(rehearse([{ text: "One two three.", every_ms: 20 }]));
  const stream = scene.runs.stream(thread.id, { assistant_id: assistant.id });
  const heard = notes(stream);
  await stream.done();
  assert.deepEqual(heard, [
    "step created: message_creation",
    "message created: 0",
    "text created",
    "text delta string",
    "text done: One two three.",
    "message done: One two three.",
    "step completed: message_creation",
    "run completed",
    "end",
  ]);
  const run = await expectRecord(scene, stream, thread.id);
  assert.equal(run.status, "completed");
});

scenario("events_of_calls", [151, 160, 161], async (scene) => {
  const assistant = await scene.assistant({ tools: BOTH });
  const weather = { call: { name: "get_weather", arguments: { city: "Oslo" }, pieces: 5 } };
  const thread = await scene.thread(rehearse([weather, call("get_time")]));
  const stream = scene.runs.stream(thread.id, { assistant_id: assistant.id });
  const heard = notes(stream);
  await stream.done();
  assert.deepEqual(heard, [
    "step created: tool_calls",
    "call created: get_weather",
    "call delta",
    'call done: get_weather {"city":"Oslo"}',
    "call created: get_time",
    "call delta",
    "call done: get_time {}",
    "run requires_action",
    "end",
  ]);
  const run = await stream.finalRun();
  assert.deepEqual(run, await scene.calls.retrieveRun(thread.id, run.id));
  const [step] = await stream.finalRunSteps();
  const [recorded] = await all(scene.calls.listSteps(thread.id, run.id));
  // The snapshot keeps the deltas' index; else it is the record.
  const calls = step.step_details.tool_calls.map(({ index, ...one }) => one);
  assert.deepEqual({ ...step, step_details: { ...step.step_details, tool_calls: calls } }, recorded);
});

scenario("bare_events_of_a_text", [147, 148, 149], async (scene) => {
  const assistant = await scene.assistant();
  const prompt = rehearse([{ words: 5, every_ms: 5 }]);
  const thread = await scene.thread(prompt);
  const events = await all(
    await scene.runs.create(thread.id, { assistant_id: assistant.id, stream: true }),
  );
  assert.deepEqual(names(events), [...BEGIN, ...MESSAGE, "thread.run.completed"]);
  assert.deepEqual([events[0].data.status, events[0].data.started_at], ["queued", null]);
  const whole = await all(
    await scene.threads.createAndRun({
      assistant_id: assistant.id,
      thread: { messages: [{ role: "user", content: prompt }] },
      stream: true,
    }),
  );
  const expected = ["thread.created", ...BEGIN, ...MESSAGE, "thread.run.completed"];
  assert.deepEqual(names(whole), expected);
});

scenario("a_new_thread_is_streamed", [148, 165], async (scene) => {
  const assistant = await scene.assistant();
  const messages = [{ role: "user", content: rehearse([{ text: "Hello you." }]) }];
  const stream = scene.threads.createAndRunStream({
    assistant_id: assistant.id, thread: { messages },
  });
  let text = "";
  stream.on("textDelta", (delta) => (text += delta.value ?? ""));
  const run = await stream.finalRun();
  assert.equal(text, "Hello you.");
  await expectRecord(scene, stream, run.thread_id);
});

scenario("the_older_name_of_stream", [147], async (scene) => {
  const assistant = await scene.assistant();
  const thread = await scene.thread(rehearse([{ text: "Hello." }]));
  const stream = scene.runs.createAndStream(thread.id, { assistant_id: assistant.id });
  assert.deepEqual(names(await all(stream)), [...BEGIN, ...MESSAGE, "thread.run.completed"]);
});

scenario("outputs_are_submitted_with_a_stream", [152, 165], async (scene) => {
  const assistant = await scene.assistant({ tools: [WEATHER] });
  const script = rehearse([call("get_weather", { city: "Oslo" })], [{ text: "Rain." }]);
  const thread = await scene.thread(script);
  const first = await all(
    await scene.runs.create(thread.id, { assistant_id: assistant.id, stream: true }),
  );
  assert.deepEqual(names(first), [...BEGIN, ...CALLS, "thread.run.requires_action"]);
  const run = first.at(-1).data;
  const stream = scene.calls.submitStream(thread.id, run.id, {
    tool_outputs: outputs(run, "rain"),
  });
  const events = await all(stream);
  assert.deepEqual(names(events), [
    "thread.run.step.completed", "thread.run.queued", "thread.run.in_progress",
    ...MESSAGE, "thread.run.completed",
  ]);
  assert.equal(events[0].data.step_details.tool_calls[0].function.output, "rain");
  await expectRecord(scene, stream, thread.id);
});

scenario("outputs_are_submitted_inside_the_open_stream", [117, 152, 160], async (scene) => {
  // As the quickstart does: from within the requires_action event, while the stream is open.
  const assistant = await scene.assistant({ tools: BOTH });
  const script = rehearse(
    [call("get_weather", { city: "Oslo" }), call("get_time")],
    [call("get_weather", { city: "Rome" })],
    [{ text: "Sunny everywhere." }],
  );
  const thread = await scene.thread(script);
  const follow = (stream) =>
    new Promise((resolve, reject) => {
      stream.on("error", reject);
      stream.on("event", ({ event, data }) => {
        if (event === "thread.run.completed") resolve(data);
        if (event !== "thread.run.requires_action") return;
        const pendingCalls = data.required_action.submit_tool_outputs.tool_calls;
        const given = outputs(data, ...pendingCalls.map(() => "sunny"));
        const inner = scene.calls.submitStream(thread.id, data.id, { tool_outputs: given });
        follow(inner).then(resolve, reject);
      });
    });
  const run = await follow(scene.runs.stream(thread.id, { assistant_id: assistant.id }));
  assert.equal(run.status, "completed");
  assert.equal(await scene.lastText(thread.id), "Sunny everywhere.");
});

scenario("a_stream_is_passed_on_to_a_browser", [165], async (scene) => {
  const assistant = await scene.assistant();
  const thread = await scene.thread(rehearse([{ text: "To the browser.", every_ms: 10 }]));
  const source = scene.runs.stream(thread.id, { assistant_id: assistant.id });
  const stream = AssistantStream.fromReadableStream(source.toReadableStream());
  const heard = notes(stream);
  await stream.done();
  assert.ok(heard.includes("text done: To the browser."), heard.join());
  await expectRecord(scene, stream, thread.id);
});

scenario("text_before_calls_is_streamed", [160, 165], async (scene) => {
  // A message step and a tool step in one turn: one ends before the other begins.
  const assistant = await scene.assistant({ tools: [WEATHER] });
  const thread = await scene.thread(rehearse([{ text: "Let me see." }, call("get_weather")]));
  const stream = scene.runs.stream(thread.id, { assistant_id: assistant.id });
  const events = await all(stream);
  assert.deepEqual(names(events), [...BEGIN, ...MESSAGE, ...CALLS, "thread.run.requires_action"]);
  assert.equal(textOf((await stream.finalMessages())[0]), "Let me see.");
});

scenario("a_used_up_budget_ends_the_stream", [158, 165], async (scene) => {
  const assistant = await scene.assistant();
  const thread = await scene.thread(rehearse([{ words: 400 }]));
  const body = { assistant_id: assistant.id, max_completion_tokens: 256 };
  const events = await all(await scene.runs.create(thread.id, { ...body, stream: true }));
  assert.deepEqual(names(events).slice(-3), [
    "thread.message.incomplete", "thread.run.step.completed", "thread.run.incomplete",
  ]);
  if (isOld) return;
  const again = await scene.thread(rehearse([{ words: 400 }]));
  await expectRecord(scene, scene.runs.stream(again.id, body), again.id);
});

scenario("a_lost_provider_fails_the_stream", [157, 165], async (scene) => {
  const assistant = await scene.assistant();
  const script = [{ text: "So far" }, { delay_ms: 100 }, { drop: true }];
  const thread = await scene.thread(rehearse(script));
  const stream = scene.runs.stream(thread.id, { assistant_id: assistant.id });
  const events = await all(stream);
  assert.deepEqual(names(events).slice(-3), [
    "thread.message.incomplete", "thread.run.step.failed", "thread.run.failed",
  ]);
  const run = await expectRecord(scene, stream, thread.id);
  assert.equal(run.last_error.code, "server_error");
  assert.equal(await scene.lastText(thread.id), "So far");
});

scenario("a_refusal_is_streamed", [133], async (scene) => {
  const assistant = await scene.assistant();
  const thread = await scene.thread(rehearse([{ refusal: "I would rather not." }]));
  const body = { assistant_id: assistant.id };
  const events = await all(await scene.runs.create(thread.id, { ...body, stream: true }));
  const text = events
    .filter(({ event }) => event === "thread.message.delta")
    .flatMap(({ data }) => data.delta.content)
    .map((part) => part.refusal)
    .join("");
  assert.equal(text, "I would rather not.");
  const message = (await scene.messages(thread.id)).at(-1);
  assert.deepEqual(message.content, [{ type: "refusal", refusal: text }]);
});

scenario("a_client_that_leaves_does_not_stop_the_run", [163], async (scene) => {
  const assistant = await scene.assistant();
  const thread = await scene.thread(rehearse([{ words: 10, every_ms: 20 }]));
  const stream = await scene.runs.create(thread.id, { assistant_id: assistant.id, stream: true });
  let run;
  for await (const { data } of stream) {
    run = data;
    break; // The SDK aborts the request.
  }
  const done = await scene.calls.pollRun(thread.id, run.id);
  assert.equal(done.status, "completed");
  assert.match(await scene.lastText(thread.id), /word10$/);
});

async function silence(scene) {
  const assistant = await scene.assistant();
  const script = [{ text: "I think " }, { delay_ms: 18_500 }, { text: "slowly." }];
  const thread = await scene.thread(rehearse(script));
  const stream = scene.runs.stream(thread.id, { assistant_id: assistant.id });
  assert.equal((await stream.finalRun()).status, "completed");
  assert.equal(textOf((await stream.finalMessages())[0]), "I think slowly.");
}

scenario("a_long_silence_is_bridged", [162], silence, { isSlow: true });
