// Helpers, and all sections with scores.

const SVG = "http://www.w3.org/2000/svg";
// What it is called, how to get it from scores, whether it has counts.
const SCORES = [
  ["Exact", s => s.exact.micro],
  ["Exact, mean of labels", s => s.exact.macro],
  ["Exact, labels weighted", s => s.exact.weighted],
  ["In part", s => s.overlap.micro],
  ["In part, mean of labels", s => s.overlap.macro],
  ["Borders alone", s => s.boundaries],
  ["Tokens", s => s.tokens.micro],
  ["Tokens, mean of labels", s => s.tokens.macro],
  ["SemEval strict", s => s.semeval.strict],
  ["SemEval exact", s => s.semeval.exact],
  ["SemEval partial", s => s.semeval.partial],
  ["SemEval type", s => s.semeval.type],
];
const PER_LABEL = {
  exact: ["Exact", s => s.exact.per_label], overlap: ["In part", s => s.overlap.per_label],
  tokens: ["Tokens", s => s.tokens.per_label],
  ...Object.fromEntries(["strict", "exact", "partial", "type"].map(name => [`semeval_${name}`, [`SemEval ${name}`,
    s => Object.fromEntries(Object.entries(s.semeval_per_label).map(([label, found]) => [label, found[name]]))]])),
};
const GOLD = {characters: "Gold by characters", aligned: "Gold on tokens"};

/** Add an element. A key that begins with "on" is a listener; what is inside is elements, or text that stays text. */
function make(parent, name, attributes = {}, ...inside) {
  const svg = name === "svg" || parent?.namespaceURI === SVG;
  const found = svg ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes))
    if (key.startsWith("on")) found.addEventListener(key.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) found.setAttribute(key, value === true ? "" : value);
  found.append(...inside);
  return parent ? parent.appendChild(found) : found;
}

const count = n => n.toLocaleString("en");
const percent = value => (100 * value).toFixed(1);
const range = interval => interval ? `${percent(interval[0])} – ${percent(interval[1])}` : "";
const fOf = score => score.intervals?.f ?? null;
/** Background of a cell, from none to a tint that text stays readable on. */
const heat = share => share > 0 ? `background: rgba(var(--heat), ${(0.04 + 0.46 * Math.min(share, 1)).toFixed(3)})` : "";
const named = name => name === "" ? "(none)" : name;

function section(parent, title, id) {
  const found = make(parent, "details", {class: "section", open: true, id});
  make(make(found, "summary"), "h2", {}, title);
  return found;
}

function choice(parent, name, options, value, change) {
  const label = make(parent, "label", {}, `${name} `);
  const found = make(label, "select", {onchange: () => change(found.value)});
  for (const [key, text] of options) make(found, "option", {value: key, selected: key === value}, text);
  return found;
}

/**
 * A table whose columns sort.
 * columns: {name, get: row => number or text, show: (cell, row) => nothing, heat}; the first one names the row.
 */
function table(parent, caption, columns, rows, {sortable = true, by = -1, down = true} = {}) {
  const place = make(parent, "div", {class: "scroll"}), found = make(place, "table");
  make(found, "caption", {}, caption);
  const head = make(make(found, "thead"), "tr"), body = make(found, "tbody");
  const heads = columns.map((column, i) => {
    const cell = make(head, "th", {scope: "col"});
    if (sortable && column.get && rows.length > 1)
      make(cell, "button", {type: "button", onclick: () => {
        down = by === i ? !down : typeof column.get(rows[0]) === "number";
        by = i;
        fill();
      }}, column.name);
    else cell.append(column.name);
    return cell;
  });
  function fill() {
    const get = columns[by]?.get, sign = down ? -1 : 1;
    const order = (a, b) => typeof a === "number" ? a - b : a.localeCompare(b);
    const sorted = get ? [...rows].sort((a, b) => sign * order(get(a), get(b))) : rows;
    heads.forEach((cell, i) => i === by ? cell.setAttribute("aria-sort", down ? "descending" : "ascending")
      : cell.removeAttribute("aria-sort"));
    body.replaceChildren(...sorted.map(row => {
      const line = make(null, "tr");
      columns.forEach((column, i) => {
        const value = column.get?.(row), cell = make(line, i ? "td" : "th", i ? {} : {scope: "row"});
        if (column.heat) cell.style.cssText = heat(value);
        if (column.show) column.show(cell, row); else cell.append(typeof value === "number" ? count(value) : value);
      });
      return line;
    }));
  }
  fill();
  return found;
}

/** A score with its interval on a scale from 0 to 1. others: more of them, drawn hollow. */
function whisker(parent, score, other = null, wide = 200) {
  const at = value => 6 + value * (wide - 12), tall = other ? 22 : 14;
  const said = `F1 ${percent(score.f)}${fOf(score) ? `, interval ${range(fOf(score))}` : ""}`;
  const svg = make(parent, "svg", {width: wide, height: tall, role: "img", "aria-label": said});
  make(svg, "title", {}, other ? `${said}; gold on tokens: ${percent(other.f)} ${range(fOf(other))}` : said);
  for (const tick of [0, .25, .5, .75, 1]) make(svg, "line", {class: "axis", x1: at(tick), x2: at(tick), y1: 0, y2: tall, opacity: tick % 1 ? .5 : 1});
  [[score, "first", other ? 6 : 7], [other, "other", 16]].filter(([found]) => found).forEach(([found, name, y]) => {
    if (fOf(found)) make(svg, "line", {class: name, x1: at(fOf(found)[0]), x2: at(fOf(found)[1]), y1: y, y2: y, "stroke-width": 2});
    make(svg, "circle", {class: name, cx: at(found.f), cy: y, r: 3.6, "stroke-width": 1.6});
  });
}

const rate = (name, key, of = row => row[1], tinted = true) => ({
  name, get: row => of(row)[key], heat: tinted,
  show: (cell, row) => {
    cell.append(percent(of(row)[key]));
    const interval = of(row).intervals?.[key];
    if (interval) cell.title = `interval ${range(interval)}`;
  },
});
const rates = [rate("P", "p"), rate("R", "r"), rate("F1", "f")];
const interval = {name: "interval of F1", get: row => fOf(row[1])?.[0] ?? -1, show: (cell, row) => cell.append(range(fOf(row[1])))};
const drawn = {name: "F1, 0 to 100", show: (cell, row) => whisker(cell, row[1])};
const counted = [["gold", "gold"], ["predicted", "predicted"], ["correct", "correct"]]
  .map(([name, key]) => ({name, get: row => row[1][key]}));

/** What was read and left out, in sentences. */
function facts(parent, part) {
  make(parent, "p", {}, `${count(part.documents)} documents, ${count(part.words)} words, ${count(part.gold)} gold entities, `
    + `${count(part.predicted)} predicted.`);
  const others = Object.entries(part.other_labels), left = others.reduce((sum, [, n]) => sum + n, 0);
  for (const [n, text] of [
    [part.not_annotated, "documents are not annotated, and were left out."],
    [part.repeated, "gold entities are given more than once, and count once."],
    [part.unread, "annotations could not be read, and are not scored."],
    [left, `gold entities have labels that were not given to the model: ${others.map(([label, n]) => `${count(n)} ${label}`).join(", ")}.`],
    [part.ignored, "predictions stand where it is not known what is right, and do not count."],
  ]) if (n) make(parent, "p", {class: "note"}, `${count(n)} ${text}`);
}

function headline(parent, part, level) {
  const place = section(parent, "Scores");
  facts(place, part);
  const cards = make(place, "div", {class: "cards"});
  for (const i of [0, 3, 6, 10]) {
    const [name, get] = SCORES[i], mine = get(part.characters), aligned = get(part.aligned);
    const card = make(cards, "div", {class: "card"});
    make(card, "span", {}, `${name}, F1`);
    make(card, "b", {}, percent(mine.f));
    make(card, "span", {}, range(fOf(mine)));
    make(card, "span", {}, `gold on tokens: ${percent(aligned.f)}`);
  }
  const rows = SCORES.map(([name, get]) => [name, get(part.characters), get(part.aligned)]);
  const both = side => ["p", "r", "f"].map(key => ({
    name: `${key === "f" ? "F1" : key.toUpperCase()}${side === 2 ? ", on tokens" : ""}`, get: row => row[side][key],
    show: (cell, row) => {
      cell.append(percent(row[side][key]));
      const found = row[side].intervals?.[key];
      if (found) make(cell, "small", {}, range(found));
    },
  }));
  table(place, `Gold by characters as annotated (●), and on the model's tokens (○)${level ? `; intervals of ${+(100 * level).toFixed(4)} %` : ""}`, [
    {name: "score", get: row => row[0]}, ...both(1), {name: "F1, 0 to 100", show: (cell, row) => whisker(cell, row[1], row[2])}, ...both(2),
  ], rows);
}

function labels(parent, part, search) {
  const place = section(parent, "Labels"), tools = make(place, "div", {class: "tools"}), shown = make(place, "div");
  const state = {measure: "exact", gold: "characters"};
  function draw() {
    shown.replaceChildren();
    const rows = Object.entries(PER_LABEL[state.measure][1](part[state.gold]));
    const isSemeval = state.measure.startsWith("semeval");
    const counts = isSemeval ? ["correct", "incorrect", "partial", "missed", "spurious"].map(key => ({name: key, get: row => row[1][key]})) : counted;
    const label = {name: "label", get: row => row[0], show: (cell, row) => {
      make(cell, "button", {type: "button", title: "Show its entities", onclick: () => search({label: row[0]})}, named(row[0]));
    }};
    table(shown, `${PER_LABEL[state.measure][0]}, ${GOLD[state.gold].toLowerCase()}; a label leads to its entities`,
      [label, ...rates, interval, drawn, ...counts], rows, isSemeval ? {by: 0, down: false} : {by: 6});
    if (!isSemeval) frequency(shown, rows.filter(([, score]) => score.gold > 0));
  }
  choice(tools, "Score", Object.entries(PER_LABEL).map(([key, [name]]) => [key, name]), state.measure, value => { state.measure = value; draw(); });
  choice(tools, "Gold", Object.entries(GOLD), state.gold, value => { state.gold = value; draw(); });
  draw();
}

/** Frame of a chart. RETURNS: the svg, and places of values. */
function chart(parent, said, {wide = 420, tall = 300, x, y, xName, yName, xTicks, yTicks, xText = String, yText = String}) {
  const left = 44, right = 14, top = 10, bottom = 38;
  const svg = make(parent, "svg", {class: "chart", width: wide, height: tall, viewBox: `0 0 ${wide} ${tall}`, role: "img", "aria-label": said});
  const atX = value => left + (value - x[0]) / (x[1] - x[0]) * (wide - left - right);
  const atY = value => top + (y[1] - value) / (y[1] - y[0]) * (tall - top - bottom);
  for (const tick of yTicks) {
    make(svg, "line", {class: "axis", x1: left, x2: wide - right, y1: atY(tick), y2: atY(tick), opacity: .6});
    make(svg, "text", {x: left - 6, y: atY(tick) + 4, "text-anchor": "end"}, yText(tick));
  }
  for (const tick of xTicks) {
    make(svg, "line", {class: "axis", x1: atX(tick), x2: atX(tick), y1: tall - bottom, y2: tall - bottom + 4});
    make(svg, "text", {x: atX(tick), y: tall - bottom + 16, "text-anchor": "middle"}, xText(tick));
  }
  make(svg, "text", {x: (left + wide - right) / 2, y: tall - 5, "text-anchor": "middle"}, xName);
  make(svg, "text", {transform: `translate(11 ${(top + tall - bottom) / 2}) rotate(-90)`, "text-anchor": "middle"}, yName);
  return {svg, atX, atY};
}

const SHARES = [0, .2, .4, .6, .8, 1];
const share = value => String(Math.round(100 * value));

/** F1 of labels by how often gold has them. */
function frequency(parent, rows) {
  if (rows.length < 3) return;
  make(parent, "h3", {}, "By frequency");
  const most = Math.max(1, Math.ceil(Math.log10(Math.max(...rows.map(([, score]) => score.gold)))));
  const powers = Array.from({length: most + 1}, (_, i) => i);
  const {svg, atX, atY} = chart(parent, "F1 of each label by its number of gold entities; the numbers are in the table", {
    wide: 640, x: [-.1, most], y: [0, 1], xName: "gold entities of the label", yName: "F1", xTicks: powers, yTicks: SHARES,
    xText: power => count(10 ** power), yText: share,
  });
  for (const [label, score] of rows) {
    const x = atX(Math.log10(score.gold)), point = make(svg, "g");
    make(point, "title", {}, `${named(label)}: F1 ${percent(score.f)}, ${count(score.gold)} gold entities`);
    if (fOf(score)) make(point, "line", {class: "first", x1: x, x2: x, y1: atY(fOf(score)[0]), y2: atY(fOf(score)[1]), opacity: .3});
    make(point, "circle", {class: "first", cx: x, cy: atY(score.f), r: 4, opacity: .85});
    if (rows.length <= 12) make(svg, "text", {x: x + 7, y: atY(score.f) + 4, "text-anchor": x > 520 ? "end" : "start", dx: x > 520 ? -14 : 0}, named(label));
  }
}

function confusion(parent, part, search) {
  const place = section(parent, "Confusion"), tools = make(place, "div", {class: "tools"});
  const scroll = make(place, "div", {class: "scroll"});
  make(place, "p", {class: "note"}, "Rows are gold, columns predictions, of the pairs of SemEval's measures; the last column is what was missed, the last row what is "
    + "spurious. Of gold by characters a cell leads to its entities: arrow keys move, Enter opens.");
  const state = {gold: "characters", cells: "counts"};
  function draw() {
    const {labels, counts} = part[state.gold].confusion, n = labels.length;
    const sums = counts.map(row => row.reduce((a, b) => a + b, 0));
    const leads = state.gold === "characters";
    const found = make(null, "table", {class: n > 20 ? "confusion many" : "confusion"});
    make(found, "caption", {}, `${GOLD[state.gold]}; ${state.cells === "counts" ? "number of entities" : "% of the row"}; the shade is the share of the row`);
    const head = make(make(found, "thead"), "tr"), body = make(found, "tbody");
    make(head, "th", {scope: "col"}, "gold \\ predicted");
    for (const name of [...labels.map(named), "missed"]) make(make(head, "th", {scope: "col"}), "span", {}, name);
    counts.forEach((row, i) => {
      const line = make(body, "tr");
      make(line, "th", {scope: "row"}, i < n ? named(labels[i]) : "spurious");
      row.forEach((value, j) => {
        const empty = i === n && j === n, part = sums[i] ? value / sums[i] : 0;
        const text = empty || !value ? "" : state.cells === "counts" ? count(value) : percent(part);
        const gold = i < n ? named(labels[i]) : "nothing", predicted = j < n ? named(labels[j]) : "nothing";
        const cell = make(line, "td", {class: i === j && !empty ? "right" : null, style: empty ? null : heat(part),
          title: value ? `gold ${gold}, predicted ${predicted}: ${count(value)}, ${percent(part)} % of the row` : null}, text);
        if (!leads || !value) return;
        cell.dataset.n = value;
        cell.tabIndex = -1;
        const open = () => search({gold: i < n ? `=${labels[i]}` : "none", predicted: j < n ? `=${labels[j]}` : "none"});
        cell.addEventListener("click", open);
        cell.addEventListener("keydown", event => event.key === "Enter" && open());
      });
    });
    const first = body.querySelector("[data-n]");
    if (first) first.tabIndex = 0;
    found.addEventListener("keydown", event => {
      const step = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]}[event.key];
      if (!step || !event.target.matches("[data-n]")) return;
      event.preventDefault();
      let [i, j] = [event.target.parentNode.rowIndex - 1, event.target.cellIndex];
      do [i, j] = [i + step[0], j + step[1]]; while (body.rows[i]?.cells[j] && j > 0 && !body.rows[i].cells[j].dataset.n);
      const next = body.rows[i]?.cells[j];
      if (!next?.dataset.n) return;
      event.target.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });
    scroll.replaceChildren(found);
  }
  choice(tools, "Gold", Object.entries(GOLD), state.gold, value => { state.gold = value; draw(); });
  choice(tools, "Cells", [["counts", "counts"], ["shares", "% of the row"]], state.cells, value => { state.cells = value; draw(); });
  draw();
}

function slices(parent, part) {
  const place = section(parent, "Lengths, known and new entities, attributes");
  const columns = name => [{name, get: row => named(row[0])}, ...rates, interval, drawn, ...counted];
  make(place, "h3", {}, "By length in tokens");
  table(place, "Exact, gold by characters", columns("tokens").map((column, i) => i ? column : {...column, get: undefined, show: (cell, row) => cell.append(row[0])}),
    Object.entries(part.by_length));
  make(place, "h3", {}, "By whether the training data has the entity");
  if (part.by_seen) table(place, "Exact, gold by characters; seen: with the same text and label", columns("in training"), Object.entries(part.by_seen));
  else make(place, "p", {class: "note"}, "It is not known: --train was not given.");
  for (const [key, values] of Object.entries(part.by_attribute)) {
    make(place, "h3", {}, `By ${key}`);
    const of = name => row => row[1][name];
    table(place, "Gold by characters", [
      {name: key, get: row => named(row[0])}, {name: "documents", get: row => row[1].documents},
      rate("P", "p", of("exact")), rate("R", "r", of("exact")), rate("F1", "f", of("exact")),
      {name: "interval of F1", get: row => fOf(row[1].exact)?.[0] ?? -1, show: (cell, row) => cell.append(range(fOf(row[1].exact)))},
      {name: "F1, 0 to 100", show: (cell, row) => whisker(cell, row[1].exact)},
      rate("F1 in part", "f", of("overlap")), {name: "gold", get: row => row[1].exact.gold}, {name: "predicted", get: row => row[1].exact.predicted},
    ], Object.entries(values));
  }
}

const MEASURES = [
  ["entities", "entities", count], ["mean_probability", "mean probability", percent], ["precision", "right", percent], ["ece", "ECE", percent],
  ["ece_if_exact", "ECE by chance", percent], ["calibration_error", "calibration error", percent], ["brier", "Brier", value => value.toFixed(4)],
  ["log_loss", "log loss", value => value.toFixed(4)], ["risk_coverage_area", "area under risk", percent],
];

function trust(parent, found) {
  const place = section(parent, "Probabilities");
  if (!found) {
    make(place, "p", {class: "note"}, "No prediction has a probability from 0 to 1.");
    return;
  }
  const both = make(place, "div", {class: "side-by-side"});
  const figure = title => { const made = make(both, "figure", {style: "margin: 0"}); make(made, "h3", {}, title); return made; };
  const all = found.measures;
  const left = figure("Reliability"), reliable = chart(left, `Reliability diagram: expected calibration error ${percent(all.ece)} %; the numbers are in the table below`, {
    x: [0, 1], y: [0, 1], xName: "probability, %", yName: "exactly right, %", xTicks: SHARES, yTicks: SHARES, xText: share, yText: share, wide: 360, tall: 340,
  });
  const clip = value => Math.min(1, Math.max(0, value));
  if (found.bins.length > 1) {
    const edge = sign => found.bins.map(([, p, , sd]) => [reliable.atX(p), reliable.atY(clip(p + 2 * sign * sd))]);
    make(reliable.svg, "polygon", {class: "chance", points: [...edge(1), ...edge(-1).reverse()].join(" ")});
  }
  make(reliable.svg, "line", {class: "expected", x1: reliable.atX(0), y1: reliable.atY(0), x2: reliable.atX(1), y2: reliable.atY(1)});
  make(reliable.svg, "polyline", {class: "path", points: found.bins.map(([, p, right]) => [reliable.atX(p), reliable.atY(right)]).join(" ")});
  for (const [n, p, right] of found.bins)
    make(make(reliable.svg, "circle", {class: "first", cx: reliable.atX(p), cy: reliable.atY(right), r: 4.5}), "title", {},
      `${count(n)} entities, mean probability ${percent(p)} %, ${percent(right)} % right`);
  make(left, "p", {class: "note", style: "max-width: 22rem"}, "Bins of equally many entities; grey: what chance makes of exact probabilities, two standard deviations wide.");
  const right = figure("Risk by coverage"), most = Math.min(1, Math.max(.1, Math.ceil(10 * Math.max(...found.risk.map(point => point[2]))) / 10));
  const step = most > .5 ? .2 : most > .2 ? .1 : .05, ticks = Array.from({length: Math.round(most / step) + 1}, (_, i) => i * step);
  const risky = chart(right, "Share of wrong entities by share of entities kept", {
    x: [0, 1], y: [0, most], xName: "entities kept, the surest first, %", yName: "wrong among them, %", xTicks: SHARES, yTicks: ticks, xText: share, yText: share, wide: 420, tall: 340,
  });
  make(risky.svg, "polyline", {class: "path", points: found.risk.map(([, coverage, risk]) => [risky.atX(coverage), risky.atY(risk)]).join(" ")});
  const dot = make(risky.svg, "circle", {class: "other", r: 4.5, visibility: "hidden"});
  const say = make(right, "p", {class: "note keys", style: "min-height: 1.4em"}, "Point at the curve for thresholds.");
  risky.svg.addEventListener("pointermove", event => {
    const box = risky.svg.getBoundingClientRect(), at = (event.clientX - box.left) / box.width * 420;
    const near = found.risk.reduce((a, b) => Math.abs(risky.atX(b[1]) - at) < Math.abs(risky.atX(a[1]) - at) ? b : a);
    for (const [key, value] of [["cx", risky.atX(near[1])], ["cy", risky.atY(near[2])], ["visibility", "visible"]]) dot.setAttribute(key, value);
    say.textContent = `From probability ${near[0].toFixed(3)}: ${percent(near[1])} % kept, ${percent(near[2])} % of them wrong.`;
  });
  const rows = [["all labels", all], ...Object.entries(found.per_label).map(([label, one]) => [named(label), one])];
  table(place, "Predictions that have a probability; right: exactly, gold by characters", [
    {name: "label", get: row => row[0]},
    ...MEASURES.map(([key, name, show]) => ({
      name, get: row => row[1][key] ?? -1, show: (cell, row) => cell.append(row[1][key] === null ? "–" : show(row[1][key])),
    })),
  ], rows);
  const more = make(place, "details");
  make(more, "summary", {}, "Both pictures as tables");
  table(more, "", [
    {name: "entities", get: row => row[0]}, {name: "mean probability", get: row => row[1], show: (cell, row) => cell.append(percent(row[1]))},
    {name: "right", get: row => row[2], show: (cell, row) => cell.append(percent(row[2]))},
    {name: "standard deviation by chance", get: row => row[3], show: (cell, row) => cell.append(percent(row[3]))},
  ], found.bins);
  const tenths = Array.from({length: 10}, (_, i) => found.risk.find(point => point[1] >= (i + 1) / 10 - 1e-6) ?? found.risk[found.risk.length - 1]);
  table(more, "", [
    {name: "from probability", get: row => row[0], show: (cell, row) => cell.append(row[0].toFixed(3))},
    {name: "kept", get: row => row[1], show: (cell, row) => cell.append(percent(row[1]))},
    {name: "wrong among them", get: row => row[2], show: (cell, row) => cell.append(percent(row[2]))},
  ], [...new Set(tenths)], {by: 1, down: false});
}

function comparison(parent, part, other, names, search) {
  const place = section(parent, "Comparison of two models");
  make(place, "p", {}, `First: ${names[0]}. Other: ${names[1]}. Differences are the first less the other, in points of F1.`);
  const signed = value => (value >= 0 ? "+" : "−") + percent(Math.abs(value));
  const rows = Object.entries(other.f).map(([key, found]) => [key.replace("_", ", "), found]);
  const reach = Math.max(.01, ...rows.flatMap(([, d]) => [d.difference, ...(d.interval ?? [])].map(Math.abs)));
  table(place, `Scale from ${signed(-reach)} to ${signed(reach)}`, [
    {name: "F1 of", get: row => row[0]},
    {name: "difference", get: row => row[1].difference, show: (cell, row) => cell.append(signed(row[1].difference))},
    {name: "interval", get: row => row[1].interval?.[0] ?? 0, show: (cell, row) => cell.append(row[1].interval ? row[1].interval.map(signed).join(" … ") : "")},
    {name: "p-value", get: row => row[1].p_value, show: (cell, row) => cell.append(row[1].p_value.toFixed(4))},
    {name: "exchanges", get: row => row[1].exchanges, show: (cell, row) => cell.append(count(row[1].exchanges) + (row[1].exact ? ", all" : ""))},
    {name: "", show: (cell, [, d]) => {
      const at = value => 110 + value / reach * 100, svg = make(cell, "svg", {width: 220, height: 16, role: "img", "aria-label": `difference ${signed(d.difference)}`});
      make(svg, "line", {class: "axis", x1: 110, x2: 110, y1: 0, y2: 16});
      if (d.interval) make(svg, "line", {class: "first", x1: at(d.interval[0]), x2: at(d.interval[1]), y1: 8, y2: 8, "stroke-width": 2});
      make(svg, "circle", {class: "first", cx: at(d.difference), cy: 8, r: 4});
    }},
  ], rows);
  table(place, "Gold by characters, all labels", [{name: "score", get: row => row[0]}, ...rates, interval, drawn, ...counted], [
    [`exact, first`, part.characters.exact.micro], ["exact, other", other.other_exact],
    ["in part, first", part.characters.overlap.micro], ["in part, other", other.other_overlap],
  ], {sortable: false});
  const all = Object.values(other.found).reduce((a, b) => a + b, 0);
  table(place, "Gold entities found exactly", [
    {name: "found by", get: row => row[0], show: (cell, row) => {
      const view = {first: "broken", other: "fixed", neither: "both"}[row[0]];
      if (!search || !view) cell.append(row[0]);
      else make(cell, "button", {type: "button", title: "Show them", onclick: () => search({view, gold: "some"})}, row[0]);
    }}, {name: "entities", get: row => row[1]},
    {name: "% of gold", get: row => all ? row[1] / all : 0, show: (cell, row) => cell.append(all ? percent(row[1] / all) : "")},
  ], Object.entries(other.found), {sortable: false});
}

/** Anything as rows of names and values. */
function record(parent, value) {
  const body = make(make(make(parent, "div", {class: "scroll"}), "table", {class: "record"}), "tbody");
  const plain = found => found === null ? "none" : typeof found === "object" ? JSON.stringify(found) : String(found);
  const add = (name, found) => {
    if (found !== null && typeof found === "object" && !Array.isArray(found) && Object.keys(found).length)
      for (const [key, inside] of Object.entries(found)) add(name ? `${name}, ${key}` : key, inside);
    else {
      const row = make(body, "tr");
      make(row, "th", {scope: "row"}, name);
      make(row, "td", {}, Array.isArray(found) ? found.map(plain).join(", ") || "none" : plain(found));
    }
  };
  add("", value);
}
