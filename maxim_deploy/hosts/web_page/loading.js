/** Files of this site, with progress. */

/**
 * @param {{file: string, bytes: number}[]} files as `site.json` lists them
 * @param {(done: number, total: number) => void} tell told of bytes that have arrived
 * @returns {Promise<ArrayBuffer[]>}
 */
export async function bytesOf(files, tell) {
  const total = files.reduce((sum, { bytes }) => sum + bytes, 0);
  let done = 0;
  const advance = (count) => tell((done += count), total);
  return Promise.all(files.map((file) => fetched(file, advance)));
}

async function fetched({ file, bytes }, advance) {
  const response = await fetch(new URL(file, import.meta.url));
  if (!response.ok) throw new Error(`${file} | HTTP ${response.status} | expected ${bytes} bytes`);
  const content = new Uint8Array(bytes);
  let filled = 0;
  // A stream, not `arrayBuffer`: that would say nothing until all is here.
  for (let reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    if (filled + value.length <= bytes) content.set(value, filled);
    filled += value.length;
    advance(value.length);
  }
  if (filled !== bytes) throw new Error(`${file} | has ${filled} bytes | expected ${bytes}`);
  return content.buffer;
}
