// Files and uploads: sent, listed, read and deleted, whole or in parts.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { all, isOld, refused, scenario, sdk } from "./scene.mjs";

const DATA = Buffer.alloc(256_000, Uint8Array.from({ length: 256 }, (_, byte) => byte));

/** The bytes of a file. */
async function content(client, id) {
  const answer = await client.files.content(id);
  return Buffer.from(await answer.arrayBuffer());
}

/** Delete a file; the call was renamed. */
const remove = (client, id) => (isOld ? client.files.del(id) : client.files.delete(id));

scenario("files", [169, 172, 173, 174, 175, 176], async ({ client }) => {
  const folder = await mkdtemp(join(tmpdir(), "files-"));
  const path = join(folder, "naïve 报告.txt");
  await writeFile(path, DATA);
  const first = await client.files.create({ file: createReadStream(path), purpose: "vision" });
  await rm(folder, { recursive: true });
  assert.match(first.id, /^file-[A-Za-z0-9]{22}$/);
  assert.deepEqual([first.object, first.purpose, first.status], ["file", "vision", "processed"]);
  assert.deepEqual([first.bytes, first.filename], [DATA.length, "naïve 报告.txt"]);
  assert.deepEqual(await client.files.retrieve(first.id), first);
  assert.deepEqual(await client.files.waitForProcessing(first.id), first);
  assert.ok((await content(client, first.id)).equals(DATA));

  const json = await client.files.create({
    file: await sdk.toFile(Buffer.from('{"a": 1}'), "data.json"), purpose: "batch",
  });
  assert.equal((await content(client, json.id)).toString(), '{"a": 1}');
  const second = await client.files.create({
    file: await sdk.toFile(Buffer.from("x"), "a.txt"), purpose: "assistants",
  });
  await refused(
    client.files.content(second.id), sdk.BadRequestError,
    "Not allowed to download files of purpose: assistants",
  );
  const found = (await all(client.files.list({ limit: 1 }))).map((one) => one.id);
  assert.ok(found.indexOf(second.id) < found.indexOf(first.id));
  const ours = (await all(client.files.list({ purpose: "assistants" }))).map((one) => one.id);
  assert.ok(ours.includes(second.id) && !ours.includes(first.id));

  assert.deepEqual(await remove(client, first.id), {
    id: first.id, object: "file", deleted: true,
  });
  const gone = `No such File object: ${first.id}`;
  await refused(client.files.retrieve(first.id), sdk.NotFoundError, gone, { param: "id" });
  await refused(client.files.content(first.id), sdk.NotFoundError, gone, { param: "id" });
});

scenario("files_have_rules", [170, 177], async ({ client }) => {
  const file = await sdk.toFile(Buffer.from("x"), 'say "hi".txt');
  await refused(
    client.files.create({ file, purpose: "foo" }), sdk.BadRequestError,
    "Invalid value: 'foo'. Supported values are: 'assistants', 'batch', 'fine-tune', 'vision', "
      + "'user_data', and 'evals'.",
    { code: "invalid_value", param: "purpose" },
  );
  const made = await client.files.create({
    file, purpose: "vision", expires_after: { anchor: "created_at", seconds: 3600 },
  });
  assert.equal(made.filename, 'say "hi".txt');
  assert.equal(made.expires_at, made.created_at + 3600);
});

scenario("uploads", [179, 180, 181, 182], async ({ client }) => {
  const upload = await client.uploads.create({
    bytes: DATA.length, filename: "big.png", mime_type: "image/png", purpose: "vision",
  });
  assert.deepEqual([upload.object, upload.status, upload.file], ["upload", "pending", null]);
  const pieces = [DATA.subarray(0, 100_000), DATA.subarray(100_000, 200_000), DATA.subarray(200_000)];
  const send = async (piece) => {
    const part = await client.uploads.parts.create(upload.id, {
      data: await sdk.toFile(piece, "part"),
    });
    assert.deepEqual([part.object, part.upload_id], ["upload.part", upload.id]);
    return part.id;
  };
  const part_ids = await Promise.all(pieces.map(send));
  await refused(
    client.uploads.complete(upload.id, { part_ids: part_ids.slice(0, 1) }), sdk.BadRequestError,
    "The parts have 100000 bytes together, but the upload was created with 256000 bytes.",
    { code: "invalid_value", param: "part_ids" },
  );
  const md5 = createHash("md5").update(DATA).digest("hex");
  const done = await client.uploads.complete(upload.id, { part_ids, md5 });
  assert.deepEqual([done.status, done.file.filename], ["completed", "big.png"]);
  assert.ok((await content(client, done.file.id)).equals(DATA));
  await refused(
    client.uploads.complete(upload.id, { part_ids }), sdk.BadRequestError,
    `Upload '${upload.id}' is not pending.`,
  );
  const other = await client.uploads.create({
    bytes: 3, filename: "a", mime_type: "text/plain", purpose: "assistants",
  });
  assert.equal((await client.uploads.cancel(other.id)).status, "cancelled");
  await refused(
    client.uploads.parts.create(other.id, { data: await sdk.toFile(Buffer.from("abc"), "a") }),
    sdk.BadRequestError, `Upload '${other.id}' is not pending.`,
  );
});
