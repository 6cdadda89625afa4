/** The page: what the user chooses, what it says meanwhile, and what comes out. */
import { Engine, Refused, Stopped } from "./engine.js";
import { Clock, say, seconds, showFacts, showModel } from "./telling.js";
import { showResult, startSlider } from "./result.js";

const $ = (id) => document.getElementById(id);
const CONTROLS = ["file", "camera", "sample", "webgpu"].map($);
const NAMES = { wasm: "WebAssembly", webgpu: "WebGPU" };

const clock = new Clock($("progress"), $("clock"));
let site = null;
let engine = null;
let candidate = null;
let busy = false;

start().catch((error) => say(`The page could not start: ${error.message}`, "bad"));

async function start() {
  const response = await fetch(new URL("site.json", import.meta.url));
  if (!response.ok) throw new Error(`site.json | HTTP ${response.status}`);
  site = await response.json();
  showModel(site);
  engine = new Engine(site, "wasm");
  listen();
  await work(() => ready(engine));
}

function listen() {
  startSlider();
  for (const input of [$("file"), $("camera")]) {
    input.addEventListener("change", () => {
      if (input.files.length) restore(input.files[0]);
      input.value = ""; // the same file may be chosen again
    });
  }
  $("sample").addEventListener("click", () => work(restoreSample));
  $("cancel").addEventListener("click", cancel);
  $("webgpu").addEventListener("change", () => work(changeBackend) ?? switchBack());
  if (!navigator.gpu) refuseWebgpu();
  document.addEventListener("paste", ({ clipboardData }) => restore(clipboardData.files[0]));
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault(); // or the browser would leave the page for the file
      const over = kind === "dragenter" || kind === "dragover";
      document.body.classList.toggle("dropping", over);
      if (kind === "drop") restore(event.dataTransfer.files[0]);
    });
  }
}

function refuseWebgpu() {
  $("webgpu").disabled = true;
  $("webgpu-note").textContent =
    "WebGPU is not available: this browser lacks it, or the page came neither from https nor from localhost.";
}

/** Do one thing at a time, and say how it failed if it did; null if something is being done. */
function work(task) {
  if (busy) {
    say("Still working. Wait, or cancel first.");
    return null;
  }
  return working(task);
}

async function working(task) {
  show(true);
  try {
    await task();
  } catch (error) {
    recover(error);
  } finally {
    clock.stop();
    show(false);
  }
}

function show(now) {
  busy = now;
  $("working").hidden = !now;
  // Not `disabled`: the control that was pressed would lose the keyboard's focus.
  for (const control of CONTROLS) control.setAttribute("aria-disabled", now);
}

function restore(file) {
  if (!file) return; // text was pasted or dropped
  work(() => restoreNamed(file, file.name || "picture"));
}

async function restoreSample() {
  const response = await fetch(new URL(site.sample, import.meta.url));
  await restoreNamed(await response.blob(), site.sample);
}

async function restoreNamed(file, name) {
  try {
    const result = await engine.restore(file, (step) => tell(step, name));
    await showResult(file, name, result);
    say(`Done: ${name}, ${result.width} x ${result.height}, in ${seconds(result.ms)}.`);
  } catch (error) {
    throw error instanceof Refused ? new Refused(`${name} ${error.message}`) : error;
  }
}

async function ready(one) {
  const opened = await one.open((step) => tell(step));
  showFacts(site, NAMES[one.backend], opened);
  say("Ready. Choose a picture.");
}

/** Each step once for screen readers; the seconds go into the clock, which they do not read. */
function tell({ step, done, total, width, height, expectedMs }, name) {
  if (step === "loading") {
    say("Loading the network");
    clock.share(done / total, `${megabytes(done)} of ${megabytes(total)} MB`);
  } else if (step === "starting") {
    say("Starting the network, and timing it on the sample");
    clock.start();
  } else if (step === "reading") {
    say(`Reading ${name}`);
  } else if (step === "restoring") {
    say(`Restoring ${name}, ${width} x ${height}`);
    clock.start(expectedMs);
  } else {
    say(`Writing the result of ${name}`);
    clock.start();
  }
}

const megabytes = (bytes) => (bytes / 1e6).toFixed(1);

function cancel() {
  candidate?.stop();
  engine.stop();
}

function recover(error) {
  if (error instanceof Refused) {
    say(error.message, "bad");
    return;
  }
  // After a failure the runtime's memory may be in any state.
  engine.stop();
  const why =
    error instanceof Stopped
      ? "Cancelled. Choose a picture to start again."
      : `Failed: ${error.message}. If this device is short of memory, choose a smaller picture.`;
  say(why, error instanceof Stopped ? "" : "bad");
}

async function changeBackend() {
  const asked = $("webgpu").checked ? "webgpu" : "wasm";
  const next = new Engine(site, asked);
  try {
    if (asked === "webgpu") await compareOnSample(next);
    engine.stop();
    engine = next;
    await ready(engine);
  } catch (error) {
    switchBack();
    throw error;
  }
}

/** Let the switch show what is in use. */
function switchBack() {
  $("webgpu").checked = engine.backend === "webgpu";
}

/** Refuse WebGPU unless it restores the sample as WebAssembly does, to within one level. */
async function compareOnSample(next) {
  candidate = next;
  try {
    const note = (backend) => (step) => tell(step, `the sample with ${NAMES[backend]}`);
    const expected = await engine.restoreSample(note("wasm"));
    const found = await next.restoreSample(note("webgpu"));
    let levels = 0;
    expected.forEach((value, k) => (levels = Math.max(levels, Math.abs(value - found[k]))));
    const seen = `WebGPU differs from WebAssembly by up to ${levels} of 255 levels on the sample`;
    $("webgpu-note").textContent = `${seen}.`;
    if (levels > 1) throw new Refused(`${seen}; at most 1 is allowed. WebAssembly stays in use.`);
  } catch (error) {
    next.stop();
    if (error instanceof Refused || error instanceof Stopped) throw error;
    throw new Refused(`WebGPU failed on the sample: ${error.message}. WebAssembly stays in use.`);
  } finally {
    candidate = null;
  }
}
