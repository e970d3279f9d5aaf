// Cancelling: in a stream, while outputs are awaited, while the provider is silent.

import assert from "node:assert/strict";
import {
  WEATHER, all, asStreamed, call, names, refused, rehearse, scenario, sdk, textOf, waitUntil,
} from "./scene.mjs";

scenario("a_cancel_ends_the_stream", [119, 122, 156, 165], async (scene) => {
  const assistant = await scene.assistant();
  const thread = await scene.thread(rehearse([{ words: 1000, every_ms: 20 }]));
  const stream = scene.runs.stream(thread.id, { assistant_id: assistant.id });
  const events = [];
  let answer;
  for await (const event of stream) {
    events.push(event);
    if (event.event === "thread.message.delta") {
      answer ??= await scene.calls.cancelRun(thread.id, events[0].data.id);
    }
  }
  assert.ok(["cancelling", "cancelled"].includes(answer.status), answer.status);
  assert.deepEqual(names(events).slice(-4), [
    "thread.run.cancelling",
    "thread.message.incomplete",
    "thread.run.step.cancelled",
    "thread.run.cancelled",
  ]);
  const run = await stream.finalRun();
  assert.deepEqual(run, await scene.calls.retrieveRun(thread.id, run.id));
  const message = (await scene.messages(thread.id)).at(-1);
  assert.deepEqual(message.incomplete_details, { reason: "run_cancelled" });
  assert.match(textOf(message), /^word1 /);
  assert.deepEqual((await stream.finalMessages()).map(asStreamed), [asStreamed(message)]);
  assert.deepEqual(
    await stream.finalRunSteps(), await all(scene.calls.listSteps(thread.id, run.id)),
  );
  await waitUntil(async () => (await scene.asked())[0].left_early === true);
});

scenario("a_cancel_frees_a_waiting_thread", [120, 121], async (scene) => {
  const assistant = await scene.assistant({ tools: [WEATHER] });
  const thread = await scene.thread(rehearse([call("get_weather")]));
  const run = await scene.run(thread, assistant);
  assert.equal(run.status, "requires_action");
  await scene.calls.cancelRun(thread.id, run.id);
  const current = () => scene.calls.retrieveRun(thread.id, run.id);
  await waitUntil(async () => (await current()).status === "cancelled");
  await refused(
    scene.calls.cancelRun(thread.id, run.id), sdk.BadRequestError,
    "Cannot cancel run with status 'cancelled'.",
  );
  await scene.threads.messages.create(thread.id, { role: "user", content: "Hello" });
  assert.equal((await scene.run(thread, assistant)).status, "completed");
});

scenario("a_cancel_does_not_wait_for_a_silent_provider", [119], async (scene) => {
  const assistant = await scene.assistant();
  const thread = await scene.thread(rehearse([{ silence: true }]));
  const run = await scene.runs.create(thread.id, { assistant_id: assistant.id });
  await waitUntil(async () => (await scene.asked()).length > 0);
  const began = Date.now();
  await scene.calls.cancelRun(thread.id, run.id);
  assert.equal((await scene.calls.pollRun(thread.id, run.id)).status, "cancelled");
  assert.ok(Date.now() - began < 3_000);
  await waitUntil(async () => (await scene.asked())[0].left_early === true);
});

scenario("a_deleted_thread_ends_its_stream", [129, 159], async (scene) => {
  // With an error: there is no run any more that could have an end.
  const assistant = await scene.assistant();
  const thread = await scene.thread(rehearse([{ words: 1000, every_ms: 20 }]));
  const stream = scene.runs.stream(thread.id, { assistant_id: assistant.id });
  stream.once("textDelta", () => scene.calls.deleteThread(thread.id));
  const error = await stream.finalRun().then(assert.fail, (reason) => reason);
  assert.ok(error instanceof sdk.APIError, error);
  assert.match(error.message, /Thread was deleted\./);
  await waitUntil(async () => (await scene.asked())[0].left_early === true);
});
