// Other ways in: raw responses, other prefixes, Azure's client.

import assert from "node:assert/strict";
import {
  Scene, TIMEOUT_MS, WEATHER, call, connect, outputs, rehearse, scenario, sdk, textOf,
} from "./scene.mjs";

scenario("raw_responses_have_their_headers", [18], async (scene) => {
  const { assistants } = scene.client.beta;
  const { data, response } = await assistants.create({ model: scene.model }).withResponse();
  assert.equal(response.headers.get("openai-version"), "2020-10-01");
  assert.ok(Number(response.headers.get("openai-processing-ms")) >= 0);
  assert.match(data._request_id, /^req_/);
  assert.equal(response.headers.get("x-request-id"), data._request_id);
  const raw = await assistants.retrieve(data.id).asResponse();
  assert.deepEqual([raw.status, (await raw.json()).id], [200, data.id]);
});

/** An assistant, a thread, a call, its output, a stream. */
async function drive(client, { model, root, key, provider }) {
  const scene = new Scene(client, model, root, key, provider);
  const assistant = await scene.assistant({ tools: [WEATHER] });
  const thread = await scene.thread(rehearse([call("get_weather")], [{ text: "Rain." }]));
  const run = await scene.run(thread, assistant);
  const stream = scene.calls.submitStream(thread.id, run.id, {
    tool_outputs: outputs(run, "rain"),
  });
  assert.equal((await stream.finalRun()).status, "completed");
  assert.equal(textOf((await stream.finalMessages())[0]), "Rain.");
  assert.equal((await scene.calls.deleteAssistant(assistant.id)).deleted, true);
}

scenario("the_azure_client_drives_a_run", [3], async (scene) => {
  const client = new sdk.AzureOpenAI({
    endpoint: scene.root,
    apiKey: scene.key,
    apiVersion: "2024-05-01-preview",
    timeout: TIMEOUT_MS,
    maxRetries: 0,
  });
  await drive(client, scene);
});

scenario("other_prefixes_drive_a_run", [2, 4], async (scene) => {
  for (const prefix of ["", "/openai/v1"]) {
    await drive(connect(scene.root + prefix, scene.key), scene);
  }
});
