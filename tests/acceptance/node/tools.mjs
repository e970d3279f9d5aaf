// Functions: calls, parallel calls, rounds of calls, and their outputs.

import assert from "node:assert/strict";
import {
  BOTH, WEATHER, all, call, outputs, pending, refused, rehearse, scenario, sdk,
} from "./scene.mjs";

const END = [{ text: "That is all." }];

scenario("one_call_is_answered", [111, 112, 116], async (scene) => {
  const assistant = await scene.assistant({ tools: [WEATHER] });
  const thread = await scene.thread(rehearse([call("get_weather", { city: "Oslo" })], END));
  const run = await scene.run(thread, assistant);
  assert.deepEqual(pending(run), [["get_weather", { city: "Oslo" }]]);
  const submitted = await scene.calls.submit(thread.id, run.id, {
    tool_outputs: outputs(run, "rain"),
  });
  assert.deepEqual([submitted.status, submitted.required_action], ["queued", null]);
  assert.equal((await scene.calls.pollRun(thread.id, run.id)).status, "completed");
  assert.equal(await scene.lastText(thread.id), "That is all.");
  const [, step] = await all(scene.calls.listSteps(thread.id, run.id));
  assert.equal(step.step_details.tool_calls[0].function.output, "rain");
});

for (const count of [2, 3]) {
  scenario(`${count}_calls_are_answered_together`, [138], async (scene) => {
    const assistant = await scene.assistant({ tools: BOTH });
    const calls = ["Oslo", "Rome", "Lima"].slice(0, count);
    const script = calls.map((city) => call("get_weather", { city }));
    const thread = await scene.thread(rehearse(script, END));
    const run = await scene.run(thread, assistant);
    assert.deepEqual(pending(run), calls.map((city) => ["get_weather", { city }]));
    const done = await scene.calls.submitAndPoll(thread.id, run.id, {
      tool_outputs: outputs(run, ...calls).toReversed(), // Their order is free.
    });
    assert.equal(done.status, "completed");
    const [, step] = await all(scene.calls.listSteps(thread.id, run.id));
    const found = step.step_details.tool_calls.map((one) => one.function.output);
    assert.deepEqual(found, calls);
  });
}

scenario("calls_come_in_rounds", [117, 98], async (scene) => {
  const assistant = await scene.assistant({ tools: BOTH });
  const script = rehearse(
    [{ text: "Let me see." }, call("get_weather", { city: "Oslo" })], [call("get_time")], END,
  );
  const thread = await scene.thread(script);
  const first = await scene.run(thread, assistant);
  const second = await scene.calls.submitAndPoll(thread.id, first.id, {
    tool_outputs: outputs(first, "rain"),
  });
  assert.deepEqual(pending(second), [["get_time", {}]]);
  assert.equal(second.expires_at, first.expires_at);
  const done = await scene.calls.submitAndPoll(thread.id, first.id, {
    tool_outputs: outputs(second, "noon"),
  });
  assert.equal(done.status, "completed");
  const steps = await all(scene.calls.listSteps(thread.id, done.id, { order: "asc" }));
  assert.deepEqual(
    steps.map((step) => step.type),
    ["message_creation", "tool_calls", "tool_calls", "message_creation"],
  );
});

scenario("missing_outputs_are_refused", [113, 114], async (scene) => {
  const assistant = await scene.assistant({ tools: BOTH });
  const thread = await scene.thread(rehearse([call("get_weather"), call("get_time")], END));
  const run = await scene.run(thread, assistant);
  const given = outputs(run, "rain", "noon");
  const [one, other] = given.map(({ tool_call_id: id }) => id);
  await refused(
    scene.calls.submit(thread.id, run.id, { tool_outputs: given.slice(0, 1) }),
    sdk.BadRequestError,
    `Expected tool outputs for call_ids ['${one}', '${other}'], got ['${one}']`,
  );
  await scene.calls.submitAndPoll(thread.id, run.id, { tool_outputs: given });
  await refused(
    scene.calls.submit(thread.id, run.id, { tool_outputs: given }), sdk.BadRequestError,
    'Runs in status "completed" do not accept tool outputs.',
  );
});

scenario("a_waiting_thread_is_locked", [83, 84, 94, 168], async (scene) => {
  const assistant = await scene.assistant({ tools: [WEATHER] });
  const thread = await scene.thread(rehearse([call("get_weather")], END));
  const run = await scene.run(thread, assistant);
  await refused(
    scene.threads.messages.create(thread.id, { role: "user", content: "Hurry" }),
    sdk.BadRequestError,
    `Can't add messages to ${thread.id} while a run ${run.id} is active.`,
  );
  for (const stream of [false, true]) {
    await refused(
      scene.runs.create(thread.id, { assistant_id: assistant.id, stream }), sdk.BadRequestError,
      `Thread ${thread.id} already has an active run ${run.id}.`,
    );
  }
});
