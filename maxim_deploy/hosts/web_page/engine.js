/** The worker that runs the network, seen from the page. */

/** The request was given up because the worker was stopped. */
export class Stopped extends Error {}

/** A picture that cannot be restored; the message says why, and what to do. */
export class Refused extends Error {}

export class Engine {
  #worker = null;
  #reject = null;
  #opened = null;

  /**
   * @param {object} site what `site.json` holds
   * @param {"wasm" | "webgpu"} backend
   */
  constructor(site, backend) {
    this.site = site;
    this.backend = backend;
  }

  /**
   * Load the runtime and the network, and time them; once, until the worker is stopped.
   *
   * @param {(step: object) => void} tell told of each step
   * @returns {Promise<{threads: number, isolated: boolean, msPerPixel: number}>}
   */
  open(tell) {
    this.#opened ??= this.#ask({ kind: "open", site: this.site, backend: this.backend }, tell);
    return this.#opened;
  }

  /**
   * Restore one picture.
   *
   * @param {Blob} file of any format that the browser reads
   * @returns {Promise<{png: Blob, width: number, height: number, ms: number}>}
   */
  async restore(file, tell) {
    await this.open(tell);
    return this.#ask({ kind: "restore", file }, tell);
  }

  /** Restore the sample; resolves to its values, RGB of 8 bits. */
  async restoreSample(tell) {
    await this.open(tell);
    return this.#ask({ kind: "sample" }, tell);
  }

  /** End the worker and what it is doing. The next request starts a new one. */
  stop() {
    this.#worker?.terminate();
    this.#worker = this.#opened = null;
    this.#reject?.(new Stopped("stopped"));
    this.#reject = null;
  }

  #ask(request, tell) {
    this.#worker ??= startWorker();
    return new Promise((resolve, reject) => {
      this.#reject = reject;
      this.#worker.onerror = (event) => reject(new Error(event.message || "the worker failed"));
      this.#worker.onmessage = ({ data }) => {
        if (data.step) tell(data);
        else if (data.refused) reject(new Refused(data.refused));
        else if (data.failed) reject(new Error(data.failed));
        else resolve(data.result);
      };
      this.#worker.postMessage(request);
    });
  }
}

/**
 * Start a worker that the page's Content-Security-Policy binds: one that starts from a blob inherits
 * the policy. One that starts from a file has none, and code in it that holds the picture could
 * reach other servers.
 */
export function startWorker(file = "worker.js") {
  const address = JSON.stringify(new URL(file, import.meta.url).href);
  const url = URL.createObjectURL(new Blob([`import ${address};`], { type: "text/javascript" }));
  return new Worker(url, { type: "module" });
}
