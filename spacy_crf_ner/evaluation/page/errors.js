// Documents with gold and predictions side by side, and what begins when the page is there.

const KINDS = {
  exact: ["✓", "right: same label, same characters"], label: ["≠", "other label on the same characters"],
  borders: ["↔", "same label, other borders"], overlap: ["≈", "other label and other borders"],
  missed: ["−", "gold that nothing was found for"], spurious: ["+", "predicted where gold has nothing"],
  ignored: ["·", "predicted where it is not known what is right"],
};
const ORDERS = {
  file: "as in the file", most: "most matches first", lowest: "lowest F1 first", surest: "surest prediction first", unsure: "least sure prediction first",
};
// Of two models: whose entities are listed, and which of them.
const VIEWS = {"": "first", other: "other", fixed: "fixed by the other", broken: "broken by the other", both: "wrong in both"};
const SIDES = ["gold", "predicted", "other"];
// What filters are where nothing is set; the address has what differs.
const DEFAULTS = {
  part: "", view: "", kinds: "label,borders,overlap,missed,spurious", label: "", gold: "", predicted: "", low: "0", high: "1", seen: "", q: "", in: "entities",
  show: "matches", order: "file", page: "1",
};
const PAGE_DOCUMENTS = 20, PAGE_MATCHES = 120, WHOLE = 700, AROUND = 150;
const COLOURS = 8;

/** Fields of an entity. extra: its id in the file, or its probability. */
const entity = ([start, length, label, match, other, seen, extra, fragments]) =>
  ({start, end: start + length, label, match, other, seen, extra, pieces: fragments ?? [[start, start + length]]});

/** A document with its entities, of gold and of each model, and the pairs that each view lists. */
function unpacked([part, id, about, text, exact, ...sides], number, matches) {
  const document = {number, part, id, about, text, exact, sides: sides.map(side => side.map(entity))};
  const [gold, first, other] = document.sides, [exactly, ignored] = ["exact", "ignored"].map(name => matches.indexOf(name));
  const pairs = pairsOf(gold, first, other ?? [], matches.indexOf("missed"));
  document.views = {"": pairs};
  if (!other) return document;
  const others = pairsOf(gold, other, first, matches.indexOf("missed"));
  for (const {g, kind} of others) if (g) g.second = kind;
  // a model is right of gold that it has found exactly, and of what is not gold if it has not found it
  const right = ({g, kind}) => g !== null && kind === exactly, rival = ({g, q}) => g ? q?.match === exactly : q === null;
  const wrong = pair => !right(pair) && pair.kind !== ignored;
  document.views = {"": pairs, other: others, fixed: pairs.filter(pair => wrong(pair) && rival(pair)),
    broken: others.filter(pair => wrong(pair) && rival(pair)), both: pairs.filter(pair => wrong(pair) && !rival(pair))};
  return document;
}

/** Gold with what a model took for it (p, null: nothing) and what the other did (q), and what it found beside, in the order of the text. */
function pairsOf(gold, mine, theirs, missed) {
  const key = one => `${one.label} ${one.pieces}`, byGold = side => new Map(side.filter(one => one.other >= 0).map(one => [one.other, one]));
  const [taken, theirsTaken] = [mine, theirs].map(byGold), same = new Map(theirs.map(one => [key(one), one]));
  const pairs = [
    ...gold.map((g, i) => ({g, p: taken.get(i) ?? null, q: theirsTaken.get(i) ?? null, kind: taken.get(i)?.match ?? missed})),
    ...mine.filter(p => p.other < 0).map(p => ({g: null, p, q: same.get(key(p)) ?? null, kind: p.match})),
  ];
  for (const pair of pairs) pair.start = Math.min(pair.g?.start ?? Infinity, pair.p?.start ?? Infinity);
  return pairs.sort((a, b) => a.start - b.start);
}

/** Entities of a pair, those that there are. */
const sides = ({g, p, q}) => [g, p, q].filter(item => item);

/** Stretches that pieces cover, in order, apart. */
function merged(pieces) {
  const found = [];
  for (const {start, end} of [...pieces].sort((a, b) => a.start - b.start)) {
    const last = found[found.length - 1];
    if (last && start < last[1]) last[1] = Math.max(last[1], end); else found.push([start, end]);
  }
  return found;
}

/** For each line the pieces that are in it, also in part. */
function perLine(lines, pieces) {
  const found = lines.map(() => []);
  for (const piece of pieces) {
    let low = 0, high = lines.length;
    while (low < high) { const middle = (low + high) >> 1; if (lines[middle][1] <= piece.start) low = middle + 1; else high = middle; }
    for (; low < lines.length && lines[low][0] < piece.end; low++) found[low].push(piece);
  }
  return found;
}

/** How many characters stand before an offset, as files count them: those that take two units here are one. */
function characters(document, offset) {
  document.astral ??= [...document.text.matchAll(/[\ud800-\udbff][\udc00-\udfff]/g)].map(found => found.index);
  let low = 0, high = document.astral.length;
  while (low < high) { const middle = (low + high) >> 1; if (document.astral[middle] < offset) low = middle + 1; else high = middle; }
  return offset - low;
}

class Browser {
  constructor(parent, data, models) {
    this.data = data;
    this.models = ["", ...models];
    this.parts = data.parts;
    this.documents = data.documents.map((one, number) => unpacked(one, number, data.matches));
    this.compared = data.metrics.comparison && this.documents.some(one => one.sides.length > 2);
    this.state = {...DEFAULTS};
    const place = this.place = section(parent, "Documents and errors", "errors");
    this.notices(place);
    this.controls = {};
    this.filters(place);
    this.legend(place);
    this.result = make(place, "p", {id: "result", role: "status"});
    this.pager = make(place, "div", {class: "tools", role: "group", "aria-label": "Pages"});
    this.list = make(place, "div", {role: "feed", "aria-label": "Documents"});
    this.bottom = make(place, "div", {class: "tools", role: "group", "aria-label": "Pages, again"});
    this.details = make(place, "div", {id: "details", role: "status", "aria-live": "polite"});
    document.addEventListener("keydown", event => this.key(event));
    addEventListener("hashchange", () => this.read());
    this.read();
  }

  notices(place) {
    const left = Object.entries(this.data.left_out);
    if (left.length)
      make(place, "p", {class: "notice", id: "left-out"}, `So that this page stays below 5 MB, documents are not in it: `
        + left.map(([part, n]) => `${count(n)} of ${count(this.data.metrics.parts[part].documents)} of ${part}`).join(", ")
        + ". Those without errors were left out first. All are in predictions.jsonl, and all scores above count them.");
  }

  // What is asked for

  filters(place) {
    const form = make(place, "form", {class: "filters", role: "search", "aria-label": "Filters", onsubmit: event => event.preventDefault()});
    const field = (key, name, parent = form) => { const label = make(parent, "label"); make(label, "span", {}, name); return label; };
    const select = (key, name, options) => {
      const found = this.controls[key] = make(field(key, name), "select", {name: key, onchange: () => this.set({[key]: found.value})});
      for (const [value, text] of options) make(found, "option", {value}, text);
    };
    const names = this.data.labels.map(label => [`=${label}`, named(label)]);
    const kinds = make(form, "fieldset", {class: "wide"}), boxes = make(kinds, "div", {class: "boxes"});
    make(kinds, "legend", {}, "What happened");
    kinds.prepend(kinds.lastChild);
    this.boxes = {};
    for (const kind of this.data.matches) {
      const label = make(boxes, "label", {title: KINDS[kind][1]});
      this.boxes[kind] = make(label, "input", {type: "checkbox", name: kind, onchange: () => this.set({
        kinds: this.data.matches.filter(name => this.boxes[name].checked).join(",")})});
      make(label, "span", {class: "kind"}, ` ${KINDS[kind][0]} ${kind} `);
      label.counted = make(label, "span", {class: "soft"});
    }
    if (this.parts.length > 1) select("part", "Part", [["", "all"], ...this.parts.map(name => [name, name])]);
    if (this.compared) select("view", "Model", Object.entries(VIEWS));
    select("label", "Label, of either side", [["", "any"], ...names]);
    select("gold", "Gold label", [["", "any"], ["some", "something"], ["none", "nothing"], ...names]);
    select("predicted", "Predicted label", [["", "any"], ["some", "something"], ["none", "nothing"], ...names]);
    if (this.documents.some(one => one.sides.some(side => side.some(item => item.seen >= 0))))
      select("seen", "In training data", [["", "both"], ["1", "seen"], ["0", "not seen"]]);
    const range = make(form, "fieldset"), both = make(range, "div", {class: "range"});
    range.prepend(make(null, "legend", {}, "Probability of the prediction"));
    for (const [key, name] of [["low", "Lowest probability"], ["high", "Highest probability"]]) {
      const found = this.controls[key] = make(both, "input", {type: "number", name: key, min: 0, max: 1, step: "any", "aria-label": name,
        onchange: () => this.set({[key]: found.value === "" ? DEFAULTS[key] : String(Math.min(1, Math.max(0, Number(found.value) || 0)))})});
      if (key === "low") both.append("to");
    }
    const search = this.controls.q = make(field("q", "Search"), "input", {type: "search", name: "q", autocomplete: "off", oninput: () => {
      clearTimeout(this.waits);
      this.waits = setTimeout(() => this.set({q: search.value}), 150);
    }});
    select("in", "Search in", [["entities", "entities"], ["documents", "whole documents, and their names"]]);
    select("show", "Documents", [["matches", "that have matches"], ["all", "all"]]);
    select("order", "Order", Object.entries(ORDERS));
    const reset = make(form, "div");
    make(reset, "button", {type: "button", name: "reset", onclick: () => this.set({...DEFAULTS, page: "1"})}, "Clear filters");
  }

  legend(place) {
    const keys = make(place, "p", {class: "note keys"});
    for (const [key, what] of [["j", "next match, "], ["k", "the one before; "], ["↓", ""], ["↑", "the same on an entity; "], ["/", "search; "], ["Esc", "back to the filters."]]) {
      make(keys, "kbd", {}, key);
      keys.append(` ${what}`);
    }
    make(place, "p", {class: "note"}, "Each entity has its label and a sign: ",
      ...Object.entries(KINDS).map(([kind, [sign]]) => `${sign} ${kind}`).join(", ") + ". Entities that do not match the filters are underlined only. ",
      this.compared ? `First: ${this.models[1]}; other: ${this.models[2]}. Gold has the sign of the first and that of the other. `
        + "Fixed by the other: the first is wrong there, and the other is right. " : "",
      this.data.labels.length > COLOURS ? `${COLOURS} colours are shared by ${this.data.labels.length} labels.` : "");
  }

  /** Filters from the address. */
  read() {
    const given = new URLSearchParams(location.hash.slice(1));
    this.state = Object.fromEntries(Object.entries(DEFAULTS).map(([key, value]) => [key, given.get(key) ?? value]));
    const known = (key, values) => { if (!values.includes(this.state[key])) this.state[key] = DEFAULTS[key]; };
    for (const [key, control] of Object.entries(this.controls))
      if (control instanceof HTMLSelectElement) known(key, [...control.options].map(option => option.value));
    if (!this.compared) this.state.view = "";
    for (const key of ["low", "high"]) if (!(Number(this.state[key]) >= 0 && Number(this.state[key]) <= 1)) this.state[key] = DEFAULTS[key];
    this.update();
  }

  /** Change filters; other filters than the page begin at its first. */
  set(changes) {
    const before = location.hash;
    Object.assign(this.state, {page: "1"}, changes);
    const kept = Object.entries(this.state).filter(([key, value]) => value !== DEFAULTS[key]);
    const hash = new URLSearchParams(kept).toString();
    if (`#${hash}` !== before) history.replaceState(null, "", `#${hash}`);
    this.update();
  }

  test() {
    const {state, data} = this, kinds = new Set(state.kinds.split(",").map(kind => data.matches.indexOf(kind)));
    const low = Number(state.low) || 0, high = Number(state.high), anyProbability = low <= 0 && high >= 1;
    const number = value => data.labels.indexOf(value.slice(1)), either = state.label ? number(state.label) : null;
    const fits = (wanted, item) => !wanted || (wanted === "none" ? !item : wanted === "some" ? item !== null : item !== null && item.label === number(wanted));
    const query = state.q.trim().toLowerCase();
    const says = (document, item) => item !== null
      && item.pieces.map(([start, end]) => document.text.slice(start, end)).join(" ").toLowerCase().replace(/\s+/g, " ").includes(query);
    const inDocument = document => (document.lower ??= [document.id, JSON.stringify(document.about), document.text].join("\n").toLowerCase()).includes(query);
    return {
      kinds,
      document: document => (!state.part || this.parts[document.part] === state.part) && (state.in !== "documents" || !query || inDocument(document)),
      // all but what happened, so that boxes can say how many there are of each
      pair: (document, pair) =>
        (either === null || pair.g?.label === either || pair.p?.label === either)
        && fits(state.gold, pair.g) && fits(state.predicted, pair.p)
        && (anyProbability || (pair.p !== null && pair.p.extra !== null && pair.p.extra >= low && pair.p.extra <= high))
        && (!state.seen || [pair.g ?? pair.p].some(item => item.seen === Number(state.seen)))
        && (state.in !== "entities" || !query || says(document, pair.g) || says(document, pair.p)),
    };
  }

  /** Find what matches, and show its page. */
  update() {
    const {state, controls} = this, test = this.test(), counts = this.data.matches.map(() => 0);
    for (const [key, control] of Object.entries(controls)) if (control !== document.activeElement || key !== "q") control.value = state[key];
    this.found = [];
    for (const one of this.documents) {
      if (!test.document(one)) continue;
      const matches = [];
      for (const pair of one.views[state.view] ?? []) {
        if (!test.pair(one, pair)) continue;
        counts[pair.kind]++;
        if (test.kinds.has(pair.kind)) matches.push(pair);
      }
      if (matches.length || state.show === "all") this.found.push({document: one, matches});
    }
    this.data.matches.forEach((kind, i) => {
      this.boxes[kind].checked = test.kinds.has(i);
      this.boxes[kind].parentNode.counted.textContent = count(counts[i]);
    });
    this.sort();
    this.starts = [0];
    let weight = 0;
    this.found.forEach(({matches}, i) => {
      const first = this.starts[this.starts.length - 1];
      if (i > first && (i - first >= PAGE_DOCUMENTS || weight + matches.length > PAGE_MATCHES)) {
        this.starts.push(i);
        weight = 0;
      }
      weight += matches.length;
    });
    this.total = this.found.reduce((sum, {matches}) => sum + matches.length, 0);
    this.page = Math.min(Math.max(1, Math.floor(Number(state.page)) || 1), this.starts.length) - 1;
    this.draw();
  }

  sort() {
    const sure = ({matches}) => matches.map(pair => pair.p?.extra ?? null).filter(p => p !== null);
    const f = ({document: {exact: [correct, predicted, gold]}}) => predicted + gold ? 2 * correct / (predicted + gold) : 2;
    const by = {
      most: one => -one.matches.length, lowest: f,
      surest: one => -Math.max(-1, ...sure(one)), unsure: one => Math.min(2, ...sure(one)),
    }[this.state.order];
    if (!by) return;
    const keys = new Map(this.found.map(one => [one, by(one)]));
    this.found.sort((a, b) => keys.get(a) - keys.get(b));
  }

  // What is shown

  draw() {
    const first = this.starts[this.page], last = this.starts[this.page + 1] ?? this.found.length;
    this.result.textContent = this.found.length
      ? `${count(this.total)} ${this.total === 1 ? "match" : "matches"} in ${count(this.found.length)} ${this.found.length === 1 ? "document" : "documents"}`
        + ` of ${count(this.documents.length)}; shown: ${count(first + 1)}${last === first + 1 ? "" : ` to ${count(last)}`}`
      : `Nothing matches, in ${count(this.documents.length)} documents.`;
    this.before = this.found.slice(0, first).reduce((sum, {matches}) => sum + matches.length, 0);
    for (const place of [this.pager, this.bottom]) this.pages(place);
    this.marks = new Map();
    this.shown = [];
    this.current = -1;
    this.list.replaceChildren();
    this.found.slice(first, last).forEach((one, i) => this.card(one, first + i));
    this.shown.forEach((match, i) => this.ends(match).forEach(mark => this.listen(mark, match, i)));
    const start = this.shown.length ? this.ends(this.shown[0])[0] : null;
    if (start) start.tabIndex = 0;
    this.tell(null);
  }

  pages(place) {
    place.replaceChildren();
    if (this.starts.length < 2) return;
    const go = page => { this.set({page: String(page + 1)}); this.result.scrollIntoView({block: "start"}); };
    const button = (text, page, label) => make(place, "button", {type: "button", "aria-label": label, disabled: page < 0 || page >= this.starts.length, onclick: () => go(page)}, text);
    button("« First", this.page ? 0 : -1, "First page");
    button("‹ Before", this.page - 1, "Page before");
    make(place, "span", {}, `page ${count(this.page + 1)} of ${count(this.starts.length)}`);
    button("Next ›", this.page + 1, "Next page");
    button("Last »", this.page + 1 < this.starts.length ? this.starts.length - 1 : -1, "Last page");
  }

  card({document: one, matches}, place) {
    const card = make(this.list, "article", {class: "document", "aria-posinset": place + 1, "aria-setsize": this.found.length, "aria-label": `Document ${one.id}`});
    const head = make(card, "header"), rows = make(card, "div", {class: "rows"});
    make(head, "h4", {}, one.id || `document ${one.number + 1}`);
    const [correct, predicted, gold] = one.exact, about = Object.entries(one.about).map(([key, value]) => `${key}: ${typeof value === "string" ? value : JSON.stringify(value)}`);
    make(head, "span", {class: "soft"}, [...(this.parts.length > 1 ? [this.parts[one.part]] : []), ...about,
      `${count(gold)} gold, ${count(predicted)} predicted, ${count(correct)} right${this.compared ? " by the first" : ""}`, `${count(matches.length)} ${matches.length === 1 ? "match" : "matches"}`].join(" · "));
    const active = new Set(matches.flatMap(sides));
    const offset = this.shown.length;
    const windows = this.windows(one, matches);
    if (windows.length > 1 || windows[0][0] > 0 || windows[0][1] < one.text.length) {
      const button = make(head, "button", {type: "button", "aria-expanded": "false", onclick: () => {
        const open = button.getAttribute("aria-expanded") === "false";
        button.setAttribute("aria-expanded", String(open));
        button.textContent = open ? "Only around matches" : "Whole text";
        this.text(rows, one, active, open ? [[0, one.text.length]] : windows);
        matches.forEach((pair, i) => this.ends({document: one, pair}).forEach(mark => this.listen(mark, this.shown[offset + i], offset + i)));
      }}, "Whole text");
    }
    this.text(rows, one, active, windows);
    for (const pair of matches) this.shown.push({document: one, pair});
  }

  /** Stretches of a long text around what matches. */
  windows({text}, matches) {
    if (text.length <= WHOLE) return [[0, text.length]];
    const found = [];
    for (const pair of matches) for (const item of sides(pair)) found.push(...item.pieces.map(piece => [...piece]));
    if (!found.length) return [[0, this.edge(text, WHOLE, 1)]];
    found.sort((a, b) => a[0] - b[0]);
    const wide = [];
    for (const [start, end] of found) {
      const a = start <= AROUND ? 0 : this.edge(text, start - AROUND, -1), b = this.edge(text, end + AROUND, 1), last = wide[wide.length - 1];
      if (last && a <= last[1] + 60) last[1] = Math.max(last[1], b); else wide.push([a, b]);
    }
    return wide;
  }

  /** The next end of a word, at most 40 characters away, and never between the halves of a character. */
  edge(text, at, step) {
    at = Math.min(Math.max(0, at), text.length);
    let found = at;
    while (found > 0 && found < text.length && Math.abs(found - at) < 40 && !/\s/.test(text[found])) found += step;
    if (step < 0 && /\s/.test(text[found])) found++;
    return found > 0 && found < text.length && /[\udc00-\udfff]/.test(text[found]) ? found - 1 : found;
  }

  text(parent, one, active, windows) {
    parent.replaceChildren();
    parent.style.setProperty("--sides", one.sides.length);
    const names = make(parent, "div", {class: "sides names", "aria-hidden": "true"}), called = one.sides.map((side, i) => this.side(i));
    called.forEach((name, i) => make(names, "div", {title: this.compared && i ? this.models[i] : null}, name));
    const pieces = one.sides.map(side => side.flatMap(item => item.pieces.map(([start, end], i) => ({item, start, end, last: i === item.pieces.length - 1}))));
    const whole = merged(pieces.flat());
    let at = 0;
    for (const [start, end] of [...windows, [one.text.length, one.text.length]]) {
      if (start > at) make(parent, "div", {class: "gap"}, `… ${count(start - at)} characters …`);
      const lines = this.lines(one.text, start, end, whole), byLine = pieces.map(side => perLine(lines, side));
      lines.forEach(([a, b], n) => {
        const line = make(parent, "div", {class: "sides"});
        byLine.forEach((side, i) => this.run(make(line, "div", {"data-side": SIDES[i], role: "group", "aria-label": called[i]}), one.text, a, b, side[n], active, i));
      });
      at = end;
    }
  }

  /** What a side is called. */
  side(i) {
    return this.compared ? ["gold", "predicted, first", "predicted, other"][i] : SIDES[i];
  }

  /** Cut a stretch at its lines and sentences, so that all sides stay level; never inside an entity. whole: what may not be cut, in order. */
  lines(text, start, end, whole) {
    const found = [];
    let from = start, next = 0;
    for (const cut of text.slice(start, end).matchAll(/\n+|[.!?]["')\]]*\s+/g)) {
      const at = start + cut.index + cut[0].length;
      while (next < whole.length && whole[next][1] <= at) next++;
      if (at >= end || (!cut[0].includes("\n") && at - from < 160) || (next < whole.length && whole[next][0] < at)) continue;
      found.push([from, at]);
      from = at;
    }
    if (from < end) found.push([from, end]);
    return found.filter(([a, b]) => text.slice(a, b).trim());
  }

  /** Text with its entities; those that overlap are one inside the other as far as they go. */
  run(cell, text, a, b, pieces, active, side) {
    const cuts = [...new Set([a, b, ...pieces.flatMap(({start, end}) => [Math.max(a, start), Math.min(b, end)])])].sort((x, y) => x - y);
    const stack = [], theirs = ["other", "broken"].includes(this.state.view);
    const match = item => this.data.matches[theirs ? item.second ?? item.match : item.match];
    const signs = item => [item.match, ...(item.second === undefined ? [] : [item.second])].map(kind => KINDS[this.data.matches[kind]][0]);
    const close = n => {
      while (stack.length > n) {
        const {piece, mark, done} = stack.pop();
        if (done && piece.last) make(mark, "span", {class: "tag"}, [named(this.data.labels[piece.item.label]), ...signs(piece.item)].join(" "));
      }
    };
    for (let i = 0; i + 1 < cuts.length; i++) {
      const [from, to] = [cuts[i], cuts[i + 1]];
      const here = pieces.filter(({start, end}) => start <= from && end >= to).sort((x, y) => x.start - y.start || y.end - x.end);
      let same = 0;
      while (same < stack.length && stack[same].piece === here[same]) same++;
      close(same);
      for (const piece of here.slice(same)) {
        const {item} = piece, parent = stack.length ? stack[stack.length - 1].mark : cell;
        const mark = make(parent, "mark", {class: `${match(item)}${active.has(item) ? "" : " other"}`,
          style: `--colour: var(--c${item.label % COLOURS}); --depth: ${here.length - 1 - stack.length}`});
        const all = this.marks.get(item) ?? [];
        this.marks.set(item, [...all.filter(old => old.isConnected), mark]);
        stack.push({piece, mark, done: false});
      }
      for (const open of stack) open.done = open.piece.end <= to;
      (stack.length ? stack[stack.length - 1].mark : cell).append(text.slice(from, to).replace(/\n+$/, ""));
    }
    close(0);
  }

  // Matches one by one

  /** First marks of a pair on each side that it has. */
  ends({pair}) {
    return sides(pair).flatMap(item => (this.marks.get(item) ?? []).slice(0, 1));
  }

  listen(mark, match, i) {
    const {pair, document: one} = match;
    mark.tabIndex = -1;
    mark.setAttribute("role", "button");
    mark.setAttribute("aria-label", this.sentence(one, pair));
    mark.onfocus = event => { event.stopPropagation(); this.select(i, mark); };
    mark.onclick = event => { event.stopPropagation(); mark.focus({preventScroll: true}); };
    // what follows of the same entity leads to its beginning
    for (const item of sides(pair)) {
      const [first, ...rest] = this.marks.get(item) ?? [];
      if (first === mark) for (const other of rest) other.onclick = mark.onclick;
    }
  }

  sentence(one, {g, p, q, kind}) {
    const said = item => item.pieces.map(([start, end]) => one.text.slice(start, end)).join(" … ").replace(/\s+/g, " ");
    const seen = item => item.seen < 0 ? "" : item.seen ? ", in the training data" : ", not in the training data";
    const at = offset => characters(one, offset);
    const place = item => `characters ${item.pieces.map(([start, end]) => `${at(start)}–${at(end)}`).join(", ")}`;
    const parts = [KINDS[this.data.matches[kind]][1]];
    if (g) parts.push(`gold ${named(this.data.labels[g.label])} “${said(g)}” (${[g.extra, place(g)].filter(text => text).join(", ")}${seen(g)})`);
    const predicted = item => `${named(this.data.labels[item.label])} “${said(item)}” `
      + `(${item.extra === null ? "no probability" : `probability ${item.extra.toFixed(3)}`}, ${place(item)}${seen(item)})`;
    const theirs = ["other", "broken"].includes(this.state.view), [mine, rival] = theirs ? ["other", "first"] : ["first", "other"];
    if (p) parts.push(`predicted ${this.compared ? `by the ${mine} ` : ""}${predicted(p)}`);
    if (this.compared) parts.push(q ? `by the ${rival} ${predicted(q)}` : `by the ${rival} nothing`);
    return parts.join("; ");
  }

  select(i, focused) {
    for (const mark of this.list.querySelectorAll("mark.current, mark.pair")) mark.classList.remove("current", "pair");
    for (const mark of this.list.querySelectorAll('mark[tabindex="0"]')) mark.tabIndex = -1;
    this.current = i;
    const match = this.shown[i];
    for (const item of sides(match.pair)) for (const mark of this.marks.get(item) ?? []) mark.classList.add("pair");
    focused.classList.add("current");
    focused.tabIndex = 0;
    this.tell(match);
  }

  tell(match) {
    this.details.replaceChildren();
    this.details.hidden = !match;
    if (!match) return;
    const line = make(this.details, "p");
    make(line, "b", {}, `${count(this.before + this.current + 1)} of ${count(this.total)}`);
    const kind = this.data.matches[match.pair.kind];
    line.append(` · ${KINDS[kind][0]} ${kind}: ${this.sentence(match.document, match.pair)} · ${match.document.id}`);
  }

  /** Go to the match so many further, over pages. */
  step(by) {
    if (!this.total) return;
    this.place.open = true;
    let next = this.current < 0 && by < 0 ? -1 : this.current + by;
    if (next < 0 || next >= this.shown.length) {
      let page = this.page;
      do page += by; while (this.starts[page] !== undefined && !this.matchesOn(page));
      if (this.starts[page] === undefined) return;
      this.set({page: String(page + 1)});
      next = by > 0 ? 0 : this.shown.length - 1;
    }
    const [mark] = this.ends(this.shown[next]);
    mark.focus({preventScroll: true});
    mark.scrollIntoView({block: "center"});
  }

  matchesOn(page) {
    return this.found.slice(this.starts[page], this.starts[page + 1]).some(({matches}) => matches.length);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const onMark = event.target.closest?.("mark") && this.list.contains(event.target);
    if (event.target.closest?.("input, select, textarea")) return;
    const step = {j: 1, k: -1}[event.key] ?? (onMark ? {ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1}[event.key] : undefined);
    if (step) this.step(step);
    else if (event.key === "/") { this.place.open = true; this.controls.q.focus(); }
    else if (event.key === "Escape" && onMark) { this.controls.q.focus(); this.controls.q.scrollIntoView({block: "center"}); }
    else return;
    event.preventDefault();
  }

  /** Show what a cell or a label of a part has. */
  search(part, filters) {
    const wanted = Object.fromEntries(Object.entries(filters).map(([key, value]) => [key, key === "label" ? `=${value}` : value]));
    this.set({...DEFAULTS, part: this.parts.length > 1 ? part : "", kinds: this.data.matches.filter(kind => kind !== "ignored").join(","), ...wanted});
    this.enter();
  }

  /** Go to its beginning. */
  enter() {
    this.place.open = true;
    this.place.scrollIntoView({block: "start"});
    this.place.querySelector("summary").focus({preventScroll: true});
  }
}

// The page

async function read(element) {
  const text = element.textContent;
  if (!element.dataset.packed) return JSON.parse(text);
  if (!("DecompressionStream" in window)) throw new Error("This browser is too old to unpack the page's data: Chrome 80, Firefox 113, Safari 16.4 or newer can.");
  const bytes = Uint8Array.from(atob(text), character => character.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream(element.dataset.packed))).json();
}

/** Light or dark, as the system says until somebody says otherwise. */
function theme() {
  const button = document.getElementById("theme"), system = matchMedia("(prefers-color-scheme: dark)");
  const store = (...value) => { try { return value.length ? localStorage.setItem("theme", value[0]) : localStorage.getItem("theme"); } catch { return null; } };
  let chosen = ["light", "dark"].includes(store()) ? store() : null;
  const show = () => {
    const now = chosen ?? (system.matches ? "dark" : "light");
    document.documentElement.dataset.theme = now;
    button.textContent = now === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-label", `Use ${now === "dark" ? "light" : "dark"} colours`);
  };
  button.onclick = () => { chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark"; store(chosen); show(); };
  system.addEventListener("change", show);
  show();
}

function tabs(names, panels) {
  const list = document.getElementById("tabs");
  const buttons = names.map((name, i) => make(list, "button", {type: "button", role: "tab", id: `tab-${i}`, "aria-controls": `panel-${i}`, onclick: () => open(i)}, name));
  function open(wanted) {
    buttons.forEach((button, i) => {
      button.setAttribute("aria-selected", String(i === wanted));
      button.tabIndex = i === wanted ? 0 : -1;
      panels[i].hidden = i !== wanted;
    });
  }
  list.addEventListener("keydown", event => {
    const now = buttons.indexOf(document.activeElement), last = buttons.length - 1;
    const next = {ArrowRight: now === last ? 0 : now + 1, ArrowLeft: now ? now - 1 : last, Home: 0, End: last}[event.key];
    if (next === undefined) return;
    event.preventDefault();
    open(next);
    buttons[next].focus();
  });
  open(0);
}

async function start() {
  theme();
  const data = await read(document.getElementById("data")), {run, parts, comparison: compared} = data.metrics, names = data.parts;
  const title = `Evaluation of ${run.model?.loaded_as ?? "a pipeline"}`, place = document.getElementById("parts");
  const models = [run.model?.loaded_as ?? "a pipeline", compared?.model.loaded_as ?? "another"], other = data.documents.some(one => one.length > 7);
  document.title = document.querySelector("h1").textContent = title;
  document.getElementById("about").textContent = [
    `${names.length} ${names.length === 1 ? "part" : "parts"}: ${names.join(", ")}`,
    ...(compared ? [`compared with ${models[1]}`] : []),
    ...(run.model?.name ? [`${run.model.name} ${run.model.version}`] : []),
  ].join(" · ");
  let browser = null;
  const panels = names.map((name, i) => {
    const panel = make(place, "div", {id: `panel-${i}`, ...(names.length > 1 ? {role: "tabpanel", "aria-labelledby": `tab-${i}`} : {})});
    if (names.length > 1) make(panel, "h2", {class: "part"}, name);
    const search = filters => browser.search(name, filters), part = parts[name];
    headline(panel, part, run.options?.level);
    if (compared?.parts[name]) comparison(panel, part, compared.parts[name], models, other ? search : null);
    labels(panel, part, search);
    confusion(panel, part, search);
    slices(panel, part);
    trust(panel, data.probabilities[name]);
    return panel;
  });
  if (names.length > 1) tabs(names, panels);
  browser = new Browser(place, data, models);
  const about = section(place, "Run", "run");
  record(about, {...run, ...(compared ? {"other model": compared.model} : {}),
    parts: Object.fromEntries(names.map(name => [name, Object.fromEntries(["path", "format", "sha256"].map(key => [key, parts[name][key]]))]))});
  document.querySelector(".skip").onclick = event => { event.preventDefault(); browser.enter(); };
  let closed = [];
  addEventListener("beforeprint", () => { closed = [...document.querySelectorAll("details:not([open])")]; for (const one of closed) one.open = true; });
  addEventListener("afterprint", () => { for (const one of closed) one.open = false; });
  document.documentElement.dataset.ready = "yes";
}

start().catch(error => {
  make(document.querySelector("main"), "p", {class: "notice", role: "alert"}, `The page could not be drawn: ${error.message}`);
  throw error;
});
