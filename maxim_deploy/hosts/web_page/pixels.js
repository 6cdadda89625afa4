/** From a picture's file to pixels. All are of 8 bits, in sRGB, rows from the top. */

/**
 * Decode a picture, turned as its EXIF orientation says.
 *
 * @param {Blob} file
 * @param {(width: number, height: number) => void} check throws for a size that is refused
 * @param {number} most rows and columns to keep, from the middle
 * @returns {Promise<ImageData>} RGBA, not premultiplied
 */
export async function pixelsOf(file, check, most = Infinity) {
  const bitmap = await decoded(file);
  try {
    check(bitmap.width, bitmap.height);
    return read(bitmap, Math.min(bitmap.width, most), Math.min(bitmap.height, most));
  } finally {
    bitmap.close();
  }
}

async function decoded(file) {
  try {
    return await createImageBitmap(file, {
      imageOrientation: "from-image",
      premultiplyAlpha: "none",
      colorSpaceConversion: "default", // to sRGB: the result has no colour profile
    });
  } catch {
    const error = new Error(
      "is no picture that this browser can read, or is damaged. " +
        "Choose a JPEG, PNG, WebP, AVIF or GIF file.",
    );
    error.name = "PictureError";
    throw error;
  }
}

function read(bitmap, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  // In main memory: what a GPU draws is not the same on every machine.
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const [left, top] = [(bitmap.width - width) >> 1, (bitmap.height - height) >> 1];
  context.drawImage(bitmap, -left, -top);
  return context.getImageData(0, 0, width, height);
}

/** The network's input: RGB without alpha, `height * width * 3` values. */
export function rgbOf({ data, width, height }) {
  const rgb = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < data.length; from += 4) {
    rgb[to++] = data[from];
    rgb[to++] = data[from + 1];
    rgb[to++] = data[from + 2];
  }
  return { rgb, width, height };
}

/** Pixels with the colours of `rgb` and the alpha that they had; a hidden one keeps its colour. */
export function withRgb({ data, width, height }, rgb) {
  const rgba = new Uint8Array(data);
  for (let to = 0, from = 0; to < rgba.length; to += 4, from += 3) {
    if (rgba[to + 3] !== 0) rgba.set(rgb.subarray(from, from + 3), to);
  }
  return { data: rgba, width, height };
}
