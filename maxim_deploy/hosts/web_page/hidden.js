/**
 * Invisible pixels. Programs leave anything below full transparency, most often black, and
 * the network would mix it into what is seen. It gets mirror images of the visible pixels instead,
 * as in `maxim-run`.
 */
const FAR = 2 ** 30;

/**
 * @param {{rgb: Uint8Array, width: number, height: number}} picture its `rgb` is written to
 * @param {Uint8ClampedArray} rgba the same with alpha, 0 where a pixel is hidden
 */
export function fillHidden({ rgb, width, height }, rgba) {
  const visible = Uint8Array.from({ length: width * height }, (_, k) => (rgba[4 * k + 3] ? 1 : 0));
  if (!visible.includes(1)) return;
  // The first pass fills each row and column that has a visible pixel; the second finds one in all.
  while (visible.includes(0)) {
    const source = mirrored(visible, width, height);
    for (let k = 0; k < visible.length; k++) {
      if (visible[k] || source[k] < 0) continue;
      for (let c = 0; c < 3; c++) rgb[3 * k + c] = rgb[3 * source[k] + c];
    }
    source.forEach((from, k) => (visible[k] ||= from >= 0));
  }
}

/** For each hidden pixel the visible one that it shows, of its row or its column, or -1. */
function mirrored(visible, width, height) {
  const distance = new Int32Array(visible.length).fill(FAR);
  const source = new Int32Array(visible.length).fill(-1);
  const look = (start, step, count) => {
    let end = -1; // the visible pixel that was seen last,
    let run = 0; // and how many in a row end there
    for (let k = 0, at = start; k < count; k++, at += step) {
      if (visible[at]) {
        run = k && visible[at - step] ? run + 1 : 1;
        end = k;
      } else if (run && k - end < distance[at]) {
        distance[at] = k - end;
        // Beyond the run's length its image runs to and fro.
        const away = (k - end - 1) % (2 * run);
        source[at] = start + step * (end - Math.min(away, 2 * run - 1 - away));
      }
    }
  };
  for (let y = 0; y < height; y++) {
    look(y * width, 1, width);
    look((y + 1) * width - 1, -1, width);
  }
  for (let x = 0; x < width; x++) {
    look(x, width, height);
    look((height - 1) * width + x, -width, height);
  }
  return source;
}
