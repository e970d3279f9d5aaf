// Plays every scenario against a running server and prints a JSON line for each.
//
//   node main.mjs SDK_FOLDER URL KEY PROVIDER [scenario ...]
//
// URL ends in /v1, PROVIDER is the rehearsal server's address without /v1.

import { Scene, connect, scenarios, slow, version, TIMEOUT_MS } from "./scene.mjs";
import "./objects.mjs";
import "./runs.mjs";
import "./tools.mjs";
import "./streams.mjs";
import "./stops.mjs";
import "./doors.mjs";
import "./files.mjs";
import "./vector_stores.mjs";
import "./code.mjs";

const [url, key, provider, ...wanted] = process.argv.slice(3);
const client = connect(url, key);
const strays = []; // What no scenario awaited is the fault of the one that is being played.
process.on("unhandledRejection", (reason) => strays.push(reason));

async function play(name) {
  const scene = new Scene(client, `rehearsal-${name}`, url.replace(/\/v1$/, ""), key, provider);
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("it took too long")), 2 * TIMEOUT_MS);
  });
  try {
    await Promise.race([scenarios.get(name)(scene), late]);
    if (strays.length) throw strays[0];
    return null;
  } catch (error) {
    return error?.stack ?? String(error);
  } finally {
    clearTimeout(timer);
    strays.length = 0;
  }
}

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

async function timed(name) {
  const began = Date.now();
  const failure = await play(name);
  return { scenario: name, failure, seconds: (Date.now() - began) / 1000 };
}

say({ scenario: null, sdk: version });
const names = wanted.length ? wanted : [...scenarios.keys()];
const beside = names.filter((name) => slow.has(name)).map(timed);
for (const name of names) if (!slow.has(name)) say(await timed(name));
for (const played of beside) say(await played);
process.exit(); // Connections that are kept alive would hold the program.
