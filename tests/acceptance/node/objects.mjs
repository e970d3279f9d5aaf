// Create, read, change, list and delete: every resource, through the SDK's methods.

import assert from "node:assert/strict";
import {
  WEATHER, all, call, outputs, refused, rehearse, scenario, sdk, textOf,
} from "./scene.mjs";

scenario("assistants", [1, 29, 30, 54, 55, 56, 59, 60], async (scene) => {
  const { assistants } = scene.client.beta;
  const made = await scene.assistant();
  assert.match(made.id, /^asst_[A-Za-z0-9]{24}$/);
  assert.deepEqual([made.object, made.name, made.instructions], ["assistant", null, null]);
  assert.deepEqual([made.tools, made.metadata, made.temperature], [[], {}, 1]);
  assert.deepEqual(await assistants.retrieve(made.id), made);
  const changed = await assistants.update(made.id, {
    name: "Zoë", tools: [WEATHER], metadata: { a: "1" },
  });
  assert.deepEqual([changed.name, changed.model], ["Zoë", scene.model]);
  assert.deepEqual(changed.metadata, { a: "1" });
  const cleared = await assistants.update(made.id, { name: null, tools: [], metadata: {} });
  assert.deepEqual([cleared.name, cleared.tools, cleared.metadata], [null, [], {}]);
  assert.ok((await all(assistants.list({ limit: 100 }))).some((one) => one.id === made.id));
  const deleted = await scene.calls.deleteAssistant(made.id);
  assert.deepEqual(deleted, { id: made.id, object: "assistant.deleted", deleted: true });
  await refused(
    assistants.retrieve(made.id), sdk.NotFoundError,
    `No assistant found with id '${made.id}'.`,
  );
});

scenario("threads", [63, 64, 68, 70], async (scene) => {
  const empty = await scene.threads.create();
  assert.deepEqual([empty.object, empty.metadata], ["thread", {}]);
  const thread = await scene.thread("one", "two", "three");
  assert.deepEqual((await scene.messages(thread.id)).map(textOf), ["one", "two", "three"]);
  const changed = await scene.threads.update(thread.id, { metadata: { user: "7" } });
  assert.deepEqual(changed.metadata, { user: "7" });
  assert.deepEqual(await scene.threads.retrieve(thread.id), changed);
  const deleted = await scene.calls.deleteThread(thread.id);
  assert.deepEqual(deleted, { id: thread.id, object: "thread.deleted", deleted: true });
  await refused(
    scene.threads.retrieve(thread.id), sdk.NotFoundError,
    `No thread found with id '${thread.id}'.`,
  );
});

scenario("messages", [73, 77, 78, 85, 86], async (scene) => {
  const thread = await scene.thread();
  const made = await scene.threads.messages.create(thread.id, {
    role: "user", content: "Grüße 👋", metadata: { a: "b" },
  });
  assert.deepEqual([made.object, made.status, made.run_id], ["thread.message", "completed", null]);
  assert.equal(textOf(made), "Grüße 👋");
  assert.deepEqual(await scene.calls.retrieveMessage(thread.id, made.id), made);
  const changed = await scene.calls.updateMessage(thread.id, made.id, { metadata: { c: "d" } });
  assert.deepEqual([changed.metadata, changed.content], [{ c: "d" }, made.content]);
  const parts = await scene.threads.messages.create(thread.id, {
    role: "assistant",
    content: [
      { type: "text", text: "What is this?" },
      { type: "image_url", image_url: { url: "https://images.example/cat.png" } },
    ],
  });
  assert.equal(parts.content[0].text.value, "What is this?");
  assert.equal(parts.content[1].image_url.detail, "auto");
  const deleted = await scene.calls.deleteMessage(thread.id, made.id);
  assert.deepEqual(deleted, { id: made.id, object: "thread.message.deleted", deleted: true });
  assert.deepEqual((await scene.messages(thread.id)).map((one) => one.id), [parts.id]);
});

scenario("runs_are_read_listed_and_changed", [127], async (scene) => {
  const [assistant, thread] = [await scene.assistant(), await scene.thread("Hello")];
  const first = await scene.run(thread, assistant, { metadata: { n: "1" } });
  const second = await scene.run(thread, assistant);
  assert.deepEqual([first.status, second.status], ["completed", "completed"]);
  assert.deepEqual(await scene.calls.retrieveRun(thread.id, first.id), first);
  const listed = await all(scene.runs.list(thread.id));
  assert.deepEqual(listed.map((one) => one.id), [second.id, first.id]);
  const changed = await scene.calls.updateRun(thread.id, first.id, { metadata: { n: "2" } });
  assert.deepEqual([changed.metadata, changed.status], [{ n: "2" }, "completed"]);
});

scenario("steps", [137, 139, 143], async (scene) => {
  const assistant = await scene.assistant({ tools: [WEATHER] });
  const thread = await scene.thread(rehearse([call("get_weather")], [{ text: "Fine." }]));
  const run = await scene.run(thread, assistant);
  const done = await scene.calls.submitAndPoll(thread.id, run.id, {
    tool_outputs: outputs(run, "sunny"),
  });
  assert.equal(done.status, "completed");
  const steps = await all(scene.calls.listSteps(thread.id, run.id, { order: "asc" }));
  assert.deepEqual(steps.map((step) => step.type), ["tool_calls", "message_creation"]);
  for (const step of steps) {
    assert.deepEqual([step.status, step.run_id], ["completed", run.id]);
    assert.deepEqual(await scene.calls.retrieveStep(thread.id, run.id, step.id), step);
  }
  const newest = await all(scene.calls.listSteps(thread.id, run.id));
  assert.deepEqual(newest, steps.toReversed());
});

scenario("models", [214], async (scene) => {
  const found = await all(scene.client.models.list());
  assert.ok(found.some((model) => model.id === "rehearsal"));
  assert.equal((await scene.client.models.retrieve("rehearsal")).object, "model");
  await refused(
    scene.client.models.retrieve("no-such-model"), sdk.NotFoundError,
    "The model 'no-such-model' does not exist", { code: "model_not_found", param: "model" },
  );
});

scenario("embeddings", [215], async (scene) => {
  const ask = (more) =>
    scene.client.embeddings.create({
      model: "rehearsal-embedding", input: ["a red fox", "a blue fox"], ...more,
    });
  const decoded = await ask({}); // The SDK asks for base64 by itself and decodes it.
  const plain = await ask({ encoding_format: "float" });
  decoded.data.forEach(({ embedding }, place) => {
    assert.equal(embedding.length, 64);
    embedding.forEach((value, axis) => {
      assert.ok(Math.abs(value - plain.data[place].embedding[axis]) < 1e-6);
    });
  });
  const short = await ask({ input: "a red fox", dimensions: 8 });
  assert.equal(short.data[0].embedding.length, 8);
});

scenario("pages", [89, 210, 211, 213], async (scene) => {
  const texts = Array.from({ length: 250 }, (_, number) => String(number));
  const thread = await scene.thread(...texts);
  const { messages } = scene.threads;
  const ascending = await all(messages.list(thread.id, { order: "asc", limit: 100 }));
  assert.deepEqual(ascending.map(textOf), texts);
  assert.equal(new Set(ascending.map((one) => one.id)).size, 250);
  const descending = await all(messages.list(thread.id));
  assert.deepEqual(descending, ascending.toReversed());
  let page = await messages.list(thread.id, { order: "asc", limit: 60 });
  const seen = [...page.data];
  while (page.hasNextPage()) {
    page = await page.getNextPage();
    seen.push(...page.data);
  }
  assert.deepEqual(seen, ascending);
  const empty = await messages.list((await scene.thread()).id);
  assert.deepEqual([empty.data, empty.has_more, empty.hasNextPage()], [[], false, false]);
});
