// Puts the parts of the page together. Whatever fails here leaves the rest of the page as it was.

import { content, make } from "./content.js";
import { startPanel, startTable } from "./objects.js";
import { startScene } from "./scene.js";
import { startSlices } from "./slices.js";
import { change, choose, rowOf, state } from "./state.js";

const by = (id) => document.getElementById(id);

function startLayers(holder) {
  const lines = content.layers.map((layer) => {
    const shown = make("input", { type: "checkbox", "data-layer": layer.name, onchange: () =>
      change("look", { shown: { ...state.shown, [layer.name]: shown.checked } }) });
    shown.checked = true;
    const opacity = make("input", { type: "range", min: 0, max: 100, value: Math.round(100 * layer.opacity),
      "aria-label": `Opacity of ${layer.name} in 3D`, oninput: () =>
        change("look", { opacity: { ...state.opacity, [layer.name]: Number(opacity.value) / 100 } }) });
    const n = Number(holder.querySelector(`[data-class="${CSS.escape(layer.name)}"]`)?.dataset.n ?? 0);
    const swatch = make("span", { class: "swatch" });
    swatch.style.setProperty("--colour", layer.colour);
    const name = make("label", {}, shown, swatch, layer.name, n ? make("span", { class: "soft" }, ` ${n.toLocaleString("en")}`) : "");
    return make("li", {}, name, opacity);
  });
  holder.replaceChildren(...lines);
}

function startSceneTools(holder, scene) {
  const { azimuth, elevation } = content.view;
  const button = (text, onclick) => make("button", { type: "button", onclick }, text);
  const withParents = content.table.parents.parent_cell_id;
  const colours = make("select", { id: "colour-by", onchange: () => change("look", { colourBy: colours.value }) },
    make("option", { value: "class" }, "class"), ...(withParents ? [make("option", { value: "cell" }, "cell")] : []),
    make("option", { value: "object" }, "object"));
  const plane = make("input", { type: "checkbox", id: "plane", onchange: () => scene.showPlane(plane.checked) });
  const has = content.slices.length && by("slice");
  holder.replaceChildren(
    make("div", { class: "row" }, button("Start view", () => scene.look(azimuth, elevation)),
      button("As on slices", () => scene.look(0, 0)), button("From the side", () => scene.look(90, 0)),
      make("button", { type: "button", "aria-label": "Zoom in", onclick: () => scene.zoom(1.25) }, "+"),
      make("button", { type: "button", "aria-label": "Zoom out", onclick: () => scene.zoom(0.8) }, "−")),
    make("div", { class: "row" }, make("label", { for: "colour-by" }, "Colour by "), colours,
      has ? make("label", { for: "plane" }, plane, " the slice in the scene") : ""),
  );
}

function tryScene() {
  const holder = by("scene");
  if (!holder) return null;
  try {
    const scene = startScene(holder);
    startSceneTools(by("scene-tools"), scene);
    holder.setAttribute("tabindex", "0");
    return scene;
  } catch (error) {
    by("no-webgl").hidden = false;
    holder.dataset.failed = String(error);
    return null;
  }
}

/** Pictures open at full size in the page itself, which may be without its folder. */
function startPictures() {
  const dialog = make("dialog", { class: "large", "aria-label": "Picture at full size", onclick: () => dialog.close() });
  document.addEventListener("click", (event) => {
    const picture = event.target.closest?.("figure > a")?.querySelector("img");
    if (!picture || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    if (!dialog.isConnected) document.body.append(dialog);
    dialog.replaceChildren(make("button", { type: "button" }, "Close"), make("img", { src: picture.src, alt: picture.alt }));
    dialog.showModal();
  });
}

function showControls() {
  for (const element of document.querySelectorAll("[data-scripted]")) element.hidden = false;
}

/** What is told of an object or a slice elsewhere on the page leads to it. */
function startPlaces() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("button.go");
    if (!button) return;
    const { name, id } = button.dataset;
    const z = Number(button.dataset.z);
    if (rowOf(name, id) !== undefined) choose(name, id);
    else if (z >= 0 && content.slices.length) {
      const away = content.slices.map((one) => Math.abs(one.z - z));
      change("chosen", { chosen: null, sheet: away.indexOf(Math.min(...away)) });
    }
    const seen = by("slice") ?? by("scene");
    seen?.scrollIntoView({ block: "center" });
    seen?.focus({ preventScroll: true });
  });
}

function startCopy() {
  const button = by("copy-methods");
  button?.addEventListener("click", async () => {
    const text = by("methods-text").textContent.replace(/\s+/g, " ").trim();
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(by("methods-text"));
      button.textContent = "Selected: copy it with Ctrl+C";
    }
  });
  if (button) button.hidden = false;
}

function start() {
  startPictures();
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", startCopy);
  else startCopy();
  if (content) {
    showControls();
    document.addEventListener("DOMContentLoaded", showControls); // of what stands below this script
    startPlaces();
    change("sheet", { sheet: Math.floor(content.slices.length / 2) });
    if (by("layers")) startLayers(by("layers"));
    const scene = tryScene();
    if (by("slice")) startSlices(by("slice"), by("slice-tools"), (image, z) => scene?.plane(image, z));
    const table = content.table.class.length && by("object-table") ? startTable(by("object-table")) : null;
    if (by("chosen")) startPanel(by("chosen"), { centre: scene && scene.centre, within: table?.within ?? (() => {}) });
  }
  requestAnimationFrame(() => requestAnimationFrame(() => {
    document.documentElement.dataset.ready = String(Math.round(performance.now()));
  }));
}

start();
