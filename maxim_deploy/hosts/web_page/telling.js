/** What the page says: the status, the time, and how it runs. */

const status = document.getElementById("status");

/** Say what is being done. Screen readers read each new text. */
export function say(text, kind = "") {
  if (status.textContent !== text) status.textContent = text;
  status.className = kind;
}

export const seconds = (ms) => (ms < 9950 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 1000)} s`);

/** A bar and a line of text for what takes a while. */
export class Clock {
  #timer = null;

  constructor(bar, text) {
    this.bar = bar;
    this.text = text;
  }

  /** Show a share of 0 to 1 that is known. */
  share(value, text) {
    this.stop();
    this.bar.value = value;
    this.text.textContent = text;
  }

  /** Show the time from now on, and how far that is if an end is expected. */
  start(expectedMs = 0) {
    this.stop();
    const begin = performance.now();
    const show = () => {
      const ms = performance.now() - begin;
      const late = ms >= expectedMs;
      // A bar without a value moves to and fro.
      if (late) this.bar.removeAttribute("value");
      else this.bar.value = ms / expectedMs;
      const about = expectedMs ? ` of about ${seconds(expectedMs)}${late ? ", taking longer" : ""}` : "";
      this.text.textContent = `${seconds(ms)}${about}`;
    };
    show();
    this.#timer = setInterval(show, 200);
  }

  stop() {
    clearInterval(this.#timer);
  }
}

/** Name the network, as soon as the page knows it. */
export function showModel({ model }) {
  const task = model.task ? `, ${model.task}` : "";
  document.getElementById("model").textContent = `MAXIM ${model.name}${task}`;
  document.title = `Restore a picture: ${model.name}`;
}

/** How the network runs here. */
export function showFacts({ model, runtime, most_pixels: most }, backend, opened) {
  const alone = opened.isolated ? "" : " (the server sends no isolation headers)";
  const facts = {
    Network: [model.name, model.architecture, model.dataset].filter(Boolean).join(", "),
    Licence: model.licence ?? "see the README",
    Backend: `${backend}, onnxruntime-web ${runtime.version}, float32`,
    Threads: `${opened.threads}${opened.threads === 1 ? alone : ""}`,
    "Largest picture": `${(most / 1e6).toFixed(1)} megapixels`,
    Speed: `about ${seconds(opened.msPerPixel * 1e6)} per megapixel, measured on the sample`,
  };
  const rows = Object.entries(facts).flatMap(([name, value]) => [element("dt", name), element("dd", value)]);
  document.getElementById("facts").replaceChildren(...rows);
}

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text; // a model's name is not markup
  return made;
}
