// The table of objects, a page at a time, and all that is known of the chosen one.

import { content, make } from "./content.js";
import { drawCrop } from "./slices.js";
import { change, choose, listen, parentOf, rowOf, state, table } from "./state.js";

const PER_PAGE = 15;
const MOST_COLUMNS = 6;

const kinds = ["cell", "nucleus"].filter((kind) => table.parents[`parent_${kind}_id`]);
const number = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
const written = (value) => (value === null || value === undefined ? "–" : number.format(value));
const withUnit = (column) => (column.unit ? `${column.title} (${column.unit})` : column.title);

export function startTable(holder) {
  const filter = { name: "", id: "", parent: null };
  let order = { key: table.columns[0]?.name ?? "id", up: false };
  let page = 0;
  let rows = [];

  const names = [...new Set(table.class)];
  const ofClass = make("select", { id: "of-class", onchange: () => set({ name: ofClass.value }) },
    make("option", { value: "" }, "all classes"), ...names.map((name) => make("option", { value: name }, name)));
  const ofId = make("input", { id: "of-id", type: "search", inputmode: "numeric", size: 8, placeholder: "all",
    oninput: () => set({ id: ofId.value.trim() }) });
  const inside = make("span", { class: "inside" });
  const count = make("span", { role: "status" });
  const head = make("tr");
  const body = make("tbody");
  const back = make("button", { type: "button", onclick: () => turn(-1) }, "◀ Previous");
  const forth = make("button", { type: "button", onclick: () => turn(1) }, "Next ▶");
  const caption = make("caption", {}, "Select an object to see it in 3D and on its slice; select a heading to sort");
  holder.replaceChildren(
    make("div", { class: "row" }, make("label", { for: "of-class" }, "Class "), ofClass,
      make("label", { for: "of-id" }, "Id "), ofId, inside, count),
    make("div", { class: "scroll", tabindex: "0" }, make("table", { id: "objects" }, caption, make("thead", {}, head), body)),
    make("div", { class: "row" }, back, forth),
  );
  const columns = table.columns.slice(0, MOST_COLUMNS);
  const headings = [["class", "Object", ""], ...kinds.map((kind) => [kind, `In ${kind}`, ""]),
    ...columns.map((one) => [one.name, withUnit(one), one.meaning])];
  for (const [key, text, meaning] of headings) {
    head.append(make("th", { scope: "col", class: key === "class" ? "" : "n", "data-key": key, title: meaning || null },
      make("button", { type: "button", class: "sort", onclick: () => sort(key) }, text)));
  }

  function set(changes) {
    Object.assign(filter, changes);
    page = 0;
    select();
    draw();
  }

  function valueOf(row, key) {
    if (key === "class") return [names.indexOf(table.class[row]), Number(table.id[row])];
    if (kinds.includes(key)) return [Number(parentOf(row, key) ?? NaN), 0];
    return [table.columns.find((one) => one.name === key)?.values[row] ?? NaN, 0];
  }

  function sort(key) {
    order = { key, up: order.key === key ? !order.up : key === "class" || kinds.includes(key) };
    page = 0;
    select();
    draw();
  }

  function select() {
    rows = [];
    for (let row = 0; row < table.class.length; row++) {
      if (filter.name && table.class[row] !== filter.name) continue;
      if (filter.id && String(table.id[row]) !== filter.id) continue;
      if (filter.parent && String(parentOf(row, filter.parent.kind)) !== String(filter.parent.id)) continue;
      rows.push(row);
    }
    const sign = order.up ? 1 : -1;
    const keys = new Map(rows.map((row) => [row, valueOf(row, order.key)]));
    rows.sort((a, b) => {
      const [one, other] = [keys.get(a), keys.get(b)];
      if (Number.isNaN(one[0]) !== Number.isNaN(other[0])) return Number.isNaN(one[0]) ? 1 : -1; // empty ones last
      return sign * (one[0] - other[0] || one[1] - other[1]) || a - b;
    });
  }

  function turn(by) {
    page = Math.min(Math.max(0, page + by), Math.max(0, Math.ceil(rows.length / PER_PAGE) - 1));
    draw();
  }

  function draw() {
    const first = page * PER_PAGE;
    const shown = rows.slice(first, first + PER_PAGE);
    body.replaceChildren(...shown.map(line));
    count.textContent = rows.length
      ? `${(first + 1).toLocaleString("en")}–${(first + shown.length).toLocaleString("en")} of ${rows.length.toLocaleString("en")}`
      : "no such object";
    back.disabled = page === 0;
    forth.disabled = first + PER_PAGE >= rows.length;
    for (const cell of head.children) {
      if (cell.dataset.key === order.key) cell.setAttribute("aria-sort", order.up ? "ascending" : "descending");
      else cell.removeAttribute("aria-sort");
    }
    inside.replaceChildren(...(filter.parent ? [`in ${filter.parent.name} ${filter.parent.id} `,
      make("button", { type: "button", onclick: () => set({ parent: null }) }, "show all")] : []));
    ofClass.value = filter.name;
    ofId.value = filter.id;
  }

  function line(row) {
    const [name, id] = [table.class[row], table.id[row]];
    const isChosen = state.chosen && state.chosen.name === name && String(state.chosen.id) === String(id);
    return make("tr", { class: isChosen ? "chosen" : null, "aria-current": isChosen ? "true" : null,
      onclick: () => choose(name, id) },
      make("th", { scope: "row" }, make("button", { type: "button", class: "link" }, `${name} ${id}`)),
      ...kinds.map((kind) => make("td", { class: "n" }, written(parentOf(row, kind)).replaceAll(",", ""))),
      ...columns.map((one) => make("td", { class: "n" }, written(one.values[row]))));
  }

  listen((what) => {
    if (what !== "chosen") return;
    const row = state.chosen ? rowOf(state.chosen.name, state.chosen.id) : undefined;
    if (row !== undefined && !rows.includes(row)) {
      Object.assign(filter, { name: "", id: "", parent: null });
      select();
    }
    const at = rows.indexOf(row);
    if (at >= 0) page = Math.floor(at / PER_PAGE);
    draw();
  });
  select();
  draw();
  return { within: (kind, id, name) => set({ name, id: "", parent: { kind, name: content.names[kind], id } }) };
}

export function startPanel(holder, { centre, within }) {
  function draw() {
    const { chosen } = state;
    if (!chosen) return;
    const { name, id } = chosen;
    const row = rowOf(name, id);
    const parts = [];
    const canvas = make("canvas", { width: 260, height: 260, role: "img", "aria-label": `Slice through ${name} ${id}` });
    if (row !== undefined && drawCrop(canvas, row, table)) {
      const { z } = content.slices[table.sheet[row]];
      parts.push(make("figure", {}, canvas, make("figcaption", {}, `Slice ${z}, which shows most of it`)));
    } else parts.push(make("p", { class: "soft" }, "It lies between the slices that this page holds."));
    const facts = make("div", {}, make("h3", { id: "chosen-title" }, `${name} ${id}`));
    if (row === undefined) facts.append(make("p", {}, "The table of this page does not hold it."));
    else facts.append(...about(row, within), ...features(row));
    const layer = content.layers.find((one) => one.name === name);
    const inScene = layer?.ids.some((one) => String(one) === String(id));
    if (centre && !inScene) facts.append(make("p", { class: "soft" }, "It is not among the objects of the 3D scene."));
    facts.append(make("div", { class: "row" },
      centre && inScene ? make("button", { type: "button", onclick: centre }, "Bring it to the middle in 3D") : "",
      make("button", { type: "button", onclick: () => change("chosen", { chosen: null }) }, "Let go")));
    parts.push(facts);
    holder.replaceChildren(...parts);
  }
  listen((what) => {
    if (what !== "chosen") return;
    if (state.chosen) draw();
    else holder.replaceChildren(make("p", { class: "soft" }, holder.dataset.hint));
  });
  holder.replaceChildren(make("p", { class: "soft" }, holder.dataset.hint));
}

function about(row, within) {
  const parts = [];
  const name = table.class[row];
  const lies = kinds.filter((kind) => content.names[kind] !== name);
  for (const kind of lies) {
    const parent = parentOf(row, kind);
    const title = content.names[kind];
    if (parent !== null) {
      parts.push(make("p", {}, `Lies in `, make("button", { type: "button", class: "link",
        onclick: () => choose(title, parent) }, `${title} ${parent}`), "."));
    } else if (kind === "cell") parts.push(make("p", {}, `Lies in no ${title} that was found.`));
  }
  for (const kind of kinds) {
    if (content.names[kind] !== name) continue;
    const counts = new Map();
    for (let other = 0; other < table.class.length; other++) {
      if (String(parentOf(other, kind)) === String(table.id[row])) {
        counts.set(table.class[other], (counts.get(table.class[other]) ?? 0) + 1);
      }
    }
    const links = [...counts].flatMap(([child, n], i) => [i ? ", " : "", make("button", { type: "button", class: "link",
      onclick: () => within(kind, table.id[row], child) }, `${n} ${child}`)]);
    parts.push(make("p", {}, "Holds ", ...(links.length ? links : ["nothing that was found"]), "."));
  }
  if (table.cut[row]) {
    parts.push(make("p", { class: "soft" }, "It touches the edge of the volume and may go on outside of it."));
  }
  return parts;
}

function features(row) {
  const known = table.columns.filter((one) => one.values[row] !== null);
  const lines = (columns) => make("dl", { class: "features" }, ...columns.map((one) => make("div", { title: one.meaning || null },
    make("dt", {}, one.title), make("dd", {}, `${written(one.values[row])}${one.unit ? ` ${one.unit}` : ""}`))));
  if (!known.length) return [];
  const rest = known.slice(12);
  return [lines(known.slice(0, 12)),
    ...(rest.length ? [make("details", {}, make("summary", {}, `${rest.length} more features`), lines(rest))] : [])];
}
