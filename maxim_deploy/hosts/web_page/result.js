/** The result: before and after under a slider, and the file to save. */

const $ = (id) => document.getElementById(id);

/** Of the pictures shown; a URL keeps its picture in memory until it is revoked. */
let urls = [];

/**
 * @param {Blob} file the picture that was chosen
 * @param {string} name its name
 * @param {{png: Blob, width: number, height: number, ms: number}} result
 */
export async function showResult(file, name, { png, width, height }) {
  urls.forEach(URL.revokeObjectURL);
  urls = [file, png].map((blob) => URL.createObjectURL(blob));
  [$("before").src, $("after").src] = urls;
  $("save").href = urls[1];
  $("save").download = `${name.replace(/\.[^.]*$/, "")}.restored.png`;
  $("caption").textContent = `${name}, ${width} x ${height}. Drag, or use the arrow keys.`;
  $("result").hidden = false;
  await Promise.all([$("before").decode(), $("after").decode()]);
  $("result").scrollIntoView({ block: "nearest" });
}

export function startSlider() {
  const input = $("split");
  const show = () => {
    input.parentElement.style.setProperty("--split", `${input.value}%`);
    input.setAttribute("aria-valuetext", `${input.value} % before`);
  };
  input.addEventListener("input", show);
  show();
}
