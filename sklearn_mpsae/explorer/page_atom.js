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
    const detail = within(make("dd", "", show(value(atom), atom)), make("small", "", note));
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
  const relation = isOpposite(signedCoherence(atom)) ? "opposite of" : "with";
  add("coherence", nearest >= 0 ? `${relation} atom ${nearest}` : "there is no other atom");
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

// --------------------------------------------------------------------- samples of groups
/** The samples with the largest codes, with middling and with weak ones: see examples_of. */
function samplesOf(atom) {
  const n = facts.usage[atom];
  const titles = [
    ["Strongest samples", n > facts.groups[0]
      ? `Of the ${count(n)} samples that use it, those with the largest codes.`
      : "All samples that use it, by the size of their codes."],
    ["Middling samples", "With codes near the median of its codes."],
    ["Weak samples", "With codes near the lowest tenth: of its samples, nine in ten have larger codes."],
  ];
  let first = 0;
  return facts.groups.flatMap((width, group) => {
    const shown = examplesOf(atom).slice(first, (first += width)).filter(({ sample }) => sample >= 0);
    return shown.length ? groupOf(atom, shown, ...titles[group]) : [];
  });
}

/** All that is shown of an atom: samples, -1 where there are too few, with their codes. */
function examplesOf(atom) {
  const codes = part("example_codes", atom);
  return Array.from(part("examples", atom), (sample, place) => ({ sample, place, code: codes[place] }));
}

function groupOf(atom, shown, title, explanation) {
  const heading = section(title, explanation);
  if (facts.picture) {
    const tiles = make("div", "tiles");
    shown.forEach((example) => tiles.append(pictureTile(example)));
    heading.push(tiles);
  }
  if (facts.profiles) {
    if (shown[0].place === 0) {
      heading[1].textContent += " Bars: their values, less the mean, of the features with the " +
        "atom’s largest weights, in the order of these.";
    }
    const tiles = make("div", "tiles profiles");
    shown.forEach((example) => tiles.append(profileTile(atom, example)));
    heading.push(tiles);
  }
  if (facts.contexts && shown[0].place === 0) heading[1].textContent += " Tokens are coloured by their codes.";
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
  const values = part("profiles", atom).subarray(example.place * width, (example.place + 1) * width);
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
  const most = Math.abs(part("example_codes", atom)[0]);
  for (const { sample, code, place } of shown) {
    const bar = make("i");
    bar.style.setProperty("--part", Math.abs(code) / most);
    const side = within(make("div", "code", short(code)), bar);
    side.title = `${nameOf(sample)}, code ${short(code)}`;
    const label = make("bdi", "label muted");
    if (facts.labels && !facts.picture) marked(label, facts.labels[sample], sample);
    const text = make("div", "text");
    text.dir = "auto";
    if (sample < facts.texts?.length) marked(text, facts.texts[sample], sample);
    else if (sample < facts.contexts?.length) writeContext(text, atom, sample, place);
    else within(text, make("span", "muted", `${nameOf(sample)}: its text is not in this file`));
    list.append(within(make("li"), side, text, label));
  }
  return list;
}

/** Write a token within its context, each token on the colour of its code. */
function writeContext(element, atom, sample, place) {
  element.classList.add("context");
  const [own, tokens] = facts.contexts[sample];
  const width = facts.context_codes.width / facts.examples.width;
  // Codes are of the tokens from so many on before the sample's own.
  const first = place * width + facts.tokens_before - own;
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
    length: Math.abs(cosines[i]), minus: cosines[i] < 0,
    text: `${isOpposite(cosines[i]) ? "opposite " : ""}${fixed(cosines[i], 2)}`,
    hint: `${isOpposite(cosines[i]) ? "Opposite. " : ""}Cosine with atom ${atom}: ${fixed(cosines[i], 3)}`,
  }));
  const about = "By the size of their cosine with this atom." +
    (cosines.some((cosine) => cosine < 0) ? " Grey bars are below zero: their weights have the other sign." : "");
  return list ? [...section("Most similar atoms", about), list] : [];
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

