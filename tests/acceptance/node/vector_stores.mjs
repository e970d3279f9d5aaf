// Vector stores, their files, batches and searches, and the helpers that wait for them.

import assert from "node:assert/strict";
import { all, isOld, refused, scenario, sdk } from "./scene.mjs";

const CATS = ["cats.md", "# Cats\n\nCats purr when they are content."];
const DOGS = ["Dogs.TXT", "Dogs bark at strangers."];
const EMPTY = ["empty.txt", " \n"];

/** Something to upload. */
const made = ([name, text]) => sdk.toFile(Buffer.from(text), name);

async function upload(scene, file) {
  const { id } = await scene.client.files.create({ file: await made(file), purpose: "assistants" });
  return id;
}

/** The calls whose conventions differ, all as (store, id, rest). */
function callsOf({ vectorStores: stores }) {
  const { files, fileBatches } = stores;
  if (isOld) {
    return {
      deleteStore: (id) => stores.del(id),
      retrieveFile: (store, id) => files.retrieve(store, id),
      updateFile: (store, id, body) => files.update(store, id, body),
      deleteFile: (store, id) => files.del(store, id),
      content: (store, id) => files.content(store, id),
      retrieveBatch: (store, id) => fileBatches.retrieve(store, id),
      cancelBatch: (store, id) => fileBatches.cancel(store, id),
      listBatch: (store, id, query) => fileBatches.listFiles(store, id, query),
    };
  }
  const at = (vector_store_id, rest = {}) => ({ vector_store_id, ...rest });
  return {
    deleteStore: (id) => stores.delete(id),
    retrieveFile: (store, id) => files.retrieve(id, at(store)),
    updateFile: (store, id, body) => files.update(id, at(store, body)),
    deleteFile: (store, id) => files.delete(id, at(store)),
    content: (store, id) => files.content(id, at(store)),
    retrieveBatch: (store, id) => fileBatches.retrieve(id, at(store)),
    cancelBatch: (store, id) => fileBatches.cancel(id, at(store)),
    listBatch: (store, id, query) => fileBatches.listFiles(id, at(store, query)),
  };
}

scenario("vector_stores", [183, 185, 193], async ({ client }) => {
  const stores = client.vectorStores;
  const calls = callsOf(client);
  const store = await stores.create({});
  assert.match(store.id, /^vs_[0-9a-f]{32}$/);
  assert.deepEqual([store.name, store.status, store.metadata], [null, "completed", {}]);
  assert.deepEqual(await stores.retrieve(store.id), store);
  const changed = await stores.update(store.id, {
    name: "Pets", expires_after: { anchor: "last_active_at", days: 7 },
  });
  assert.equal(changed.name, "Pets");
  assert.equal(changed.expires_at, changed.last_active_at + 7 * 86_400);
  assert.ok((await all(stores.list({ limit: 2 }))).some((one) => one.id === store.id));
  const deleted = await calls.deleteStore(store.id);
  assert.deepEqual(deleted, { id: store.id, object: "vector_store.deleted", deleted: true });
  await refused(
    stores.retrieve(store.id), sdk.NotFoundError,
    `No vector store found with id '${store.id}'.`,
  );
});

scenario("vector_store_files", [184, 189, 192, 193, 199, 202], async (scene) => {
  const { files } = scene.client.vectorStores;
  const calls = callsOf(scene.client);
  const store = await scene.client.vectorStores.create({ name: "files" });
  const cats = await files.uploadAndPoll(store.id, await made(CATS));
  assert.deepEqual([cats.status, cats.last_error], ["completed", null]);
  const dogs = await files.createAndPoll(store.id, {
    file_id: await upload(scene, DOGS), attributes: { kind: "dog", legs: 4 },
  });
  assert.deepEqual([dogs.status, dogs.attributes], ["completed", { kind: "dog", legs: 4 }]);
  const empty = await files.upload(store.id, await made(EMPTY));
  assert.equal((await calls.retrieveFile(store.id, empty.id)).id, empty.id);
  const failed = await files.poll(store.id, empty.id);
  assert.deepEqual([failed.status, failed.last_error.code], ["failed", "invalid_file"]);
  assert.deepEqual(
    (await all(files.list(store.id, { filter: "failed" }))).map((one) => one.id), [empty.id],
  );
  assert.deepEqual(
    (await all(files.list(store.id, { limit: 1 }))).map((one) => one.id),
    [empty.id, dogs.id, cats.id],
  );
  const updated = await calls.updateFile(store.id, cats.id, { attributes: { old: true } });
  assert.deepEqual(updated.attributes, { old: true });
  const pieces = await all(calls.content(store.id, dogs.id));
  assert.equal(pieces.map((piece) => piece.text).join(""), DOGS[1]);
  const gone = await calls.deleteFile(store.id, cats.id);
  assert.deepEqual(gone, { id: cats.id, object: "vector_store.file.deleted", deleted: true });
  assert.equal((await scene.client.files.retrieve(cats.id)).filename, "cats.md");
});

scenario("vector_store_file_batches", [194, 195, 202], async (scene) => {
  const { fileBatches } = scene.client.vectorStores;
  const calls = callsOf(scene.client);
  const store = await scene.client.vectorStores.create({ name: "batches" });
  const ids = [await upload(scene, CATS), await upload(scene, EMPTY)];
  const done = await fileBatches.createAndPoll(store.id, { file_ids: ids });
  assert.equal(done.status, "completed");
  assert.deepEqual([done.file_counts.completed, done.file_counts.failed], [1, 1]);
  assert.deepEqual(await fileBatches.poll(store.id, done.id), done);
  const listed = await all(calls.listBatch(store.id, done.id, { order: "asc" }));
  assert.deepEqual(listed.map((one) => one.id), ids);
  const uploaded = await fileBatches.uploadAndPoll(store.id, {
    files: [await made(CATS), await made(DOGS)], fileIds: [ids[0]],
  });
  assert.deepEqual([uploaded.file_counts.completed, uploaded.file_counts.total], [3, 3]);
  const begun = await fileBatches.create(store.id, { file_ids: [await upload(scene, DOGS)] });
  await calls.cancelBatch(store.id, begun.id);
  const cancelled = await calls.retrieveBatch(store.id, begun.id);
  assert.deepEqual([cancelled.id, cancelled.file_counts.in_progress], [begun.id, 0]);
});

scenario("vector_store_searches", [196, 197, 198], async (scene) => {
  const stores = scene.client.vectorStores;
  const store = await stores.create({ name: "search" });
  const cats = await stores.files.uploadAndPoll(store.id, await made(CATS));
  const dogs = await stores.files.createAndPoll(store.id, {
    file_id: await upload(scene, DOGS), attributes: { kind: "dog" },
  });
  const [first] = await all(stores.search(store.id, { query: "Who purrs?" }));
  assert.deepEqual([first.file_id, first.filename], [cats.id, "cats.md"]);
  assert.ok(first.score > 0 && first.score <= 1);
  assert.match(first.content[0].text, /purr/);
  const filters = { type: "or", filters: [{ type: "eq", key: "kind", value: "dog" }] };
  const found = await all(stores.search(store.id, { query: ["purr", "bark"], filters }));
  assert.deepEqual(found.map((one) => one.file_id), [dogs.id]);
});
