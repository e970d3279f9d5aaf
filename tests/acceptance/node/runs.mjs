// Runs that are polled: how they end, what a request may override, what the model receives.

import assert from "node:assert/strict";
import {
  BOTH, TIME, WEATHER, all, connect, pending, refused, rehearse, scenario, sdk, textOf,
} from "./scene.mjs";

scenario("a_run_completes", [90, 97, 98, 136], async (scene) => {
  const assistant = await scene.assistant({ instructions: "Be kind." });
  const thread = await scene.thread(rehearse([{ text: "Hello there." }]));
  const run = await scene.run(thread, assistant);
  assert.deepEqual([run.status, run.instructions], ["completed", "Be kind."]);
  assert.deepEqual([run.expires_at, run.required_action, run.last_error], [null, null, null]);
  assert.ok(run.created_at <= run.started_at && run.started_at <= run.completed_at);
  const steps = await all(scene.calls.listSteps(thread.id, run.id));
  const total = steps.reduce((sum, step) => sum + step.usage.total_tokens, 0);
  assert.equal(run.usage.total_tokens, total);
  const answer = (await scene.messages(thread.id)).at(-1);
  assert.deepEqual([answer.role, answer.run_id], ["assistant", run.id]);
  assert.equal(textOf(answer), "Hello there.");
});

scenario("a_run_is_created_and_polled", [90], async (scene) => {
  const [assistant, thread] = [await scene.assistant(), await scene.thread("Hello")];
  const created = await scene.runs.create(thread.id, { assistant_id: assistant.id });
  assert.deepEqual([created.status, created.started_at], ["queued", null]);
  assert.equal(created.expires_at, created.created_at + 600);
  assert.equal((await scene.calls.pollRun(thread.id, created.id)).status, "completed");
});

scenario("a_poll_helper_is_held_and_others_are_told_when_to_look", [28, 136], async (scene) => {
  // Left to itself the helper would wait five seconds between two looks.
  const assistant = await scene.assistant();
  const thread = await scene.thread(rehearse([{ delay_ms: 1600 }, { text: "Slow." }]));
  const began = Date.now();
  assert.equal((await scene.run(thread, assistant)).status, "completed");
  assert.ok(Date.now() - began < 4_000);
});

scenario("a_thread_and_its_run_in_one_request", [130], async (scene) => {
  const assistant = await scene.assistant();
  const thread = { messages: [{ role: "user", content: rehearse([{ text: "Together." }]) }] };
  const body = { assistant_id: assistant.id, thread };
  const created = await scene.threads.createAndRun(body);
  const done = await scene.calls.pollRun(created.thread_id, created.id);
  assert.equal(done.status, "completed");
  assert.equal(await scene.lastText(created.thread_id), "Together.");
  const polled = await scene.threads.createAndRunPoll(body);
  assert.equal(await scene.lastText(polled.thread_id), "Together.");
});

scenario("a_run_overrides_the_assistant", [99, 108], async (scene) => {
  const assistant = await scene.assistant({
    model: "another-model", instructions: "Be long.", tools: [WEATHER],
  });
  const run = await scene.run(await scene.thread("Hello"), assistant, {
    model: scene.model,
    instructions: "Be brief.",
    tools: [TIME],
    tool_choice: "none",
    temperature: 0.25,
    top_p: 0.5,
    response_format: { type: "json_object" },
    metadata: { why: "test" },
    parallel_tool_calls: false,
  });
  assert.deepEqual([run.status, run.model], ["completed", scene.model]);
  assert.deepEqual([run.temperature, run.top_p, run.metadata], [0.25, 0.5, { why: "test" }]);
  const [{ body }] = await scene.asked();
  assert.equal(body.messages[0].content, "Be brief.");
  assert.deepEqual([body.temperature, body.top_p, body.tools], [0.25, 0.5, undefined]);
  assert.deepEqual(body.response_format, { type: "json_object" });
  assert.deepEqual(await scene.client.beta.assistants.retrieve(assistant.id), assistant);
});

scenario("a_run_adds_to_the_assistant", [100, 101], async (scene) => {
  const assistant = await scene.assistant({ instructions: "Be kind." });
  const thread = await scene.thread("First");
  await scene.run(thread, assistant, {
    additional_instructions: "Be brief.",
    additional_messages: [
      { role: "assistant", content: "Second" },
      { role: "user", content: "Third" },
    ],
  });
  const texts = (await scene.messages(thread.id)).map(textOf);
  assert.deepEqual(texts.slice(0, 3), ["First", "Second", "Third"]);
  const [{ body }] = await scene.asked();
  assert.match(body.messages[0].content, /^Be kind\.\s+Be brief\.$/);
});

scenario("a_tool_choice_is_obeyed", [108, 111], async (scene) => {
  const assistant = await scene.assistant({ tools: BOTH });
  const named = { type: "function", function: { name: "get_time" } };
  for (const [choice, expected] of [["required", "get_weather"], [named, "get_time"]]) {
    const thread = await scene.thread("Hello");
    const run = await scene.run(thread, assistant, { tool_choice: choice });
    assert.deepEqual(pending(run).map(([name]) => name), [expected]);
  }
  const asked = await scene.asked();
  assert.deepEqual(asked.map(({ body }) => body.tool_choice), ["required", named]);
});

scenario("truncation", [105, 106], async (scene) => {
  const assistant = await scene.assistant();
  const short = await scene.thread("one", "two", "three");
  await scene.run(short, assistant, {
    truncation_strategy: { type: "last_messages", last_messages: 2 },
  });
  const texts = Array.from({ length: 10 }, (_, n) => `message ${n} ${"word ".repeat(100)}`);
  const run = await scene.run(await scene.thread(...texts), assistant, {
    truncation_strategy: { type: "auto" }, max_prompt_tokens: 500,
  });
  assert.equal(run.status, "completed");
  const users = ({ body }) => body.messages.filter(({ role }) => role === "user");
  const [last, auto] = await scene.asked();
  assert.deepEqual(users(last).map(({ content }) => content), ["two", "three"]);
  const sent = users(auto).map(({ content }) => content.split(" ")[1]);
  assert.deepEqual([sent.at(0), sent.at(-1)], ["0", "9"]);
  assert.ok(sent.length < 10);
});

scenario("a_schema_shapes_the_answer", [45], async (scene) => {
  const schema = {
    type: "object",
    properties: { city: { type: "string" }, degrees: { type: "integer" } },
    required: ["city", "degrees"],
    additionalProperties: false,
  };
  const format = { type: "json_schema", json_schema: { name: "weather", strict: true, schema } };
  const thread = await scene.thread("Weather?");
  await scene.run(thread, await scene.assistant({ response_format: format }));
  const answer = JSON.parse(await scene.lastText(thread.id));
  assert.deepEqual(Object.keys(answer).sort(), ["city", "degrees"]);
  assert.deepEqual((await scene.asked())[0].body.response_format, format);
});

scenario("a_used_up_budget_ends_incomplete", [103], async (scene) => {
  const thread = await scene.thread(rehearse([{ words: 400 }]));
  const run = await scene.run(thread, await scene.assistant(), { max_completion_tokens: 256 });
  assert.equal(run.status, "incomplete");
  assert.deepEqual(run.incomplete_details, { reason: "max_completion_tokens" });
  const message = (await scene.messages(thread.id)).at(-1);
  assert.equal(message.status, "incomplete");
  assert.deepEqual(message.incomplete_details, { reason: "max_tokens" });
});

scenario("a_failing_provider_fails_the_run", [123, 124, 125], async (scene) => {
  const assistant = await scene.assistant();
  const text = "Rate limit reached for requests. Please try again in 60s.";
  const limit = {
    status: 429,
    headers: { "retry-after": "60" },
    body: { error: { message: text, type: "requests", code: "rate_limit_exceeded" } },
  };
  const thread = await scene.thread(rehearse([limit]));
  const run = await scene.run(thread, assistant);
  assert.deepEqual([run.status, run.completed_at], ["failed", null]);
  assert.deepEqual(run.last_error, { code: "rate_limit_exceeded", message: text });
  const fault = { status: 401, body: { error: { message: "bad key sk-secret-0123456789" } } };
  await scene.threads.messages.create(thread.id, { role: "user", content: rehearse([fault]) });
  const second = await scene.run(thread, assistant);
  assert.deepEqual([second.status, second.last_error.code], ["failed", "server_error"]);
  assert.ok(!second.last_error.message.includes("secret"), second.last_error.message);
});

scenario("a_refusal_is_a_content_part", [133], async (scene) => {
  const thread = await scene.thread(rehearse([{ refusal: "I cannot help with that." }]));
  assert.equal((await scene.run(thread, await scene.assistant())).status, "completed");
  const [part] = (await scene.messages(thread.id)).at(-1).content;
  assert.deepEqual(part, { type: "refusal", refusal: "I cannot help with that." });
});

scenario("many_runs_go_on_at_once", [90], async (scene) => {
  const assistant = await scene.assistant();
  const numbers = Array.from({ length: 20 }, (_, number) => number);
  const answers = numbers.map(async (number) => {
    const thread = await scene.thread(rehearse([{ text: `Answer ${number}.`, every_ms: 50 }]));
    await scene.run(thread, assistant);
    return scene.lastText(thread.id);
  });
  assert.deepEqual(await Promise.all(answers), numbers.map((number) => `Answer ${number}.`));
});

scenario("errors_have_their_classes", [8, 20, 31, 32, 53], async (scene) => {
  const { assistants } = scene.client.beta;
  await refused(
    assistants.create({}), sdk.BadRequestError, "Missing required parameter: 'model'.",
    { code: "missing_required_parameter", param: "model" },
  );
  await refused(
    assistants.create({ model: "m", foo: 1 }), sdk.BadRequestError, "Unknown parameter: 'foo'.",
    { code: "unknown_parameter", param: "foo" },
  );
  await refused(
    assistants.retrieve("foo"), sdk.BadRequestError,
    "Invalid 'assistant_id': 'foo'. Expected an ID that begins with 'asst'.",
    { code: "invalid_value", param: "assistant_id" },
  );
  await refused(
    scene.client.get("/nope"), sdk.NotFoundError, "Invalid URL (GET /v1/nope)",
  );
  const stranger = connect(`${scene.root}/v1`, "sk-wrong-0123456789-wxyz");
  const error = await stranger.beta.assistants.list().then(assert.fail, (reason) => reason);
  assert.ok(error instanceof sdk.AuthenticationError, error);
  assert.equal(error.code, "invalid_api_key");
  assert.match(error.requestID ?? error.request_id, /^req_/);
});
