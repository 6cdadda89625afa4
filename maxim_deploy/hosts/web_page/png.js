/**
 * PNG files of 8 bits per channel. A canvas could write them too, but keeps colours multiplied by
 * alpha, and some browsers change what is read from it: this writes the network's values as they
 * are.
 */
const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const RGB = 2;
const RGBA = 6;
const PAETH = 4;

/**
 * @param {{data: Uint8Array, width: number, height: number}} pixels RGBA, not premultiplied
 * @returns {Promise<Blob>} without an alpha channel where all is opaque
 */
export async function pngOf({ data, width, height }) {
  const channels = data.every((value, k) => k % 4 !== 3 || value === 255) ? 3 : 4;
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, channels === 3 ? RGB : RGBA, 0, 0, 0], 8);
  const rows = await deflated(filtered(data, width, height, channels));
  return new Blob(
    [
      new Uint8Array(SIGNATURE),
      chunk("IHDR", header),
      chunk("sRGB", new Uint8Array([0])),
      chunk("IDAT", rows),
      chunk("IEND", new Uint8Array(0)),
    ],
    { type: "image/png" },
  );
}

/** Each row as differences from what Paeth's filter foresees: what photographs compress best by. */
function filtered(data, width, height, channels) {
  const stride = width * channels + 1;
  const out = new Uint8Array(height * stride);
  const at = (x, y, c) => (x < 0 || y < 0 ? 0 : data[(y * width + x) * 4 + c]);
  for (let y = 0, to = 0; y < height; y++) {
    out[to++] = PAETH;
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < channels; c++) {
        out[to++] = at(x, y, c) - foreseen(at(x - 1, y, c), at(x, y - 1, c), at(x - 1, y - 1, c));
      }
    }
  }
  return out;
}

function foreseen(left, above, corner) {
  const byLeft = Math.abs(above - corner);
  const byAbove = Math.abs(left - corner);
  const byCorner = Math.abs(left + above - 2 * corner);
  if (byLeft <= byAbove && byLeft <= byCorner) return left;
  return byAbove <= byCorner ? above : corner;
}

async function deflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function chunk(name, content) {
  const bytes = new Uint8Array(12 + content.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, content.length);
  bytes.set(new TextEncoder().encode(name), 4);
  bytes.set(content, 8);
  view.setUint32(8 + content.length, crc(bytes.subarray(4, 8 + content.length)));
  return bytes;
}

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let rest = byte;
  for (let bit = 0; bit < 8; bit++) rest = rest & 1 ? 0xedb88320 ^ (rest >>> 1) : rest >>> 1;
  return rest;
});

function crc(bytes) {
  let rest = 0xffffffff;
  for (const byte of bytes) rest = CRC[(rest ^ byte) & 255] ^ (rest >>> 8);
  return (rest ^ 0xffffffff) >>> 0;
}
