// code_interpreter: its files, variables, charts, links and failures, with and without a stream.

import assert from "node:assert/strict";
import { all, call, rehearse, scenario, sdk } from "./scene.mjs";

const TOOLS = [{ type: "code_interpreter" }];
const CHART = "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.show()\n";
const PNG = "89504e470d0a1a0a";

/** A script's step: run this code, which comes in so many pieces (the first is the name). */
function code(text, pieces = 2) {
  const step = call("code_interpreter", { code: text });
  step.call.pieces = pieces;
  return step;
}
const end = (text = "That is all.") => [{ text }];

async function callsOf(scene, run) {
  const steps = await all(scene.calls.listSteps(run.thread_id, run.id, { order: "asc" }));
  return steps
    .filter((step) => step.type === "tool_calls")
    .flatMap((step) => step.step_details.tool_calls)
    .map((one) => one.code_interpreter);
}

/** What each code call of a run printed. */
async function logsOf(scene, run) {
  assert.equal(run.status, "completed");
  return (await callsOf(scene, run)).map(({ outputs }) =>
    outputs.filter(({ type }) => type === "logs").map(({ logs }) => logs).join(""),
  );
}

async function download(scene, id) {
  const answer = await scene.client.files.content(id);
  return Buffer.from(await answer.arrayBuffer());
}

scenario("code_reads_files_by_their_names", [203], async (scene) => {
  const bytes = Buffer.from("city,people\nOslo,700\n");
  const upload = await sdk.toFile(bytes, "Größen.csv");
  const file = await scene.client.files.create({ file: upload, purpose: "assistants" });
  const assistant = await scene.assistant({
    tools: TOOLS, tool_resources: { code_interpreter: { file_ids: [file.id] } },
  });
  const reads = "print(open('/mnt/data/Größen.csv', encoding='utf-8').read(), end='')";
  const thread = await scene.thread(rehearse([code(reads)], end()));
  assert.deepEqual(await logsOf(scene, await scene.run(thread, assistant)), [bytes.toString()]);
});

scenario("variables_stay_within_their_thread", [204], async (scene) => {
  const assistant = await scene.assistant({ tools: TOOLS });
  const thread = await scene.thread(rehearse([code("secret = 6 * 7")], end()));
  assert.deepEqual(await logsOf(scene, await scene.run(thread, assistant)), [""]);
  const asks = rehearse([code("print(secret)")], end());
  await scene.threads.messages.create(thread.id, { role: "user", content: asks });
  assert.deepEqual(await logsOf(scene, await scene.run(thread, assistant)), ["42\n"]);
  const [other] = await logsOf(scene, await scene.run(await scene.thread(asks), assistant));
  assert.match(other, /NameError: name 'secret' is not defined/);
});

scenario("a_chart_is_shown_and_downloaded", [206], async (scene) => {
  const thread = await scene.thread(rehearse([code(CHART)], end("Here it is.")));
  const run = await scene.run(thread, await scene.assistant({ tools: TOOLS }));
  const [{ outputs }] = await callsOf(scene, run);
  assert.deepEqual(outputs.map(({ type }) => type), ["image"]);
  const [image, text] = (await scene.messages(thread.id)).at(-1).content;
  assert.equal(image.image_file.file_id, outputs[0].image.file_id);
  assert.equal(text.text.value, "Here it is.");
  const file = await scene.client.files.retrieve(image.image_file.file_id);
  assert.equal(file.purpose, "assistants_output");
  const content = await download(scene, file.id);
  assert.equal(content.length, file.bytes);
  assert.equal(content.subarray(0, 8).toString("hex"), PNG);
});

scenario("a_written_file_is_linked_and_downloaded", [207], async (scene) => {
  const writes = "open('/mnt/data/sum.csv', 'w').write('sum\\n3500\\n')";
  const link = "sandbox:/mnt/data/sum.csv";
  const said = `合計 🎉 [Download](${link}), not sandbox:/mnt/data/other.csv`;
  const thread = await scene.thread(rehearse([code(writes)], end(said)));
  const run = await scene.run(thread, await scene.assistant({ tools: TOOLS }));
  assert.equal(run.status, "completed");
  const message = (await scene.messages(thread.id)).at(-1);
  const { value, annotations: [found, ...more] } = message.content[0].text;
  assert.deepEqual([value, found.type, found.text, more], [said, "file_path", link, []]);
  const points = Array.from(said); // Offsets count code points, as Python does.
  assert.equal(points.slice(found.start_index, found.end_index).join(""), link);
  const file = await scene.client.files.retrieve(found.file_path.file_id);
  assert.deepEqual([file.filename, file.purpose], ["sum.csv", "assistants_output"]);
  assert.equal((await download(scene, file.id)).toString(), "sum\n3500\n");
  assert.deepEqual(message.attachments.map(({ file_id: id }) => id), [file.id]);
});

scenario("code_that_fails_is_told_and_the_run_goes_on", [144, 208], async (scene) => {
  const thread = await scene.thread(rehearse([code("1 / 0")], [code("x = 1")], end()));
  const run = await scene.run(thread, await scene.assistant({ tools: TOOLS }));
  const [failed] = await logsOf(scene, run);
  assert.match(failed, /ZeroDivisionError: division by zero/);
  const [, silent] = await callsOf(scene, run);
  assert.deepEqual([silent.input, silent.outputs], ["x = 1", []]);
});

scenario("code_is_streamed_with_its_outputs", [153], async (scene) => {
  const text = "print('one')\n" + CHART;
  const thread = await scene.thread(rehearse([code(text, 6)], end("Look.")));
  const assistant = await scene.assistant({ tools: TOOLS });
  const stream = scene.runs.stream(thread.id, { assistant_id: assistant.id });
  const deltas = [];
  const parts = [];
  // A copy: the SDK adds later deltas to the first one.
  stream.on("event", (seen) => {
    const { event, data } = structuredClone(seen);
    if (event === "thread.run.step.delta") deltas.push(data.delta.step_details.tool_calls[0]);
    if (event === "thread.message.delta") parts.push(...data.delta.content);
  });
  const steps = await stream.finalRunSteps();
  const [message] = await stream.finalMessages();
  const inputs = deltas.map((one) => one.code_interpreter.input ?? "");
  assert.equal(inputs.join(""), text);
  assert.equal(inputs.filter(Boolean).length, 5);
  const outputs = deltas.flatMap((one) => one.code_interpreter.outputs ?? []);
  assert.deepEqual(outputs.map(({ index, type }) => [index, type]), [[0, "logs"], [1, "image"]]);
  const step = steps.find(({ type }) => type === "tool_calls");
  const made = step.step_details.tool_calls[0].code_interpreter;
  assert.equal(made.input, text);
  assert.deepEqual(made.outputs.map(({ type }) => type), ["logs", "image"]);
  assert.deepEqual(message.content.map(({ type }) => type), ["image_file", "text"]);
  assert.deepEqual(parts.slice(0, 2).map(({ index, type }) => [index, type]),
    [[0, "image_file"], [1, "text"]]);
});
