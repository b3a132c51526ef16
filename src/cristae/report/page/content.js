// What the page holds: numbers as JSON, bytes as base64 in scripts that no browser runs, read when they are needed.

const numbers = document.getElementById("explore-data");
export const content = numbers ? JSON.parse(numbers.textContent) : null;

/** Text of a script by name; "" where there is none. */
export function textOf(name) {
  return document.getElementById(name)?.textContent.trim() ?? "";
}

/** Bytes of base64. */
export function bytesOf(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

/** Places in `values` of all pixels of a slice; see report/browser.py. */
export function pixelsOf(overlay, n) {
  const bytes = bytesOf(overlay.runs);
  const pixels = new Uint32Array(n);
  let at = 0;
  let i = 0;
  const next = () => {
    let value = 0;
    let times = 1;
    for (;;) {
      const byte = bytes[i++];
      value += (byte & 127) * times;
      if (byte < 128) return value;
      times *= 128;
    }
  };
  while (i < bytes.length) {
    const place = next();
    const length = next();
    pixels.fill(place, at, at + length);
    at += length;
  }
  return pixels;
}

/** A length in nm in the unit that suits it. */
export function lengthInWords(nm) {
  const [factor, unit] = nm >= 1e6 ? [1e6, "mm"] : nm >= 1e3 ? [1e3, "µm"] : [1, "nm"];
  return `${Number((nm / factor).toPrecision(3))} ${unit}`;
}

/** Length of a scale bar: 1, 2 or 5 times a power of ten, at most a quarter of the width. */
export function barLength(widthNm) {
  const power = 10 ** Math.floor(Math.log10(widthNm / 4));
  return [5, 2, 1].map((digit) => digit * power).find((length) => length <= widthNm / 4) ?? power;
}

/** An element with attributes and children. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}
