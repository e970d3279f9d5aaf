// What a scenario has at hand: the SDK that is tried, clients of the server, the provider's log.
//
// The SDK's folder is the program's first argument. Both versions play the same scenarios; where
// their calling conventions differ (ids by position or by name), `Calls` hides it.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const require = createRequire(`${process.argv[2]}/`);
export const sdk = require("openai");
export const { AssistantStream } = require("openai/lib/AssistantStream");
export const version = require("openai/version").VERSION;

/**
 * Version 4 takes ids by position. Its streams, whatever the server sends, emit no `run`, keep the
 * last snapshot of a message instead of its completed form, know no `incomplete` run, and add
 * later deltas to the event of the first one.
 */
export const isOld = version.startsWith("4.");

export const TIMEOUT_MS = 20_000;

export const WEATHER = {
  type: "function",
  function: {
    name: "get_weather",
    description: "The weather of a city.",
    parameters: {
      type: "object",
      properties: { city: { type: "string" } },
      required: ["city"],
    },
  },
};
export const TIME = { type: "function", function: { name: "get_time" } };
export const BOTH = [WEATHER, TIME];

export const scenarios = new Map();
export const slow = new Set(); // What waits long is played beside the others.

/** Name a scenario, and the assertions of the specification that it proves. */
export function scenario(name, assertions, play, { isSlow = false } = {}) {
  assert.ok(!scenarios.has(name), name);
  scenarios.set(name, play);
  if (isSlow) slow.add(name);
}

/** A client as an application makes it; a hidden retry would hide a fault. */
export function connect(baseURL, apiKey) {
  return new sdk.OpenAI({ baseURL, apiKey, timeout: TIMEOUT_MS, maxRetries: 0 });
}

/** One scenario's own corner of the server: its model name tells its calls from others'. */
export class Scene {
  constructor(client, model, root, key, provider) {
    Object.assign(this, { client, model, root, key, provider, calls: callsOf(client) });
    this.threads = client.beta.threads;
    this.runs = client.beta.threads.runs;
  }

  assistant(more = {}) {
    return this.client.beta.assistants.create({ model: this.model, ...more });
  }

  thread(...texts) {
    return this.threads.create({
      messages: texts.map((content) => ({ role: "user", content })),
    });
  }

  /** A run, followed until it rests. */
  run(thread, assistant, more = {}) {
    return this.runs.createAndPoll(thread.id, { assistant_id: assistant.id, ...more });
  }

  /** The model calls that this scenario caused, oldest first. */
  async asked() {
    const answer = await fetch(`${this.provider}/rehearsal/calls`);
    const { data } = await answer.json();
    return data.filter((call) => call.model === this.model);
  }

  /** A thread's messages, oldest first. */
  messages(threadId) {
    return all(this.threads.messages.list(threadId, { order: "asc" }));
  }

  async lastText(threadId) {
    return textOf((await this.messages(threadId)).at(-1));
  }
}

/** The calls whose conventions differ, all as (thread, id, rest). */
function callsOf({ beta: { assistants, threads } }) {
  const { messages, runs } = threads;
  const { steps } = runs;
  if (isOld) {
    return {
      deleteAssistant: (id) => assistants.del(id),
      deleteThread: (id) => threads.del(id),
      retrieveMessage: (thread, id) => messages.retrieve(thread, id),
      updateMessage: (thread, id, body) => messages.update(thread, id, body),
      deleteMessage: (thread, id) => messages.del(thread, id),
      retrieveRun: (thread, id) => runs.retrieve(thread, id),
      updateRun: (thread, id, body) => runs.update(thread, id, body),
      cancelRun: (thread, id) => runs.cancel(thread, id),
      pollRun: (thread, id) => runs.poll(thread, id),
      submit: (thread, id, body) => runs.submitToolOutputs(thread, id, body),
      submitAndPoll: (thread, id, body) => runs.submitToolOutputsAndPoll(thread, id, body),
      submitStream: (thread, id, body) => runs.submitToolOutputsStream(thread, id, body),
      listSteps: (thread, run, query) => steps.list(thread, run, query),
      retrieveStep: (thread, run, id) => steps.retrieve(thread, run, id),
    };
  }
  const at = (thread_id, rest = {}) => ({ thread_id, ...rest });
  return {
    deleteAssistant: (id) => assistants.delete(id),
    deleteThread: (id) => threads.delete(id),
    retrieveMessage: (thread, id) => messages.retrieve(id, at(thread)),
    updateMessage: (thread, id, body) => messages.update(id, at(thread, body)),
    deleteMessage: (thread, id) => messages.delete(id, at(thread)),
    retrieveRun: (thread, id) => runs.retrieve(id, at(thread)),
    updateRun: (thread, id, body) => runs.update(id, at(thread, body)),
    cancelRun: (thread, id) => runs.cancel(id, at(thread)),
    pollRun: (thread, id) => runs.poll(id, at(thread)),
    submit: (thread, id, body) => runs.submitToolOutputs(id, at(thread, body)),
    submitAndPoll: (thread, id, body) => runs.submitToolOutputsAndPoll(id, at(thread, body)),
    submitStream: (thread, id, body) => runs.submitToolOutputsStream(id, at(thread, body)),
    listSteps: (thread, run, query) => steps.list(run, at(thread, query)),
    retrieveStep: (thread, run, id) => steps.retrieve(id, at(thread, { run_id: run })),
  };
}

/** A prompt that tells the provider what to answer, turn by turn (docs/rehearsal.md). */
export function rehearse(...turns) {
  return `rehearse: ${JSON.stringify({ turns })}`;
}

/** A script's step: call this function. */
export function call(name, args = {}) {
  return { call: { name, arguments: args } };
}

/** The text of a message that has one part. */
export function textOf(message) {
  assert.equal(message.content.length, 1);
  assert.equal(message.content[0].type, "text");
  return message.content[0].text.value;
}

/** Everything that an iteration yields; the SDK fetches the pages. */
export async function all(iterable) {
  const found = [];
  for await (const one of iterable) found.push(one);
  return found;
}

/** The events' names, equal neighbours once: deltas may be cut anywhere. */
export function names(events) {
  return events.map(({ event }) => event).filter((name, place, list) => name !== list[place - 1]);
}

/** Name and arguments of each call that the run waits for. */
export function pending(run) {
  assert.equal(run.status, "requires_action");
  assert.equal(run.required_action.type, "submit_tool_outputs");
  return run.required_action.submit_tool_outputs.tool_calls.map((one) => [
    one.function.name,
    JSON.parse(one.function.arguments),
  ]);
}

/** An output for each call that the run waits for, in order. */
export function outputs(run, ...texts) {
  const calls = run.required_action.submit_tool_outputs.tool_calls;
  assert.equal(calls.length, texts.length);
  return calls.map((one, place) => ({ tool_call_id: one.id, output: texts[place] }));
}

/** The promise must end in exactly this error. */
export async function refused(promise, kind, message, { code = null, param = null } = {}) {
  const error = await promise.then(
    () => assert.fail(`no error; expected: ${message}`),
    (reason) => reason,
  );
  assert.ok(error instanceof kind, error);
  assert.equal(error.error.message, message);
  assert.deepEqual([error.code, error.param], [code, param]);
  assert.equal(error.type, "invalid_request_error");
}

/** A message as this SDK's stream ends up with it. */
export function asStreamed(message) {
  if (!isOld) return message;
  const { id, role, content } = message;
  return { id, role, content: content.map(({ index, ...part }) => part) };
}

/** Until then, at most ten seconds. */
export async function waitUntil(isTrue) {
  for (const deadline = Date.now() + 10_000; !(await isTrue()); ) {
    assert.ok(Date.now() < deadline, "it did not happen");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
