/**
 * Runs the network, one request at a time. A run blocks this thread until it ends, so a request is
 * cancelled by ending the worker.
 */
import { fillHidden } from "./hidden.js";
import { bytesOf } from "./loading.js";
import { pixelsOf, rgbOf, withRgb } from "./pixels.js";
import { pngOf } from "./png.js";

/** Side of the piece of the sample that is timed. */
const TIMED = 128;
const MULTIPLE_OF = 64;

let site = null;
let ort = null;
let session = null;
let msPerPixel = 0;

const HANDLERS = { open, restore, sample };

self.onmessage = async ({ data }) => {
  try {
    self.postMessage({ result: await HANDLERS[data.kind](data) });
  } catch (error) {
    const key = error.name === "PictureError" ? "refused" : "failed";
    self.postMessage({ [key]: error.message || String(error) });
  }
};

function tell(step, facts = {}) {
  self.postMessage({ step, ...facts });
}

async function open({ site: asked, backend }) {
  site = asked;
  const files = site.runtime[backend];
  const urls = [site.graph, files.binary];
  const [graph, binary] = await bytesOf(urls, (done, total) => tell("loading", { done, total }));
  ort = await import(new URL(files.module.file, import.meta.url).href);
  ort.env.wasm.wasmPaths = new URL("runtime/", import.meta.url).href;
  ort.env.wasm.wasmBinary = binary;
  ort.env.wasm.numThreads = threads();
  tell("starting");
  session = await ort.InferenceSession.create(new Uint8Array(graph), options(backend));
  const piece = rgbOf(await samplePixels(TIMED));
  await run(piece); // the first run prepares buffers and, with WebGPU, compiles shaders
  const { ms } = await run(piece);
  msPerPixel = ms / paddedPixels(piece);
  return { threads: ort.env.wasm.numThreads, isolated: self.crossOriginIsolated, msPerPixel };
}

/** Threads share memory, which browsers allow only to pages that are isolated from others. */
function threads() {
  return self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
}

/**
 * ONNX Runtime plans which tensors reuse each other's buffers, and chains them so that they stay
 * allocated. The parallel mode, which has no second thread here, does without that plan: the same
 * result from less than half of the memory. WebGPU has only the sequential mode.
 */
function options(backend) {
  const executionMode = backend === "wasm" ? "parallel" : "sequential";
  return { executionProviders: [backend], executionMode, enableMemPattern: false };
}

async function restore({ file }) {
  tell("reading");
  const pixels = await pixelsOf(file, (width, height) => checkSize(width, height));
  const picture = rgbOf(pixels);
  fillHidden(picture, pixels.data);
  const { width, height } = picture;
  tell("restoring", { width, height, expectedMs: msPerPixel * paddedPixels(picture) });
  const { rgb, ms } = await run(picture);
  msPerPixel = ms / paddedPixels(picture);
  tell("writing");
  return { png: await pngOf(withRgb(pixels, rgb)), width, height, ms };
}

async function sample() {
  const picture = rgbOf(await samplePixels());
  const { width, height } = picture;
  tell("restoring", { width, height, expectedMs: msPerPixel * paddedPixels(picture) });
  return (await run(picture)).rgb;
}

async function samplePixels(most = Infinity) {
  const response = await fetch(new URL(site.sample, import.meta.url));
  return pixelsOf(await response.blob(), () => {}, most);
}

/** From RGB of 8 bits to the same, and the time that it took. */
async function run({ rgb, width, height }) {
  const image = new ort.Tensor("uint8", rgb, [1, height, width, 3]);
  const start = performance.now();
  const { restored } = await session.run({ image });
  const ms = performance.now() - start;
  return { rgb: await restored.getData(), ms };
}

function paddedPixels({ width, height }) {
  const [rows, columns] = [height, width].map((n) => Math.ceil(n / MULTIPLE_OF) * MULTIPLE_OF);
  return rows * columns;
}

/** Refuse a picture for which the 4 GiB that WebAssembly can address do not suffice. */
function checkSize(width, height) {
  if (paddedPixels({ width, height }) <= site.most_pixels) return;
  const megapixels = (n) => (n / 1e6).toFixed(1);
  const error = new Error(
    `is too large: ${width} x ${height} (${megapixels(width * height)} megapixels). ` +
      `This page restores up to ${megapixels(site.most_pixels)} megapixels. ` +
      "Choose a smaller picture, or use maxim-run.",
  );
  error.name = "PictureError";
  throw error;
}
