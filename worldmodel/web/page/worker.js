/**
 * The worker in which a world is computed: `run` in WebAssembly never yields, a page must.
 *
 * It is told { kind: "load" | "reset" | "step", id, ... } and answers { kind: "done", id, ... } or
 * { kind: "failed", id, message }. While it loads it tells { kind: "world", description } and
 * { kind: "progress", loaded, total }. In a world with a floor plan it starts itself a second time, as the
 * one that looks at the plan: that one is told "assist", "look" and "draw" (`looker.js`).
 */

import { Files, arraysOf, unpackWeights } from "./files.js";
import { Assistant, Looker } from "./looker.js";
import { World } from "./world.js";

const RUNTIMES = {
  wasm: ["ort.wasm.min.js", "ort-wasm-simd-threaded.js", "ort-wasm-simd-threaded.wasm.bin"],
  webgpu: [
    "ort.webgpu.min.js",
    "ort-wasm-simd-threaded.asyncify.js",
    "ort-wasm-simd-threaded.asyncify.wasm.bin",
  ],
};
const LOOKING = ["look", "draw"]; // graphs that need nothing but the view
const EXACT = ["events"]; // small, and what they draw is to be the same on every engine
const MOST_THREADS = 4;
const LONGEST_CHECK = 4000; // ms that a graphics processor is tried
const SLOW = 2; // times a frame's time; what is slower is no help
const ONE_CORE = 7e9; // multiply-adds a second, of a slow laptop; a fast one does twice as many
// A function of one SIMD instruction; what does not know these refuses the module.
const SIMD = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15,
  253, 98, 11,
);

let world = null;
let looker = null; // of an assistant
let queue = Promise.resolve();

self.onmessage = ({ data }) => {
  queue = queue.then(() => answer(data));
};

async function answer(asked) {
  try {
    const { transfer = [], ...found } = await KINDS[asked.kind](asked);
    self.postMessage({ kind: "done", id: asked.id, ...found }, transfer);
  } catch (error) {
    self.postMessage({ kind: "failed", id: asked.id, message: sentence(error) });
  }
}

const KINDS = { load, reset, step, assist, look, draw };

async function reset({ start, seed }) {
  const { pixels, state } = await world.reset(start, seed);
  return { pixels, state, transfer: [pixels.buffer] };
}

async function step({ buttons, mouse, wantsLatent }) {
  const { pixels, latent, state, times } = await world.next(buttons, mouse);
  return { pixels, latent: wantsLatent ? latent : null, state, times, transfer: [pixels.buffer] };
}

async function assist({ runtime, sent, weights, graphs }) {
  const ort = await startRuntime(runtime);
  const opened = await openGraphs(ort, "wasm", unpackWeights(sent, weights), graphs);
  looker = new Looker(ort.Tensor, opened);
  return {};
}

async function look({ view }) {
  return { found: plain(await looker.look(view)) };
}

async function draw() {
  const found = plain(await looker.draw());
  return { found, transfer: Object.values(found).map(({ data }) => data.buffer) };
}

/** Tensors as what can be sent. */
function plain(tensors) {
  return Object.fromEntries(
    Object.entries(tensors).map(([name, { data, dims }]) => [name, { data, dims }]),
  );
}

async function load({ base, blobs, engine, threads, worker, alone }) {
  if (typeof WebAssembly === "undefined" || !WebAssembly.validate(SIMD)) {
    throw new Error("This browser cannot play: it has no WebAssembly with SIMD.");
  }
  let total = 0;
  const tell = (loaded) => self.postMessage({ kind: "progress", loaded, total });
  const files = new Files(base, blobs, tell);
  const description = await readDescription(files);
  files.expect(description.files);
  self.postMessage({ kind: "world", description });
  const gpu = engine !== "wasm" && (await hasGpu(description.files, blobs, engine === "webgpu"));
  const chosen = gpu ? "webgpu" : "wasm";
  const helper = description.assisted && !alone && navigator.hardwareConcurrency > 1 ? worker : null;
  const count = threadCount(description, threads, helper);
  const names = [...description.graphs.map((name) => `${name}.onnx`), "weights.bin", "data.bin"];
  const paths = names.map((name) => `world/${name}`);
  const needed = [...paths, ...RUNTIMES[chosen].map((name) => `runtime/${name}`)];
  total = needed.reduce((sum, path) => sum + description.files[path].bytes, 0);
  const [runtime, ...read] = await Promise.all([
    readRuntime(files, chosen, count),
    ...paths.map((path) => files.read(path)),
  ]);
  const contents = Object.fromEntries(names.map((name, i) => [name, read[i]]));
  world = await openWorld(runtime, description, contents, gpu ? null : helper);
  const note = gpu && engine !== "webgpu" ? await unsuited(world) : "";
  if (note) {
    const other = await readRuntime(files, "wasm", count);
    world = await openWorld(other, description, contents, helper);
  }
  const used = note || !gpu ? "wasm" : "webgpu";
  const workers = world.looker instanceof Assistant ? 2 : 1;
  return { engine: used, threads: used === "wasm" ? count : 0, workers, note };
}

async function readDescription(files) {
  const content = await files.read("world/world.json");
  let description;
  try {
    description = JSON.parse(new TextDecoder().decode(content));
  } catch {
    throw new Error("world/world.json is damaged. Copy the page's folder again.");
  }
  if (description.format !== 5) {
    throw new Error("world/world.json belongs to another version of this page. Export it again.");
  }
  return description;
}

async function hasGpu(table, blobs, wanted) {
  if (blobs || !navigator.gpu || !(`runtime/${RUNTIMES.webgpu[0]}` in table)) return false;
  try {
    const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
    const software = adapter?.info?.isFallbackAdapter ?? adapter?.isFallbackAdapter;
    return Boolean(adapter) && (wanted || !software);
  } catch {
    return false;
  }
}

/**
 * As many threads as the world's rate needs, and a core less than there are: threads wait for each
 * other at every operation, so one that shares its core with somebody else holds up all. Two workers
 * share the work and wait for each other once a frame.
 */
function threadCount(description, wanted, helper) {
  if (!self.crossOriginIsolated) return 1;
  const { work, assisted, frames_per_second: rate } = description;
  const most = helper ? Math.max(assisted, work - assisted) : work;
  const needed = Math.ceil((most * rate) / ONE_CORE);
  const free = Math.max(1, (navigator.hardwareConcurrency || 1) - 1);
  return wanted || Math.min(needed, MOST_THREADS, free);
}

async function readRuntime(files, kind, threads) {
  const [main, glue, binary] = RUNTIMES[kind].map((name) => `runtime/${name}`);
  const addresses = { name: main, main: files.address(main), glue: files.address(glue) };
  return { kind, threads, ...addresses, binary: await files.read(binary) };
}

async function startRuntime({ name, main, glue, binary, threads }) {
  let ort;
  try {
    ort = await import(main);
  } catch {
    throw new Error(`${name} could not be loaded: it is missing on the server, or not JavaScript.`);
  }
  ort.env.wasm.proxy = false;
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = { mjs: glue };
  ort.env.wasm.wasmBinary = binary;
  ort.env.logLevel = "error";
  return ort;
}

async function openWorld(runtime, description, contents, helper) {
  const sent = contents["weights.bin"];
  const pick = (names) => Object.fromEntries(names.map((name) => [name, contents[`${name}.onnx`]]));
  const [looking, playing] = [true, false].map((looks) =>
    pick(description.graphs.filter((name) => LOOKING.includes(name) === looks)),
  );
  const asked = { runtime, sent, weights: description.weights, graphs: looking };
  const helped = helper ? Assistant.open(helper, asked) : null;
  const ort = await startRuntime(runtime);
  const weights = unpackWeights(sent, description.weights);
  const graphs = await openGraphs(ort, runtime.kind, weights, playing);
  let found = await helped;
  if (!found && description.assisted) {
    found = new Looker(ort.Tensor, await openGraphs(ort, runtime.kind, weights, looking));
  }
  graphs.Tensor = ort.Tensor;
  return new World(description, arraysOf(contents["data.bin"]), graphs, found);
}

/** Functions by name, which take and give tensors by name. */
async function openGraphs(ort, kind, weights, graphs) {
  const opened = {};
  for (const [name, graph] of Object.entries(graphs)) {
    const session = await ort.InferenceSession.create(graph, {
      executionProviders: [EXACT.includes(name) ? "wasm" : kind],
      externalData: [{ path: "weights.bin", data: weights }],
    });
    opened[name] = (given) => session.run(given);
  }
  return opened;
}

/** Why a graphics processor is not used; empty if its frames equal torch's and come in time. */
async function unsuited(played) {
  const { check, frames_per_second: rate } = played.description;
  const expected = played.arrays(check.latents);
  const size = played.latentSize;
  const began = performance.now();
  const times = [];
  await played.reset(0, 0);
  for (let frame = 0; frame * size < expected.length; frame++) {
    const { latent, times: spent } = await played.next([], [0, 0]);
    const isOff = (value, i) => !(Math.abs(value - expected[frame * size + i]) <= check.tolerance);
    if (latent.some(isOff)) return "The graphics processor computes other frames: it is not used.";
    times.push(spent.step + spent.decode);
    if (performance.now() - began > LONGEST_CHECK) break;
  }
  const isSlow = Math.min(...times) > SLOW * (1000 / rate);
  return isSlow ? "The graphics processor is too slow for this world: it is not used." : "";
}

function sentence(error) {
  const message = String(error?.message ?? error);
  if (/out of memory|allocation failed|RangeError|bad_alloc/i.test(`${error?.name} ${message}`)) {
    return "There is not enough memory for this world in this browser.";
  }
  return message;
}
