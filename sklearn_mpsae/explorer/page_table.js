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
  if (!facts.names) return "";
  return `${part("weights", atom)[0] < 0 ? "−" : "+"}${facts.names[part("features", atom)[0]]}`;
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
    cell.text.textContent = column.show ? column.show(value, atom) : value;
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
  if (chosen >= 0) showAtom(); // the words found are marked
}

