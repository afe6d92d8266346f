// The explorer's page. Whatever a user brought is written by textContent or as an attribute
// that holds text: the page's policy forbids making HTML from strings.
"use strict";

const ROW = 40; // pixels, as --row in the style sheet
const SPARE = 6; // rows drawn beyond those in view
const narrow = matchMedia("(max-width: 820px)");
const dark = matchMedia("(prefers-color-scheme: dark)");
const $ = (id) => document.getElementById(id);

let facts; // the header, and the arrays by their names
const pixels = {}; // bytes of atoms and of samples, once they are unpacked
let columns; // of the table
let order = []; // the atoms of the table, from the first row on
let chosen = -1; // the atom that is shown
let query = "";
let sorting = { key: "usage", down: true, byMatch: false };
const matches = { atoms: null, samples: null }; // what the query found

// ------------------------------------------------------------------------ small helpers
function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function within(parent, ...children) {
  parent.append(...children);
  return parent;
}

function draw(tag, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
}

const count = (n) => n.toLocaleString("en");
const plural = (n, noun) => `${count(n)} ${noun}${n === 1 ? "" : "s"}`;

/** A number with a true minus sign. */
const withMinus = (text) => text.replace(/^-/, "−");

/** Three digits of a number. */
function short(x) {
  if (!Number.isFinite(x)) return "–";
  const size = Math.abs(x);
  if (size === 0) return "0";
  if (size < 1e-3 || size >= 1e6) return withMinus(x.toExponential(1));
  return withMinus(size < 100 ? x.toPrecision(3) : count(Math.round(x)));
}

function percent(x) {
  if (!Number.isFinite(x)) return "–";
  const size = Math.abs(100 * x);
  if (size === 0) return "0%";
  if (size < 0.01) return x < 0 ? ">−0.01%" : "<0.01%";
  const text = size < 9.95 ? size.toPrecision(2) : count(Math.round(size));
  return `${x < 0 ? "−" : ""}${text}%`;
}

const signed = (x) => (Number.isFinite(x) && x > 0 ? "+" : "") + percent(x);
const fixed = (x, digits) => (Number.isFinite(x) ? withMinus(x.toFixed(digits)) : "–");
const featureName = (i) => (facts.names ? facts.names[i] : `x${i}`);

// ---------------------------------------------------------------------------- unpacking
function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

/** The bytes that an element holds, deflated and in base64; the element goes. */
async function unpack(id) {
  const holder = $(id);
  const packed = fromBase64(holder.textContent);
  holder.remove();
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const KINDS = { float32: Float32Array, int32: Int32Array, int8: Int8Array };

/** The header with its arrays: see _facts in _page.py. */
function read({ buffer }) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  for (const [name, { dtype, shape, at }] of Object.entries(header.arrays)) {
    const size = shape.reduce((a, b) => a * b, 1);
    const array = new KINDS[dtype](buffer, 4 + length + at, size);
    array.width = size / shape[0]; // of one atom's part
    header.arrays[name] = array;
  }
  return { ...header, ...header.arrays };
}

/** An atom's part of an array. */
function part(name, atom) {
  const array = facts[name];
  return array.subarray(atom * array.width, (atom + 1) * array.width);
}

// ----------------------------------------------------------------------------- pictures
// Colours as the canvas has them: one number of four bytes.
const opaque = (red, green, blue) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
const greys = Uint32Array.from({ length: 256 }, (_, level) => opaque(level, level, level));
let weightColours; // of a weight from -128 to 127, by its byte

/** Blue, the ground, red: zero is white on light ground and black on dark. */
function setColours() {
  const zero = dark.matches ? [24, 25, 28] : [255, 255, 255];
  const ends = dark.matches ? [[96, 170, 255], [255, 112, 84]] : [[5, 80, 160], [178, 24, 36]];
  weightColours = Uint32Array.from({ length: 256 }, (_, byte) => {
    const weight = (byte < 128 ? byte : byte - 256) / 127;
    const share = Math.min(1, Math.abs(weight)) ** 0.9;
    const end = ends[weight < 0 ? 0 : 1];
    return opaque(...zero.map((z, c) => Math.round(z + share * (end[c] - z))));
  });
}

/** Draw one of many pictures on a canvas; `colours` are those of a single channel. */
function paint(canvas, bytes, which, [height, width, channels = 1], colours, shift) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const target = new Uint32Array(image.data.buffer);
  let at = which * height * width * channels;
  for (let i = 0; i < target.length; i++, at += channels) {
    // A byte is 128 more than its weight in colour images: zero is mid-grey.
    target[i] = channels === 1
      ? colours[bytes[at]]
      : opaque(bytes[at] ^ shift, bytes[at + 1] ^ shift, bytes[at + 2] ^ shift);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

function paintAtom(canvas, atom) {
  return pixels.atoms
    ? paint(canvas, pixels.atoms, atom, facts.atom_shape, weightColours, 128)
    : canvas;
}

const paintSample = (canvas, sample) =>
  paint(canvas, pixels.samples, sample, facts.picture.shape, greys, 0);

function atomPicture(atom, className) {
  const canvas = make("canvas", className);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Picture of atom ${atom}`);
  return paintAtom(canvas, atom);
}

// ------------------------------------------------------------------------- the columns
function theColumns() {
  const step = facts.ordered
    ? ["Picked", "Step at which it is picked", "The step of the pursuit at which the atom is " +
        "picked, on average over the samples that use it: 1 is the first step. Early atoms " +
        "explain most of a sample, late ones refine it."]
    : ["Rank", "Rank of its code", "The rank of the atom's code by size within a sample, on " +
        "average over the samples that use it: 1 is the largest code."];
  return [
    { key: "atom", name: "Atom", title: "Number of the atom",
      about: "Its row in the estimator's components_, counted from 0.",
      value: (a) => a, down: false },
    { key: "usage", name: "Usage", title: "Share of samples that use it",
      about: "The share of the samples that use the atom, that is, whose code for it is not zero.",
      value: (a) => facts.usage[a] / facts.n_samples, show: percent, bar: true, down: true },
    { key: "mean_code", name: "Mean code", title: "Mean size of its code", minor: true,
      about: "The mean size of the atom's code, over the samples that use it.",
      value: (a) => facts.mean_code[a], show: short, down: true },
    { key: "coherence", name: "Coherence", title: "Cosine with the most similar atom",
      about: "The cosine with the atom that has the largest |cosine|, by which the table sorts: " +
        "near 0 no other atom has its direction, near 1 another one has the same, near −1 the opposite.",
      value: (a) => facts.coherence[a], show: (x, a) => fixed(signedCoherence(a), 2), bar: true, down: true },
    { key: "mean_step", name: step[0], title: step[1], about: step[2],
      value: (a) => facts.mean_step[a], show: (x) => fixed(x, 1), down: false },
    { key: "energy", name: "Energy", title: "Share of the energy of all codes", minor: true,
      about: "The atom's share of the sum of squares of all codes.",
      value: (a) => (facts.usage[a] ? facts.energy[a] : NaN), show: percent, bar: true, down: true },
    { key: "removal", name: "If removed", title: "Rise of the squared error without it",
      about: "By how much the squared error of the samples that use the atom would rise if its " +
        "code were left out, all others staying as they are.",
      value: (a) => facts.removal[a], show: signed, down: true },
  ];
}

/** The cosine of the largest magnitude with another atom, NaN where there is no other one. */
const signedCoherence = (atom) => part("cosines", atom)[0] ?? NaN;

// An angle of more than 143 degrees: most of the one atom is the other with the other sign.
const isOpposite = (cosine) => cosine <= -0.8;

const columnOf = (key) => columns.find((column) => column.key === key);

// -------------------------------------------------------------------- search and sort
/** What of the samples, features and atoms may be searched, in lower case. */
function haystacks() {
  const n = facts.samples.length;
  const samples = Array.from({ length: n }, (_, i) =>
    `${facts.labels?.[i] ?? ""}\n${textOf(i) ?? ""}`.toLowerCase(),
  );
  const inLowerCase = (texts) => texts?.map((text) => text.toLowerCase());
  return { samples, names: inLowerCase(facts.names), atoms: inLowerCase(facts.atom_labels) };
}

/** The text of a sample, or its token's context; nothing if it is not in the file. */
const textOf = (sample) => facts.texts?.[sample] ?? facts.contexts?.[sample]?.[1].join("");

let hay = null;

/** Find the atoms that a query means: by number, label, samples, or features. */
function find() {
  matches.atoms = matches.samples = null;
  if (query === "") return;
  hay ??= haystacks();
  const number = /^#?(\d+)$/.exec(query);
  const exact = number ? Number(number[1]) : -1;
  const byText = !query.startsWith("#") || !number;
  const needle = query.toLowerCase();
  matches.samples = hay.samples.map((text) => byText && text.includes(needle));
  const names = hay.names?.map((name) => byText && name.includes(needle));
  matches.atoms = Float32Array.from(facts.usage, (_, atom) => {
    let score = atom === exact ? 1e6 : 0;
    if (byText && hay.atoms?.[atom].includes(needle)) score += 1e3;
    for (const sample of part("examples", atom)) if (matches.samples[sample]) score++;
    if (names && facts.features) {
      part("features", atom).forEach((feature, rank) => {
        if (names[feature]) score += 1 / (1 + rank);
      });
    }
    return score;
  });
}

/** Put the table's atoms in order; those without a value come last either way. */
function arrange() {
  const only = $("used").checked;
  order = [];
  for (let atom = 0; atom < facts.usage.length; atom++) {
    if ((!only || facts.usage[atom] > 0) && (!matches.atoms || matches.atoms[atom] > 0)) {
      order.push(atom);
    }
  }
  const { value } = columnOf(sorting.key);
  const values = Float64Array.from(facts.usage, (_, atom) => value(atom));
  const sign = sorting.down ? -1 : 1;
  const byMatch = matches.atoms && sorting.byMatch;
  order.sort((a, b) => {
    if (byMatch && matches.atoms[a] !== matches.atoms[b]) return matches.atoms[b] - matches.atoms[a];
    const [x, y] = [values[a], values[b]];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y) || a - b;
    return sign * (x - y) || a - b;
  });
}

function refresh() {
  arrange();
  const all = facts.usage.length;
  $("found").textContent =
    order.length === 0
      ? "No atom matches."
      : `${order.length === all ? "" : `${count(order.length)} of `}${plural(all, "atom")}` +
        (matches.atoms && sorting.byMatch ? ", best match first" : "");
  for (const cell of $("head").children) {
    const { key } = cell.dataset;
    const active = key === sorting.key && !(matches.atoms && sorting.byMatch);
    cell.setAttribute("aria-sort", !active ? "none" : sorting.down ? "descending" : "ascending");
  }
  $("sort").value = `${sorting.key} ${sorting.down}`;
  $("grid").setAttribute("aria-rowcount", order.length + 1);
  $("spacer").style.height = `${order.length * ROW}px`;
  rows.forEach((row) => (row.at = -1));
  showRows();
}

function sortBy(key, down) {
  sorting = { key, down, byMatch: false };
  $("scroller").scrollTop = 0;
  refresh();
}

