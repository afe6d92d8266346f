// -------------------------------------------------------------------------- the heading
function describePage() {
  const { estimator, usage, n_samples: n, l0, r2 } = facts;
  $("summary").textContent = [
    estimator === facts.title ? null : estimator, plural(usage.length, "atom"), plural(n, "sample"),
    `${fixed(l0, 1)} atoms a sample`, r2 === null ? null : `R² ${fixed(r2, 3)}`,
  ].filter(Boolean).join(" · ");
  $("search").placeholder = hasWords() ? "Search text, or an atom’s number" : "An atom’s number";
  $("covers").textContent = whatSearchCovers();

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

const hasWords = () =>
  facts.atom_labels || facts.texts || facts.contexts || facts.labels || (facts.names && facts.features);

/** What of the samples and atoms the search looks in; not in samples that no atom shows. */
function whatSearchCovers() {
  const n = facts.samples.length;
  const texts = (facts.texts ?? facts.contexts)?.length;
  const shown = `${count(n)} of ${plural(facts.n_samples, "sample")}: those that the page shows`;
  const covered = [
    texts === undefined ? null : `${facts.texts ? "texts" : "contexts"}${texts < n ? ` (of ${count(texts)})` : ""}`,
    facts.labels ? "labels" : null,
  ].filter(Boolean).join(" and ");
  return "Search covers " + [
    covered ? `the ${covered} of ${shown}` : null,
    facts.atom_labels ? "the atoms’ labels" : null,
    facts.names && facts.features ? `the names of each atom’s ${count(facts.features.width)} largest weights` : null,
    "the atoms’ numbers",
  ].filter(Boolean).join("; ") + ".";
}

/** What the file has and has not. */
function notes() {
  const said = [];
  const n = facts.samples.length;
  said.push(`All numbers are of the ${plural(facts.n_samples, "sample")} that were passed; the ` +
    `${facts.groups[0]} with the largest codes are shown of each atom, ${facts.groups[1]} with middling and ` +
    `${facts.groups[2]} with weak ones, ${plural(n, "sample")} in all.`);
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
