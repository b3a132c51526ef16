// What is shown and what is chosen; every part of the page listens here, so that they stay together.

import { content } from "./content.js";

const listeners = [];

export const state = {
  shown: {}, // by class
  opacity: {}, // by class
  colourBy: "class",
  sheet: 0,
  chosen: null, // { name, id }
};

/** Be told of changes: `what` is "look", "sheet" or "chosen". */
export function listen(listener) {
  listeners.push(listener);
}

export function change(what, changes) {
  Object.assign(state, changes);
  for (const listener of listeners) listener(what);
}

const rows = new Map();
const table = content?.table ?? { class: [], id: [], columns: [], parents: {}, sheet: [], box: [], cut: [] };
table.class.forEach((name, row) => rows.set(`${name} ${table.id[row]}`, row));
export { table };

/** Row of an object in the table; undefined where the page does not hold it. */
export const rowOf = (name, id) => rows.get(`${name} ${id}`);

/** Parent of the object in a row: "cell" or "nucleus" to an id; null for none. */
export function parentOf(row, kind) {
  const id = table.parents[`parent_${kind}_id`]?.[row];
  return id === undefined || id === null || id === 0 ? null : id;
}

const GREY = "#999999";
const cycle = content?.colours.cycle ?? [GREY];
const cells = content?.colours.cells ?? {};

/** Colour of an object as things are coloured now. */
export function colourOf(layer, id) {
  if (state.colourBy === "class" || !layer.hasIds) return layer.colour;
  const isCell = layer.name === content.names.cell;
  if (isCell) return cells[id] ?? cycle[Number(id) % cycle.length];
  if (state.colourBy === "object") return cycle[Number(id) % cycle.length];
  const row = rowOf(layer.name, id);
  const cell = row === undefined ? null : parentOf(row, "cell");
  return cell === null ? GREY : (cells[cell] ?? cycle[Number(cell) % cycle.length]);
}

export function choose(name, id) {
  const row = rowOf(name, id);
  const sheet = row === undefined ? -1 : table.sheet[row];
  change("chosen", { chosen: { name, id }, sheet: sheet >= 0 ? sheet : state.sheet });
}

for (const layer of content?.layers ?? []) {
  state.shown[layer.name] = true;
  state.opacity[layer.name] = layer.opacity;
}
