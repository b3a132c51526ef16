// The 3D scene: surfaces of all objects, seen with parallel rays so that the scale bar holds everywhere.

import {
  BufferAttribute, BufferGeometry, Color, DoubleSide, FrontSide, LineBasicMaterial, LineSegments, Mesh, MeshBasicMaterial,
  OrthographicCamera, Raycaster, Scene, ShaderMaterial, SRGBColorSpace, Texture, Vector2, Vector3, WebGLRenderer,
} from "three";
import { OrbitControls } from "three/examples/jsm/controls/OrbitControls.js";
import { barLength, bytesOf, content, lengthInWords, make, textOf } from "./content.js";
import { choose, colourOf, listen, state } from "./state.js";

const VERTEX = `
attribute vec3 tint;
varying vec3 vNormal;
varying vec3 vTint;
void main() {
  vNormal = normalMatrix * normal;
  vTint = tint;
  gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0);
}`;

// Light from the upper left behind the viewer; what is transparent is denser at its rim, as thin shells are.
const FRAGMENT = `
uniform float opacity;
uniform float glow;
varying vec3 vNormal;
varying vec3 vTint;
void main() {
  vec3 n = normalize(vNormal);
  float facing = abs(n.z);
  float light = 0.5 + 0.5 * max(0.0, dot(n, normalize(vec3(-0.45, 0.62, 0.64))));
  float rim = pow(1.0 - facing, 2.0);
  vec3 colour = vTint * light * (1.0 - 0.45 * pow(1.0 - facing, 4.0) * step(0.99, opacity)) + glow * vec3(0.25);
  float alpha = opacity >= 0.99 ? 1.0 : clamp(opacity * (0.75 + 2.6 * rim), 0.0, 1.0);
  gl_FragColor = vec4(min(colour, 1.0), alpha);
}`;

const HIGHLIGHT = "#F0E442";

export function startScene(holder) {
  const renderer = new WebGLRenderer({ antialias: true, alpha: false, preserveDrawingBuffer: false });
  renderer.setPixelRatio(Math.min(2, window.devicePixelRatio || 1));
  renderer.setClearColor(0xffffff);
  const canvas = renderer.domElement;
  canvas.setAttribute("aria-hidden", "true");

  const { low, high, start, step } = content.bounds;
  const middle = new Vector3(...low.map((a, i) => (a + high[i]) / 2));
  const reach = Math.hypot(...low.map((a, i) => high[i] - a));
  const scene = new Scene();
  const camera = new OrthographicCamera(-1, 1, 1, -1, 0, 8 * reach);
  camera.up.set(0, -1, 0); // y runs downwards, as on slices

  const layers = content.layers.map((layer, number) => buildLayer(layer, number, start, step)).filter(Boolean);
  for (const { mesh } of layers) scene.add(mesh);
  scene.add(buildFrame(low, high));
  const marked = buildMark();
  scene.add(marked.mesh, marked.box);
  const plane = buildPlane(low, high);
  scene.add(plane.mesh);

  const overlay = make("div", { class: "scene-words", "aria-hidden": "true" });
  const bar = make("div", { class: "scale-bar" }, make("span"), make("i"));
  const axes = ["x", "y", "z"].map((name, axis) => {
    const word = make("span", { class: "axis" }, `${name} ${lengthInWords(high[axis] - low[axis])}`);
    overlay.append(word);
    return word;
  });
  overlay.append(bar);
  const still = holder.querySelector("img"); // what is drawn does not go on paper in all browsers
  still?.classList.add("for-print");
  holder.replaceChildren(...(still ? [still] : []), canvas, overlay);

  const controls = new OrbitControls(camera, canvas);
  controls.enableDamping = false;
  controls.enableZoom = false; // until the scene has the focus: a wheel should move the page before
  controls.minZoom = 0.3;
  controls.maxZoom = 60;

  let asked = false;
  const redraw = () => {
    if (!asked) {
      asked = true;
      requestAnimationFrame(() => {
        asked = false;
        draw();
      });
    }
  };

  function look(azimuth, elevation) {
    const [turn, lift] = [(azimuth * Math.PI) / 180, (elevation * Math.PI) / 180];
    const ahead = new Vector3(Math.sin(turn) * Math.cos(lift), Math.sin(lift), Math.cos(turn) * Math.cos(lift));
    controls.target.copy(middle);
    camera.position.copy(middle).addScaledVector(ahead, -3 * reach);
    camera.lookAt(middle); // what the view must span depends on it
    camera.zoom = 1;
    resize();
    controls.update();
    redraw();
  }

  function resize() {
    const { clientWidth: width, clientHeight: height } = holder;
    if (!width || !height) return;
    renderer.setSize(width, height, false);
    const span = fitted(camera, middle, low, high, width / height);
    camera.left = (-span * width) / height / 2;
    camera.right = -camera.left;
    camera.top = span / 2;
    camera.bottom = -camera.top;
    camera.updateProjectionMatrix();
    redraw();
  }

  function draw() {
    renderer.render(scene, camera);
    const { clientWidth: width, clientHeight: height } = holder;
    const nmPerPixel = (camera.right - camera.left) / camera.zoom / Math.max(1, width);
    const length = barLength(nmPerPixel * width);
    bar.firstChild.textContent = lengthInWords(length);
    bar.lastChild.style.width = `${length / nmPerPixel}px`;
    axes.forEach((word, axis) => {
      const place = new Vector3(low[0], high[1], low[2]);
      place.setComponent(axis, (low[axis] + high[axis]) / 2);
      place.project(camera);
      word.style.left = `${((place.x + 1) / 2) * width}px`;
      word.style.top = `${((1 - place.y) / 2) * height}px`;
    });
    holder.dataset.drawn = String(Number(holder.dataset.drawn ?? 0) + 1);
  }

  function dress() {
    for (const { layer, mesh, paint } of layers) {
      const opacity = state.opacity[layer.name];
      const solid = opacity >= 0.99;
      mesh.visible = state.shown[layer.name] && opacity > 0.005;
      mesh.material.uniforms.opacity.value = opacity;
      mesh.material.transparent = !solid;
      mesh.material.depthWrite = solid;
      mesh.renderOrder = solid ? 0 : 11 - opacity;
      paint();
    }
    redraw();
  }

  function mark() {
    const one = state.chosen && layers.find(({ layer }) => layer.name === state.chosen.name);
    const at = one ? one.layer.ids.findIndex((id) => String(id) === String(state.chosen.id)) : -1;
    marked.mesh.visible = marked.box.visible = at >= 0;
    if (at >= 0) marked.put(one, at);
    redraw();
  }

  function pick(x, y) {
    const frame = canvas.getBoundingClientRect();
    const pointer = new Vector2(((x - frame.left) / frame.width) * 2 - 1, 1 - ((y - frame.top) / frame.height) * 2);
    const ray = new Raycaster();
    ray.setFromCamera(pointer, camera);
    const seen = layers.filter(({ mesh, layer }) => mesh.visible && layer.hasIds);
    const hits = ray.intersectObjects(seen.map(({ mesh }) => mesh), false);
    // What is inside glass is meant before the glass.
    const best = hits.find((hit) => !hit.object.material.transparent) ?? innermost(hits);
    if (!best) return null;
    const { layer, faceStarts } = best.object.userData;
    return { name: layer.name, id: layer.ids[lastAtMost(faceStarts, best.faceIndex)] };
  }

  let down = null;
  canvas.addEventListener("pointerdown", (event) => {
    down = [event.clientX, event.clientY];
    holder.focus({ preventScroll: true });
  });
  canvas.addEventListener("pointerup", (event) => {
    if (down && Math.hypot(event.clientX - down[0], event.clientY - down[1]) < 4) {
      const found = pick(event.clientX, event.clientY);
      if (found) choose(found.name, found.id);
    }
    down = null;
  });
  holder.addEventListener("focus", () => (controls.enableZoom = true));
  holder.addEventListener("blur", () => (controls.enableZoom = false));
  holder.addEventListener("keydown", (event) => {
    if (steer(event)) event.preventDefault();
  });
  controls.addEventListener("change", redraw);
  new ResizeObserver(resize).observe(holder);
  canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
  canvas.addEventListener("webglcontextrestored", redraw);

  function zoom(times) {
    camera.zoom = Math.min(controls.maxZoom, Math.max(controls.minZoom, camera.zoom * times));
    camera.updateProjectionMatrix();
    redraw();
  }

  function steer(event) {
    const turn = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (turn && event.shiftKey) return move(turn[0], turn[1]);
    if (turn) return rotate(turn[0] * 10, turn[1] * 10);
    if (event.key === "+" || event.key === "=") zoom(1.25);
    else if (event.key === "-") zoom(0.8);
    else if (event.key === "Home" || event.key === "0") look(content.view.azimuth, content.view.elevation);
    else return false;
    return true;
  }

  function rotate(right, up) {
    const offset = camera.position.clone().sub(controls.target);
    const vertical = new Vector3(0, 1, 0);
    offset.applyAxisAngle(vertical, (right * Math.PI) / 180);
    const across = new Vector3().crossVectors(offset, vertical).normalize();
    const tilted = offset.clone().applyAxisAngle(across, (up * Math.PI) / 180);
    const angle = tilted.angleTo(vertical);
    camera.position.copy(controls.target).add(angle > 0.05 && angle < Math.PI - 0.05 ? tilted : offset);
    controls.update();
    redraw();
    return true;
  }

  function move(right, down_) {
    const share = (0.08 * (camera.top - camera.bottom)) / camera.zoom;
    const shift = new Vector3(right * share, -down_ * share, 0).applyQuaternion(camera.quaternion);
    camera.position.add(shift);
    controls.target.add(shift);
    controls.update();
    redraw();
    return true;
  }

  function centre() {
    if (!marked.mesh.visible) return;
    const ahead = controls.target.clone().sub(camera.position);
    controls.target.copy(marked.middle);
    camera.position.copy(marked.middle).sub(ahead);
    camera.zoom = Math.min(controls.maxZoom, Math.max(1, (0.22 * (camera.top - camera.bottom)) / marked.size));
    camera.updateProjectionMatrix();
    controls.update();
    redraw();
  }

  listen((what) => {
    if (what === "look") dress();
    if (what === "chosen") mark();
  });
  dress();
  look(content.view.azimuth, content.view.elevation);
  return { look, zoom, centre, plane: (image, z) => plane.put(image, z, redraw), showPlane: (on) => {
    plane.wanted = on;
    plane.mesh.visible = on && plane.ready;
    redraw();
  } };
}

function buildLayer(layer, number, start, step) {
  const { vertex_starts: vertexStarts, face_starts: faceStarts, wide } = layer.mesh;
  const nVertices = vertexStarts.at(-1);
  if (!nVertices) return null;
  const places = new Uint16Array(bytesOf(textOf(`mesh-${number}-vertices`)).buffer);
  const raw = bytesOf(textOf(`mesh-${number}-faces`)).buffer;
  const local = wide ? new Uint32Array(raw) : new Uint16Array(raw);
  const position = new Float32Array(places.length);
  for (let i = 0; i < places.length; i++) position[i] = places[i];
  const index = new Uint32Array(local.length);
  for (let object = 0; object + 1 < faceStarts.length; object++) {
    const first = vertexStarts[object];
    for (let i = 3 * faceStarts[object]; i < 3 * faceStarts[object + 1]; i++) index[i] = local[i] + first;
  }
  const geometry = new BufferGeometry();
  geometry.setAttribute("position", new BufferAttribute(position, 3));
  geometry.setIndex(new BufferAttribute(index, 1));
  geometry.computeVertexNormals();
  const tint = new BufferAttribute(new Uint8Array(3 * nVertices), 3, true);
  geometry.setAttribute("tint", tint);
  geometry.computeBoundingSphere();
  const mesh = new Mesh(geometry, material(layer.opacity));
  mesh.scale.setScalar(step);
  mesh.position.set(...start);
  mesh.updateMatrixWorld();
  mesh.userData = { layer, faceStarts };
  const paint = () => {
    layer.ids.forEach((id, object) => {
      const [red, green, blue] = rgb(colourOf(layer, id));
      for (let i = vertexStarts[object]; i < vertexStarts[object + 1]; i++) {
        tint.array[3 * i] = red;
        tint.array[3 * i + 1] = green;
        tint.array[3 * i + 2] = blue;
      }
    });
    tint.needsUpdate = true;
  };
  return { layer, mesh, paint };
}

function material(opacity) {
  return new ShaderMaterial({
    vertexShader: VERTEX, fragmentShader: FRAGMENT, side: FrontSide,
    uniforms: { opacity: { value: opacity }, glow: { value: 0 } },
  });
}

function rgb(colour) {
  const value = parseInt(colour.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

function buildFrame(low, high) {
  const corner = (i) => [i & 1 ? high[0] : low[0], i & 2 ? high[1] : low[1], i & 4 ? high[2] : low[2]];
  const edges = [];
  for (let i = 0; i < 8; i++) for (const bit of [1, 2, 4]) if (!(i & bit)) edges.push(...corner(i), ...corner(i | bit));
  const geometry = new BufferGeometry();
  geometry.setAttribute("position", new BufferAttribute(new Float32Array(edges), 3));
  return new LineSegments(geometry, new LineBasicMaterial({ color: 0x8a939c }));
}

// The chosen object, opaque and yellow, in a box: colour alone would not do for everybody.
function buildMark() {
  const mesh = new Mesh(new BufferGeometry(), material(1));
  mesh.material.uniforms.glow.value = 1;
  mesh.material.depthFunc = 3; // less or equal, as it lies where the object itself lies
  mesh.material.transparent = true; // only so that it comes after glass
  mesh.renderOrder = 25;
  mesh.material.polygonOffset = true;
  mesh.material.polygonOffsetFactor = -2;
  mesh.material.polygonOffsetUnits = -2;
  const box = new LineSegments(new BufferGeometry(), new LineBasicMaterial({ color: 0x000000, depthTest: false }));
  box.renderOrder = 30;
  mesh.visible = box.visible = false;
  const mark = { mesh, box, middle: new Vector3(), size: 1 };
  mark.put = ({ mesh: from }, at) => {
    const { faceStarts } = from.userData;
    const geometry = new BufferGeometry();
    const n = from.geometry.attributes.position.count;
    geometry.setAttribute("position", from.geometry.attributes.position);
    geometry.setAttribute("normal", from.geometry.attributes.normal);
    const tint = new Uint8Array(3 * n);
    const [red, green, blue] = rgb(HIGHLIGHT);
    const index = from.geometry.index.array.slice(3 * faceStarts[at], 3 * faceStarts[at + 1]);
    const low = new Vector3(Infinity, Infinity, Infinity);
    const high = new Vector3(-Infinity, -Infinity, -Infinity);
    const place = new Vector3();
    for (const i of index) {
      tint.set([red, green, blue], 3 * i);
      place.fromBufferAttribute(geometry.attributes.position, i).applyMatrix4(from.matrixWorld);
      low.min(place);
      high.max(place);
    }
    geometry.setAttribute("tint", new BufferAttribute(tint, 3, true));
    geometry.setIndex(new BufferAttribute(index, 1));
    mesh.geometry.dispose();
    mesh.geometry = geometry;
    mesh.position.copy(from.position);
    mesh.scale.copy(from.scale);
    mark.middle.copy(low).add(high).multiplyScalar(0.5);
    mark.size = high.distanceTo(low);
    const room = new Vector3().setScalar(0.04 * mark.size);
    box.geometry.dispose();
    box.geometry = buildFrame(low.sub(room).toArray(), high.add(room).toArray()).geometry;
  };
  return mark;
}

// The slice that the browser shows, put up where it lies.
function buildPlane(low, high) {
  const geometry = new BufferGeometry();
  const corners = [low[0], low[1], high[0], low[1], high[0], high[1], low[0], high[1]];
  const places = new Float32Array([0, 1, 2, 3].flatMap((i) => [corners[2 * i], corners[2 * i + 1], 0]));
  geometry.setAttribute("position", new BufferAttribute(places, 3));
  geometry.setAttribute("uv", new BufferAttribute(new Float32Array([0, 0, 1, 0, 1, 1, 0, 1]), 2));
  geometry.setIndex([0, 1, 2, 0, 2, 3]);
  const texture = new Texture();
  texture.flipY = false;
  texture.colorSpace = SRGBColorSpace;
  const mesh = new Mesh(geometry, new MeshBasicMaterial({ map: texture, side: DoubleSide, color: new Color(1, 1, 1) }));
  mesh.visible = false;
  const plane = { mesh, wanted: false, ready: false };
  plane.put = (image, z, redraw) => {
    mesh.position.z = z;
    texture.image = image;
    texture.needsUpdate = true;
    plane.ready = true;
    mesh.visible = plane.wanted;
    redraw();
  };
  return plane;
}

/** Height that the view must span to show the whole box from any side about the vertical axis. */
function fitted(camera, middle, low, high, shape) {
  camera.updateMatrixWorld();
  const across = Math.hypot(high[0] - low[0], high[2] - low[2]);
  const [right, up] = [new Vector3(), new Vector3()];
  camera.matrixWorld.extractBasis(right, up, new Vector3());
  const half = new Vector3(...low.map((a, i) => (high[i] - a) / 2));
  const extent = (axis) => 2 * (Math.abs(axis.x) * half.x + Math.abs(axis.y) * half.y + Math.abs(axis.z) * half.z);
  const height = high[1] - low[1] + 0.35 * across;
  return 1.1 * Math.max(extent(up), extent(right) / shape, Math.min(height, across / shape));
}

function innermost(hits) {
  return hits.reduce((best, hit) => {
    const opacity = (one) => one.object.material.uniforms.opacity.value;
    return best === null || opacity(hit) > opacity(best) ? hit : best;
  }, null);
}

/** Place of the last number that is at most `value`, in rising numbers. */
function lastAtMost(values, value) {
  let low = 0;
  let high = values.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (values[middle] <= value) low = middle;
    else high = middle - 1;
  }
  return low;
}
