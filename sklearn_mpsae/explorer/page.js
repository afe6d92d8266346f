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
        "say what a sample mostly is, late ones refine it."]
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
    { key: "coherence", name: "Coherence", title: "Likeness to the most similar atom",
      about: "The largest |cosine| between the atom and another one: near 0 it is alone in its " +
        "direction, at 1 it is there twice.",
      value: (a) => facts.coherence[a], show: (x) => fixed(x, 2), bar: true, down: true },
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
      ? `No atom matches. Search looks in ${facts.atom_labels ? "the label and " : ""}the strongest samples of each atom.`
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

// ---------------------------------------------------------------------------- the table
/** What an atom is about: its label, its strongest sample, or its largest named weight. */
function hintOf(atom) {
  const strongest = part("examples", atom)[0];
  if (facts.atom_labels?.[atom]) return facts.atom_labels[atom];
  if (facts.atom_shape || strongest < 0) return "";
  if (strongest < facts.texts?.length) {
    const text = facts.texts[strongest].slice(0, 60);
    return facts.atom_labels ? `“${text}”` : text;
  }
  if (strongest < facts.contexts?.length) {
    const [own, tokens] = facts.contexts[strongest];
    return `“${tokens.slice(Math.max(0, own - 2), own + 3).join("").trim()}”`;
  }
  return facts.names ? facts.names[part("features", atom)[0]] : "";
}

const rows = []; // drawn rows, used again as the table scrolls
let largest = {}; // of the columns with bars

function buildHead() {
  for (const [i, column] of columns.entries()) {
    const button = make("button", "", column.name);
    button.type = "button";
    button.title = `${column.title}. ${column.about}`;
    button.onclick = () => {
      const again = sorting.key === column.key && !sorting.byMatch;
      sortBy(column.key, again ? !sorting.down : column.down);
    };
    const cell = within(make("div", column.minor ? "minor" : ""), button);
    cell.setAttribute("role", "columnheader");
    cell.setAttribute("aria-colindex", i + 1);
    cell.dataset.key = column.key;
    $("head").append(cell);
    for (const down of [column.down, !column.down]) {
      const option = make("option", "", `${column.name} ${down ? "↓" : "↑"}`);
      option.value = `${column.key} ${down}`;
      $("sort").append(option);
    }
    if (column.bar) {
      const values = Array.from(facts.usage, (_, atom) => column.value(atom));
      largest[column.key] = values.reduce((a, b) => (b > a ? b : a), 0) || 1;
    }
  }
  $("grid").setAttribute("aria-colcount", columns.length);
  $("grid").classList.toggle("hinted", Boolean(hinted()));
}

const hinted = () =>
  facts.atom_labels || (!facts.atom_shape && (facts.texts || facts.contexts || facts.names));

function newRow() {
  const row = make("div", "row");
  row.setAttribute("role", "row");
  row.cells = columns.map((column) => {
    const cell = make("div", column.minor ? "cell minor" : "cell");
    cell.setAttribute("role", "gridcell");
    cell.dataset.key = column.key;
    cell.text = make("span");
    if (column.key === "atom" && facts.atom_shape) {
      cell.thumb = make("canvas", "thumb");
      cell.thumb.setAttribute("aria-hidden", "true");
      cell.append(cell.thumb);
    }
    cell.append(cell.text);
    if (column.key === "atom" && hinted()) cell.append((cell.hint = make("bdi", "hint")));
    if (column.bar) cell.append((cell.bar = make("i")));
    row.append(cell);
    return cell;
  });
  row.onclick = () => go(row.atom, true);
  $("spacer").append(row);
  return row;
}

function fillRow(row, at) {
  const atom = order[at];
  Object.assign(row, { at, atom, id: `row-${atom}` });
  row.style.transform = `translateY(${at * ROW}px)`;
  row.setAttribute("aria-rowindex", at + 2);
  row.classList.toggle("unused", facts.usage[atom] === 0);
  columns.forEach((column, i) => {
    const cell = row.cells[i];
    const value = column.value(atom);
    cell.text.textContent = column.show ? column.show(value) : value;
    if (cell.bar) cell.bar.style.setProperty("--part", Math.max(0, value / largest[column.key] || 0));
    if (cell.hint) cell.hint.textContent = hintOf(atom);
    if (cell.thumb) paintAtom(cell.thumb, atom);
  });
}

/** Draw the rows in view: each index has its place in the pool, so most stay as they are. */
function showRows() {
  const scroller = $("scroller");
  const first = Math.max(0, Math.floor(scroller.scrollTop / ROW) - SPARE);
  const last = Math.min(order.length, Math.ceil((scroller.scrollTop + scroller.clientHeight) / ROW) + SPARE);
  const size = Math.ceil(scroller.clientHeight / ROW) + 2 * SPARE + 1;
  while (rows.length < size) rows.push(newRow());
  const inView = new Set();
  for (let at = first; at < last; at++) {
    const row = rows[at % rows.length];
    if (row.at !== at) fillRow(row, at);
    inView.add(row);
  }
  let active = "";
  for (const row of rows) {
    row.hidden = !inView.has(row);
    if (row.hidden) {
      row.at = -1;
      row.removeAttribute("id");
    }
    const selected = !row.hidden && row.atom === chosen;
    row.setAttribute("aria-selected", selected);
    if (selected) active = row.id;
  }
  if (active) $("grid").setAttribute("aria-activedescendant", active);
  else $("grid").removeAttribute("aria-activedescendant");
}

function reveal(atom) {
  const at = order.indexOf(atom);
  if (at < 0) return;
  const scroller = $("scroller");
  if (at * ROW < scroller.scrollTop) scroller.scrollTop = at * ROW;
  const end = (at + 1) * ROW - scroller.clientHeight;
  if (end > scroller.scrollTop) scroller.scrollTop = end;
}

// ------------------------------------------------------------------------- going there
/** Show an atom. A click leaves a step to go back to; moving through the table does not. */
function go(atom, step) {
  const hash = `#${atom}`;
  if (step) location.hash = hash;
  else history.replaceState(null, "", hash);
  follow();
}

function goToTable() {
  location.hash = "";
  follow();
}

/** Show what the address says. */
function follow() {
  const number = /^#(\d+)$/.exec(location.hash);
  const named = number !== null && Number(number[1]) < facts.usage.length;
  document.body.dataset.view = named ? "atom" : "list";
  const atom = named ? Number(number[1]) : (order[0] ?? 0);
  const news = atom !== chosen;
  chosen = atom;
  if (news) showAtom();
  showRows();
  if (named) reveal(atom);
  if (named && narrow.matches) $("atom").focus({ preventScroll: true });
  document.title = named ? `Atom ${atom} – ${facts.title}` : facts.title;
}

function move(steps) {
  if (order.length === 0) return;
  const at = order.indexOf(chosen);
  const to = at < 0 ? 0 : Math.min(order.length - 1, Math.max(0, at + steps));
  go(order[to], false);
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("about").open) return;
  const typing = event.target.matches("input, select");
  if (event.key === "/" && !typing) {
    event.preventDefault();
    if (narrow.matches) goToTable();
    $("search").focus();
  } else if (event.key === "Escape" && narrow.matches && document.body.dataset.view === "atom") {
    goToTable();
  } else if (event.key === "Escape" && event.target === $("search")) {
    $("search").value = "";
    search();
  }
}

function onTableKey(event) {
  if (event.target !== $("grid") && event.target !== $("scroller")) return;
  const page = Math.max(1, Math.floor($("scroller").clientHeight / ROW) - 1);
  const steps = {
    ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity,
  }[event.key];
  if (steps !== undefined) {
    event.preventDefault();
    move(steps);
  } else if (event.key === "Enter") {
    go(chosen, true);
    $("atom").focus();
  }
}

function search() {
  query = $("search").value.trim();
  sorting.byMatch = query !== "";
  $("scroller").scrollTop = 0;
  find();
  refresh();
  if (!location.hash) follow();
  else if (chosen >= 0) showAtom(); // the words found are marked
}

// ----------------------------------------------------------------------------- the atom
function showAtom() {
  const atom = chosen;
  const used = facts.usage[atom] > 0;
  const article = $("atom");
  article.replaceChildren(topOf(atom), ...labelOf(atom), factsOf(atom, used));
  if (used) {
    article.append(...samplesOf(atom), within(make("div", "columns"), ...panelsOf(atom)));
  } else {
    article.append(...section("Not in use", "None of these samples uses this atom."),
      within(make("div", "columns"), panel(...neighborsOf(atom))));
  }
  article.scrollTop = 0;
}

function section(title, explanation) {
  const parts = [make("h3", "", title)];
  if (explanation) parts.push(make("p", "muted", explanation));
  return parts;
}

const panel = (...children) => within(make("section"), ...children);

function topOf(atom) {
  const name = make("h2", "", `Atom ${atom}`);
  name.id = "atom-name";
  const back = make("button", "quiet back", "‹ All atoms");
  back.onclick = goToTable;
  const steps = [["‹", -1, "Previous atom of the table"], ["›", 1, "Next atom of the table"]];
  const buttons = steps.map(([sign, by, label]) => {
    const button = make("button", "quiet", sign);
    button.title = label;
    button.setAttribute("aria-label", label);
    button.onclick = () => {
      move(by);
      $("atom").querySelector(`[aria-label="${label}"]`).focus();
    };
    return button;
  });
  const bar = within(make("div", "top"), back, name, ...buttons);
  for (const button of bar.querySelectorAll("button")) button.type = "button";
  return bar;
}

function labelOf(atom) {
  const label = facts.atom_labels?.[atom];
  if (!label) return [];
  const line = within(make("p", "atom-label"), make("bdi", "", label));
  if (facts.label_words) line.title = "The words most distinctive of its strongest samples";
  return [line];
}

function factsOf(atom, used) {
  const list = make("dl");
  const add = (key, note) => {
    const { name, title, about, value, show } = columnOf(key);
    const term = make("dt", "", name);
    term.title = `${title}. ${about}`;
    const detail = within(make("dd", "", show(value(atom))), make("small", "", note));
    list.append(within(make("div"), term, detail));
  };
  add("usage", `${count(facts.usage[atom])} of ${plural(facts.n_samples, "sample")}`);
  if (used) {
    add("mean_step", facts.ordered ? "its step, on average" : "by size, on average");
    add("mean_code", `largest ${short(part("example_codes", atom)[0])}`);
    add("energy", "of the energy of all codes");
    const loss = facts.r2_loss[atom];
    add("removal", "squared error of its samples" +
      (Number.isFinite(loss) ? `; R²\u00a0${loss > 0 ? "−" : "+"}${short(Math.abs(loss))}` : ""));
  }
  const nearest = part("neighbors", atom)[0];
  add("coherence", nearest >= 0 ? `with atom ${nearest}` : "there is no other atom");
  const box = make("div", "facts");
  if (facts.atom_shape) box.append(atomPicture(atom, "large"));
  box.append(list);
  if (weightsFirst()) box.append(weightsOf(atom));
  return box;
}

/** Whether weights say more than texts do: they have names, or there is nothing else. */
const weightsFirst = () => facts.features && (facts.names || !(facts.texts || facts.contexts));

/** The largest weights of an atom as bars, by name. */
function weightsOf(atom) {
  const weights = part("weights", atom);
  const features = part("features", atom);
  const most = Math.abs(weights[0]) || 1;
  const list = make("ol", "weights");
  list.setAttribute("aria-label", "Its largest weights");
  weights.forEach((weight, i) => {
    if (weight === 0) return;
    const label = make("bdi", "label", featureName(features[i]));
    label.title = label.textContent;
    const bar = make("i", weight < 0 ? "below" : "");
    bar.style.setProperty("--part", Math.abs(weight) / most);
    list.append(within(make("li"), label, within(make("span", "track"), bar),
      make("span", "value", fixed(weight, 2))));
  });
  return list;
}

// -------------------------------------------------------------------- strongest samples
function samplesOf(atom) {
  const examples = part("examples", atom);
  const codes = part("example_codes", atom);
  const shown = Array.from(examples, (sample, rank) => ({ sample, rank, code: codes[rank] }))
    .filter(({ sample }) => sample >= 0);
  const n = facts.usage[atom];
  const heading = section("Strongest samples",
    shown.length < n
      ? `Of the ${count(n)} samples that use it, those with the largest codes.`
      : "All samples that use it, by the size of their codes.");
  if (facts.picture) {
    const tiles = make("div", "tiles");
    shown.forEach((example) => tiles.append(pictureTile(example)));
    heading.push(tiles);
  }
  if (facts.profiles) {
    heading[1].textContent += " Bars: their values, less the mean, of the features with the " +
      "atom’s largest weights, in the order of these.";
    const tiles = make("div", "tiles profiles");
    shown.forEach((example) => tiles.append(profileTile(atom, example)));
    heading.push(tiles);
  }
  if (facts.contexts) heading[1].textContent += " Tokens are coloured by their codes.";
  if (facts.texts || facts.contexts) heading.push(textList(atom, shown));
  return heading;
}

function caption({ sample, code }) {
  const text = make("figcaption");
  text.append(make("b", "", short(code)));
  if (facts.labels) {
    const label = make("bdi", "label");
    label.title = facts.labels[sample];
    marked(label, facts.labels[sample], sample);
    text.append(label);
  }
  return text;
}

const nameOf = (sample) => `Sample ${facts.samples[sample]}`;

function pictureTile(example) {
  const tile = make("figure");
  tile.title = `${nameOf(example.sample)}, code ${short(example.code)}`;
  if (example.sample < facts.n_pictures && pixels.samples) {
    const canvas = paintSample(make("canvas"), example.sample);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", nameOf(example.sample));
    tile.append(canvas);
  } else {
    const why = pixels.samples ? "not in this file" : "…";
    tile.append(make("div", "missing", `${nameOf(example.sample)} ${why}`));
  }
  return within(tile, caption(example));
}

function profileTile(atom, example) {
  const width = facts.features.width;
  const values = part("profiles", atom).subarray(example.rank * width, (example.rank + 1) * width);
  const features = part("features", atom);
  const unit = facts.profile_scale[atom] / 127;
  const chart = draw("svg", { viewBox: `0 -25 ${width} 50`, preserveAspectRatio: "none", height: 50,
    role: "img", "aria-label": `${nameOf(example.sample)}: its values of the atom's features` });
  chart.append(draw("line", { class: "axis", x1: 0, x2: width, y1: 0, y2: 0 }));
  values.forEach((value, i) => {
    const size = (24 * Math.abs(value)) / 127;
    const bar = draw("rect", { class: value < 0 ? "below" : "above", x: i + 0.12, width: 0.76,
      y: value < 0 ? 0 : -size, height: size });
    bar.append(draw("title", {}, `${featureName(features[i])}: ${short(value * unit)} from the mean`));
    chart.append(bar);
  });
  const tile = within(make("figure"), chart, caption(example));
  if (!facts.labels) tile.querySelector("figcaption").append(` ${nameOf(example.sample).toLowerCase()}`);
  return tile;
}

function textList(atom, shown) {
  const list = make("ol", "texts");
  const most = Math.abs(shown[0].code);
  for (const { sample, code, rank } of shown) {
    const bar = make("i");
    bar.style.setProperty("--part", Math.abs(code) / most);
    const side = within(make("div", "code", short(code)), bar);
    side.title = `${nameOf(sample)}, code ${short(code)}`;
    const label = make("bdi", "label muted");
    if (facts.labels && !facts.picture) marked(label, facts.labels[sample], sample);
    const text = make("div", "text");
    text.dir = "auto";
    if (sample < facts.texts?.length) marked(text, facts.texts[sample], sample);
    else if (sample < facts.contexts?.length) writeContext(text, atom, sample, rank);
    else within(text, make("span", "muted", `${nameOf(sample)}: its text is not in this file`));
    list.append(within(make("li"), side, text, label));
  }
  return list;
}

/** Write a token within its context, each token on the colour of its code. */
function writeContext(element, atom, sample, rank) {
  element.classList.add("context");
  const [own, tokens] = facts.contexts[sample];
  const width = facts.context_codes.width / facts.examples.width;
  // Codes are of the tokens from so many on before the sample's own.
  const first = rank * width + facts.tokens_before - own;
  const codes = part("context_codes", atom);
  tokens.forEach((token, i) => {
    const code = codes[first + i];
    const span = make("span", code === 0 ? "" : code < 0 ? "below" : "above");
    if (code !== 0) span.style.setProperty("--part", Math.abs(code) / 127);
    if (i === own) span.classList.add("own");
    // The space before a word is part of its token, but gets no colour.
    const word = token.trimStart() || token;
    marked(span, word, sample);
    element.append(token.slice(0, token.length - word.length), span);
  });
}

/** Write a text, with what was searched for marked. */
function marked(element, text, sample) {
  if (!matches.samples?.[sample]) {
    element.textContent = text;
    return;
  }
  const lower = text.toLowerCase();
  const needle = query.toLowerCase();
  let at = 0;
  // Lower case may be longer than the text in some scripts: then nothing is marked.
  const found = lower.length === text.length;
  for (let next; found && (next = lower.indexOf(needle, at)) >= 0; at = next + needle.length) {
    element.append(text.slice(at, next), make("mark", "", text.slice(next, next + needle.length)));
  }
  element.append(text.slice(at));
}

// ------------------------------------------------------------------- histogram, relations
function panelsOf(atom) {
  const panels = [histogramOf(atom)];
  const relations = {
    before: ["Picked before it", "Atoms that the pursuit took earlier in the same samples: what this one refines."],
    after: ["Picked after it", "Atoms that it took later in the same samples: what refines this one."],
    with: ["Used with it", "Atoms that the same samples use."],
  };
  for (const [name, [title, about]] of Object.entries(relations)) {
    if (facts[name]) panels.push(relatedTo(atom, name, title, about));
  }
  panels.push(neighborsOf(atom));
  if (facts.features && !weightsFirst()) {
    panels.push([...section("Largest weights", "Of the features of its unit vector."), weightsOf(atom)]);
  }
  return panels.map((children) => panel(...children));
}

function histogramOf(atom) {
  const counts = part("histogram", atom);
  const [low, high] = part("code_range", atom);
  const most = Math.max(...counts);
  const width = (high - low) / counts.length;
  const chart = draw("svg", { viewBox: `0 0 ${counts.length} 100`, preserveAspectRatio: "none", height: 110,
    role: "img", "aria-label": `Histogram of the codes, from ${short(low)} to ${short(high)}` });
  counts.forEach((n, i) => {
    // What is there must be seen.
    const height = n ? Math.max(1.5, (100 * n) / most) : 0;
    const bar = draw("rect", { class: "bar", x: i + 0.06, width: 0.88, y: 100 - height, height });
    const range = `${short(low + i * width)} to ${short(low + (i + 1) * width)}`;
    bar.append(draw("title", {}, `${plural(n, "sample")} with a code from ${range}`));
    chart.append(bar);
  });
  chart.append(draw("line", { class: "axis", x1: 0, x2: counts.length, y1: 100, y2: 100 }));
  const scale = within(make("div", "scale"), make("span", "", short(low)), make("span", "", "code"),
    make("span", "", short(high)));
  return [...section("Codes", `How many samples have codes of each size; the highest bar is ${plural(most, "sample")}.`),
    within(make("div", "chart"), chart, scale)];
}

function relatedTo(atom, name, title, about) {
  const shared = part(`${name}_rows`, atom);
  const expected = part(`${name}_chance`, atom);
  const n = facts.usage[atom];
  const longest = Math.max(...shared);
  const list = otherAtoms(part(name, atom), (other, i) => ({
    length: shared[i] / longest, tick: expected[i] / longest, text: percent(shared[i] / n),
    hint: `In ${count(shared[i])} of the ${plural(n, "sample")} that use atom ${atom} ` +
      `(${percent(shared[i] / n)}); by chance it would be ${percent(expected[i] / n)}.`,
  }));
  if (!list) return section(title, "No atom more often than by chance.");
  return [...section(title, `${about} In what share of its samples; the tick is what chance would give.`), list];
}

function neighborsOf(atom) {
  const cosines = part("cosines", atom);
  const list = otherAtoms(part("neighbors", atom), (other, i) => ({
    length: Math.abs(cosines[i]), minus: cosines[i] < 0, text: fixed(cosines[i], 2),
    hint: `Cosine with atom ${other}: ${fixed(cosines[i], 3)}`,
  }));
  return list ? [...section("Most similar atoms", "By their cosine with this atom."), list] : [];
}

/** The number of an atom, and a word on what it is about where there is no picture. */
function nameWithHint(atom) {
  const name = make("span", "name", atom);
  const hint = hintOf(atom);
  return hint ? within(make("span", "named"), name, make("bdi", "hint", hint)) : name;
}

/** Atoms to go to, each with a bar; null if there are none. */
function otherAtoms(atoms, describe) {
  const list = make("ol", facts.atom_shape ? "others" : "others bare");
  atoms.forEach((other, i) => {
    if (other < 0) return;
    const { length, tick, minus, text, hint } = describe(other, i);
    const button = make("button");
    button.type = "button";
    button.title = hint;
    button.onclick = () => go(other, true);
    if (facts.atom_shape) button.append(atomPicture(other, "thumb"));
    const bar = make("i", minus ? "minus" : "");
    bar.style.setProperty("--part", length);
    const track = within(make("span", "track"), bar);
    if (tick !== undefined) {
      const mark = make("i", "tick");
      mark.style.setProperty("--tick", tick);
      track.append(mark);
    }
    button.append(nameWithHint(other), track, make("span", "value", text));
    button.setAttribute("aria-label", `Atom ${other}. ${hint}`);
    list.append(within(make("li"), button));
  });
  return list.children.length ? list : null;
}

// -------------------------------------------------------------------------- the heading
function describePage() {
  const { estimator, usage, n_samples: n, l0, r2 } = facts;
  $("summary").textContent = [
    estimator === facts.title ? null : estimator, plural(usage.length, "atom"), plural(n, "sample"),
    `${fixed(l0, 1)} atoms a sample`, r2 === null ? null : `R² ${fixed(r2, 3)}`,
  ].filter(Boolean).join(" · ");
  const searched = [
    facts.atom_labels ? "labels" : null,
    facts.texts || facts.contexts ? "the samples’ texts" : facts.labels ? "the samples’ labels" : null,
  ].filter(Boolean).join(", ") || (facts.names ? "features" : "");
  $("search").placeholder = searched ? `Search ${searched}, or an atom’s number` : "An atom’s number";

  const list = make("dl");
  for (const { name, title, about } of columns) {
    list.append(make("dt", "", `${name}: ${title.toLowerCase()}`), make("dd", "", about));
  }
  $("about-text").append(list);
  for (const note of notes()) $("about-text").append(make("p", "muted", note));
  const keys = make("p", "muted");
  for (const [key, does] of [["/", "search"], ["↑ ↓", "through the table"], ["Enter", "to the atom"], ["Esc", "back"]]) {
    keys.append(make("kbd", "", key), ` ${does}   `);
  }
  $("about-text").append(keys);
}

/** What the file has and has not. */
function notes() {
  const said = [];
  const n = facts.samples.length;
  said.push(`All numbers are of the ${plural(facts.n_samples, "sample")} that were passed; the ` +
    `${facts.examples.width} with the largest codes are shown of each atom, ${plural(n, "sample")} in all.`);
  const picture = facts.picture;
  if (picture) {
    if (facts.n_pictures < n) {
      said.push(`To keep the file small, it has the pictures of ${count(facts.n_pictures)} of them, ` +
        "those first that are an atom’s strongest.");
    }
    if (picture.reduced) said.push(`Pictures are reduced to ${picture.shape[1]} × ${picture.shape[0]} pixels.`);
    if (!picture.shape[2]) said.push(`In pictures of samples, black is ${short(picture.black)} and white is ${short(picture.white)}.`);
  }
  if (facts.texts) {
    if (facts.texts.length < n) said.push(`To keep the file small, it has the texts of ${count(facts.texts.length)} of them.`);
    said.push("Texts of more than 400 characters are cut.");
  }
  if (facts.contexts) {
    if (facts.contexts.length < n) said.push(`To keep the file small, it has the contexts of ${count(facts.contexts.length)} of them.`);
    said.push("Tokens are coloured by their codes for the atom shown, red above zero and blue below; the sample’s own is underlined.");
  }
  if (facts.label_words && facts.atom_labels) {
    said.push("An atom’s label is the words most distinctive of its strongest samples, by class-based TF-IDF; " +
      "it has none where they have no word in common.");
  }
  if (facts.atom_shape && !facts.atom_shape[2]) {
    said.push("In pictures of atoms, red is above zero and blue below; each is scaled to its largest weight.");
  }
  said.push(`Made by sklearn_mpsae ${facts.version}.`);
  return said;
}

// ------------------------------------------------------------------------------- start
function listen() {
  addEventListener("hashchange", follow);
  addEventListener("keydown", onKey);
  addEventListener("resize", () => {
    measure();
    showRows();
  });
  $("grid").addEventListener("keydown", onTableKey);
  $("scroller").addEventListener("scroll", showRows, { passive: true });
  $("search").addEventListener("input", search);
  $("used").addEventListener("change", refresh);
  $("sort").addEventListener("change", () => {
    const [key, down] = $("sort").value.split(" ");
    sortBy(key, down === "true");
  });
  $("about-open").addEventListener("click", () => $("about").showModal());
  $("about").addEventListener("click", (event) => {
    if (event.target === $("about")) $("about").close();
  });
  dark.addEventListener("change", () => {
    setColours();
    redraw();
  });
}

/** The head leaves as much room at its right as the table's scroll bar takes. */
function measure() {
  const scroller = $("scroller");
  $("head").style.setProperty("--scrollbar", `${scroller.offsetWidth - scroller.clientWidth}px`);
}

function redraw() {
  rows.forEach((row) => (row.at = -1));
  showRows();
  const at = $("atom").scrollTop;
  showAtom();
  $("atom").scrollTop = at;
}

async function start() {
  facts = read(await unpack("facts"));
  columns = theColumns();
  setColours();
  describePage();
  buildHead();
  listen();
  refresh();
  follow();
  measure();
  // The table is there; pictures follow.
  const kinds = { atoms: facts.atom_shape, samples: facts.picture };
  for (const kind of Object.keys(kinds).filter((kind) => kinds[kind])) {
    await new Promise((next) => requestAnimationFrame(() => setTimeout(next)));
    pixels[kind] = await unpack(kind);
    redraw();
  }
  document.body.dataset.ready = "yes";
}

start().catch((error) => {
  $("summary").textContent = `This page could not be opened (${error.message}). It needs a ` +
    "browser of 2023 or later; if yours is, the file may be damaged.";
  throw error;
});
