// The slice browser: a slice of the micrograph, what was found on it, and what people painted or know to be true.

import { barLength, content, lengthInWords, make, pixelsOf, textOf } from "./content.js";
import { change, choose, colourOf, listen, state } from "./state.js";

const TRUTH = [240, 228, 66];
const KINDS = { found: "found", truth: "truth", painted: "painted" };
const LARGEST = 800;

const [width, height] = content?.size ?? [0, 0];
const decoded = new Map();

/** Picture of a sheet; loaded once. */
function pictureOf(sheet) {
  const image = new Image();
  image.src = `data:image/webp;base64,${textOf(`slice-${content.slices[sheet].z}`)}`;
  return image;
}

function overlaysOf(sheet) {
  if (decoded.has(sheet)) return decoded.get(sheet);
  const found = [];
  for (const kind of Object.keys(KINDS)) {
    for (const [name, overlay] of Object.entries(content.slices[sheet].overlays[kind] ?? {})) {
      let pixels = null;
      found.push({ kind, name, values: overlay.values, get pixels() {
        return (pixels ??= pixelsOf(overlay, width * height));
      } });
    }
  }
  if (decoded.size > 12) decoded.delete(decoded.keys().next().value);
  decoded.set(sheet, found);
  return found;
}

export function startSlices(holder, controls, shownPicture) {
  const image = make("img", { alt: "" });
  const canvas = make("canvas", { "aria-hidden": "true" });
  const times = Math.max(1, Math.min(6, Math.round(LARGEST / Math.max(width, height))));
  canvas.width = width * times;
  canvas.height = height * times;
  holder.style.aspectRatio = `${width} / ${height}`;
  const bar = make("div", { class: "scale-bar" }, make("span"), make("i"));
  holder.replaceChildren(image, canvas, bar);
  const show = { found: true, truth: false, painted: false };
  const wide = content.bounds.high[0] - content.bounds.low[0];
  const length = barLength(wide);
  bar.firstChild.textContent = lengthInWords(length);
  bar.lastChild.style.width = "100%";
  bar.style.width = `${(100 * length) / wide}%`;

  const slider = make("input", {
    type: "range", min: 0, max: content.slices.length - 1, step: 1, value: 0, id: "slice-number",
    oninput: () => change("sheet", { sheet: Number(slider.value) }),
  });
  const words = make("output", { for: "slice-number" });
  const strength = make("input", {
    type: "range", min: 0, max: 100, value: 40, "aria-label": "How strongly objects are filled on slices",
    oninput: () => draw(),
  });
  const boxes = Object.entries({ found: content.isTruth ? "Labels (filled)" : "Found (filled)",
    truth: "Truth (yellow line)", painted: "Painted by hand (dotted line)" })
    .filter(([kind]) => content.slices.some((one) => Object.keys(one.overlays[kind] ?? {}).length))
    .map(([kind, text]) => {
      const box = make("input", { type: "checkbox", onchange: () => {
        show[kind] = box.checked;
        draw();
      } });
      box.checked = show[kind];
      box.dataset.kind = kind;
      return make("label", {}, box, ` ${text}`);
    });
  const step = (by) => {
    const sheet = Math.min(content.slices.length - 1, Math.max(0, state.sheet + by));
    if (sheet !== state.sheet) change("sheet", { sheet });
  };
  controls.replaceChildren(
    make("div", { class: "row" }, make("label", { for: "slice-number" }, "Slice"),
      make("button", { type: "button", "aria-label": "Previous slice", onclick: () => step(-1) }, "◀"), slider,
      make("button", { type: "button", "aria-label": "Next slice", onclick: () => step(1) }, "▶"), words),
    make("div", { class: "row" }, ...boxes,
      ...(boxes.length ? [make("label", {}, "Fill ", strength)] : [])),
  );

  holder.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageUp: 10, PageDown: -10 }[event.key];
    if (event.key === "Home") step(-content.slices.length);
    else if (event.key === "End") step(content.slices.length);
    else if (by) step(by);
    else return;
    event.preventDefault();
  });
  holder.addEventListener("click", (event) => {
    const frame = holder.getBoundingClientRect();
    const x = Math.floor(((event.clientX - frame.left) / frame.width) * width);
    const y = Math.floor(((event.clientY - frame.top) / frame.height) * height);
    const found = objectAt(x, y);
    if (found) choose(found.name, found.id);
  });

  // The smallest object at that place: what is inside is meant before what it lies in.
  function objectAt(x, y) {
    let best = null;
    for (const one of overlaysOf(state.sheet)) {
      const layer = content.layers.find((other) => other.name === one.name);
      if (one.kind !== "found" || !layer?.hasIds || !state.shown[one.name]) continue;
      const place = one.pixels[y * width + x];
      const id = one.values[place];
      if (!id) continue;
      let area = 0;
      for (const other of one.pixels) area += other === place;
      if (best === null || area < best.area) best = { name: one.name, id, area };
    }
    return best;
  }

  function draw() {
    const pen = canvas.getContext("2d");
    const picture = pen.createImageData(canvas.width, canvas.height);
    const fill = Number(strength.value) / 100;
    for (const one of overlaysOf(state.sheet)) {
      if (!show[one.kind] || state.shown[one.name] === false) continue;
      const layer = content.layers.find((other) => other.name === one.name);
      if (one.kind === "found" && layer) paint(picture.data, one, times, layer, fill);
      else outline(picture.data, one, times, one.kind === "truth" ? TRUTH : [255, 255, 255], one.kind === "painted");
    }
    mark(picture.data);
    pen.putImageData(picture, 0, 0);
  }

  function mark(target) {
    const { chosen } = state;
    const one = chosen && overlaysOf(state.sheet).find((other) => other.kind === "found" && other.name === chosen.name);
    const place = one ? one.values.findIndex((id) => id && String(id) === String(chosen.id)) : -1;
    if (place < 0) return;
    const only = { pixels: one.pixels.map((other) => Number(other === place)), values: [0, 1] };
    outline(target, only, times, [0, 0, 0], false, 3);
    outline(target, only, times, TRUTH, false, 2);
  }

  function update() {
    const { z } = content.slices[state.sheet];
    slider.value = String(state.sheet);
    const place = content.origin[0] + z * content.voxel[0];
    words.textContent = `${z} of 0–${content.depth - 1}, at ${lengthInWords(place)}`;
    slider.setAttribute("aria-valuetext", words.textContent);
    const next = pictureOf(state.sheet);
    const sheet = state.sheet;
    const ready = () => {
      if (sheet !== state.sheet) return;
      image.src = next.src;
      image.alt = `Slice ${z} of the micrograph`;
      draw();
      holder.dataset.z = String(z);
      shownPicture(next, place);
    };
    if (!textOf(`slice-${z}`)) {
      image.remove();
      holder.dataset.z = String(z);
      draw();
    } else if (next.complete && next.naturalWidth) ready();
    else next.addEventListener("load", ready);
  }

  let last = -1;
  listen((what) => {
    if (state.sheet !== last) {
      last = state.sheet;
      update();
    } else if (what !== "sheet") draw();
  });
  last = state.sheet;
  update();
}

function paint(target, one, times, layer, fill) {
  const colours = one.values.map((id) => (id ? rgb(colourOf(layer, id)) : null));
  each(one, times, (at, place, edge) => {
    if (colours[place]) over(target, at, colours[place], edge ? 0.95 : fill);
  });
}

function outline(target, one, times, colour, dotted, thickness = 1) {
  const row = width * times;
  each(one, times, (at, place, edge) => {
    if (!one.values[place] || !edge) return;
    const [x, y] = [at % row, Math.floor(at / row)];
    if (dotted && (x + y) % 8 > 3) return;
    over(target, at, colour, 1);
  }, thickness);
}

/** Visit all pixels of the canvas that hold something, with what it is and whether it ends near. */
function each(one, times, visit, thickness = 1) {
  const { pixels, values } = one;
  const [w, h] = [width * times, height * times];
  const reach = Math.max(1, Math.round((thickness * Math.max(w, h)) / 700));
  const column = new Uint32Array(w);
  for (let x = 0; x < w; x++) column[x] = Math.floor(x / times);
  const row = (y) => Math.floor(y / times) * width;
  for (let y = 0; y < h; y++) {
    const here = row(y);
    const above = y >= reach ? row(y - reach) : here;
    const below = y + reach < h ? row(y + reach) : here;
    for (let x = 0; x < w; x++) {
      const at = column[x];
      const place = pixels[here + at];
      if (!values[place]) continue;
      const edge = pixels[above + at] !== place || pixels[below + at] !== place ||
        (x >= reach && pixels[here + column[x - reach]] !== place) ||
        (x + reach < w && pixels[here + column[x + reach]] !== place);
      visit(y * w + x, place, edge);
    }
  }
}

function over(target, at, [red, green, blue], alpha) {
  const i = 4 * at;
  const below = target[i + 3] / 255;
  const total = alpha + below * (1 - alpha);
  if (total === 0) return;
  const mix = (a, b) => (a * alpha + b * below * (1 - alpha)) / total;
  target[i] = mix(red, target[i]);
  target[i + 1] = mix(green, target[i + 1]);
  target[i + 2] = mix(blue, target[i + 2]);
  target[i + 3] = 255 * total;
}

function rgb(colour) {
  const value = parseInt(colour.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

/** A piece of the slice that shows an object best, with its outline; false where no slice of the page shows it. */
export function drawCrop(canvas, row, table) {
  const box = table.box[row];
  const sheet = table.sheet[row];
  if (!box || sheet < 0) return false;
  const [x0, y0, x1, y1] = box;
  const side = Math.max(24, 1.6 * Math.max(x1 - x0, y1 - y0));
  const [left, top] = [(x0 + x1 - side) / 2, (y0 + y1 - side) / 2];
  const pen = canvas.getContext("2d");
  const scale = canvas.width / side;
  const outlineIt = () => {
    const one = overlaysOf(sheet).find((other) => other.kind === "found" && other.name === table.class[row]);
    const place = one.values.findIndex((id) => id && String(id) === String(table.id[row]));
    const inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && one.pixels[y * width + x] === place;
    for (const [colour, thick] of [["#000", 5], ["#F0E442", 2.5]]) {
      pen.strokeStyle = colour;
      pen.lineWidth = thick;
      pen.beginPath();
      for (let y = y0; y < y1; y++) {
        for (let x = x0; x < x1; x++) {
          if (!inside(x, y)) continue;
          const [a, b, c, d] = [(x - left) * scale, (y - top) * scale, (x + 1 - left) * scale, (y + 1 - top) * scale];
          const line = (p, q, r, s) => {
            pen.moveTo(p, q);
            pen.lineTo(r, s);
          };
          if (!inside(x - 1, y)) line(a, b, a, d);
          if (!inside(x + 1, y)) line(c, b, c, d);
          if (!inside(x, y - 1)) line(a, b, c, b);
          if (!inside(x, y + 1)) line(a, d, c, d);
        }
      }
      pen.stroke();
    }
  };
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  if (!textOf(`slice-${content.slices[sheet].z}`)) {
    outlineIt();
    return true;
  }
  const image = pictureOf(sheet);
  const drawIt = () => {
    pen.drawImage(image, -left * scale, -top * scale, width * scale, height * scale);
    outlineIt();
  };
  if (image.complete && image.naturalWidth) drawIt();
  else image.addEventListener("load", drawIt);
  return true;
}
