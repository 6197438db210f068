// Relations as a graph: entities, and regions as squares, on an ellipse in one order for every side, so that the sides can be compared at a glance.

const LABEL = 112; // pixels kept for names on each side
const ROOM = 19; // pixels of height for a name
const FEW = 8; // relations that fit into a column
const LABELLED = 40; // relations whose types are written beside their edges, where there is room

/** The width of a graph: that of a column, or of half the page where there are many relations. */
const widthOf = (rows) => (rows.length > FEW && !isNarrow() ? 640 : 380);

/** Where each entity stands: neighbours close together, the same on every side. */
function placeEntities(rows) {
  const near = new Map();
  for (const { head, tail } of rows) {
    for (const [a, b] of [[head, tail], [tail, head]]) {
      if (!near.has(a)) near.set(a, new Set());
      near.get(a).add(b);
    }
  }
  const order = ordered([...near.keys()].sort((a, b) => a - b), near);
  const width = widthOf(rows);
  const height = Math.max(190, (order.length / 2 + 1.5) * ROOM + 34, Math.min(rows.length, LABELLED) * (width > 380 ? 15 : 22));
  const [rx, ry] = [width / 2 - LABEL, height / 2 - 24];
  const places = new Map();
  order.forEach((n, i) => {
    const angle = (2 * Math.PI * (i + 0.5)) / order.length - Math.PI / 2;
    places.set(n, { x: width / 2 + rx * Math.sin(angle + Math.PI / 2), y: height / 2 - ry * Math.cos(angle + Math.PI / 2) });
  });
  return { places, width, height };
}

/** An order round the ellipse in which edges are short: each swap that helps is taken, until none does. */
function ordered(nodes, near) {
  const n = nodes.length;
  if (n < 4 || n > 120) return nodes;
  const at = new Map(nodes.map((node, i) => [node, i]));
  const span = (node) => {
    let sum = 0;
    for (const other of near.get(node)) {
      const gap = Math.abs(at.get(node) - at.get(other));
      sum += Math.min(gap, n - gap) ** 1.5;
    }
    return sum;
  };
  const swap = (a, b) => {
    const [i, j] = [at.get(a), at.get(b)];
    at.set(a, j).set(b, i);
    [nodes[i], nodes[j]] = [b, a];
  };
  for (let round = 0, better = true; better && round < 12; round += 1) {
    better = false;
    for (let i = 0; i < n; i += 1)
      for (let j = i + 1; j < n; j += 1) {
        const [a, b] = [nodes[i], nodes[j]];
        const before = span(a) + span(b);
        swap(a, b);
        if (span(a) + span(b) < before - 1e-9) better = true;
        else swap(b, a);
      }
  }
  return nodes;
}

function drawGraph(content, side, rows, { places, width, height }) {
  const own = rows.filter((row) => row.at.has(side));
  if (!own.length) return el("p.empty.small", {}, "No relations.");
  const linked = new Set(own.flatMap((row) => [row.head, row.tail]));
  const pairs = new Map();
  const edges = own.map((row) => {
    const pair = [row.head, row.tail].sort((a, b) => a - b).join("-");
    const nth = pairs.get(pair) ?? 0;
    pairs.set(pair, nth + 1);
    return { row, verdict: row.at.get(side), confidence: row.sure.get(side), ...curveOf(row, places, { x: width / 2, y: height / 2 }, nth) };
  });
  placeLabels(edges, [...linked].flatMap((n) => roomOf(content, n, places.get(n), width)));
  const label = `${count(own.length, "relation")} of ${sideName(side)} between ${countLinked([...linked])}; the list below has them all`;
  return el("svg:svg", { viewBox: `0 0 ${width} ${height}`, class: own.length > LABELLED ? "graph many" : "graph", role: "group", "aria-label": label },
    el("svg:g", { "aria-hidden": "true" }, edges.map(drawEdge), edges.map(drawLabel)), el("svg:g", {}, [...linked].map((n) => drawNode(content, n, places.get(n), width))));
}

function countLinked(linked) {
  const regions = linked.filter((n) => isRegion(entityOf(n))).length;
  const entities = count(linked.length - regions, "entity", "entities");
  return regions ? `${entities} and ${count(regions, "region")}` : entities;
}

/** The curve of a relation, from rim to rim: its ends and its bend, drawn towards the centre; the nth of a pair swings aside. */
function curveOf(row, places, centre, nth) {
  const [from, to] = [places.get(row.head), places.get(row.tail)];
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const length = Math.hypot(dx, dy) || 1;
  const middle = { x: (from.x + to.x) / 2, y: (from.y + to.y) / 2 };
  const pull = 0.22;
  const aside = (nth % 2 ? -1 : 1) * Math.ceil(nth / 2) * 16;
  const turn = row.head < row.tail ? 1 : -1;
  const bend = {
    x: middle.x + pull * (centre.x - middle.x) - (turn * aside * dy) / length,
    y: middle.y + pull * (centre.y - middle.y) + (turn * aside * dx) / length,
  };
  const rim = (p) => {
    const d = Math.hypot(bend.x - p.x, bend.y - p.y) || 1;
    return { x: p.x + (10.5 * (bend.x - p.x)) / d, y: p.y + (10.5 * (bend.y - p.y)) / d };
  };
  return { a: rim(from), bend, b: rim(to) };
}

const along = ({ a, bend, b }, t) => ({
  x: (1 - t) ** 2 * a.x + 2 * t * (1 - t) * bend.x + t ** 2 * b.x,
  y: (1 - t) ** 2 * a.y + 2 * t * (1 - t) * bend.y + t ** 2 * b.y,
});

const SPOTS = [0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74];
const crosses = (p, q) => p.x0 < q.x1 && q.x0 < p.x1 && p.y0 < q.y1 && q.y0 < p.y1;
const widthOfText = (text, size) => Array.from(text).reduce((sum, sign) => sum + (sign > "\u2e80" ? size : 0.56 * size), 0);

/** A spot for each label where it covers no name and no other label; without one it is shown when its edge lights up. */
function placeLabels(edges, taken) {
  for (const edge of edges) {
    const { verdict } = edge;
    edge.wrong = verdict && verdict !== "hit" && verdict !== "gold";
    edge.label = `${edge.wrong ? `${SIGNS[verdict]} ` : ""}${brief(edge.row.type.replace(/^[A-Z]+-[A-Z]+_/, ""), 24)}`;
    const half = widthOfText(edge.label, 10) / 2 + 2;
    const room = ({ x, y }) => ({ x0: x - half, x1: x + half, y0: y - 7, y1: y + 6 });
    const spot = edges.length <= LABELLED && SPOTS.map((t) => along(edge, t)).find((at) => !taken.some((other) => crosses(other, room(at))));
    edge.shown = Boolean(spot);
    edge.at = spot || along(edge, 0.5);
    if (spot) taken.push(room(spot));
  }
}

/** What lights an edge and its label up and dims them. */
const edgeData = ({ row, verdict, confidence }) => ({ "data-e": `${row.head} ${row.tail}`, "data-r": row.key, "data-row": row.key, "data-kind": JSON.stringify([row.type]), "data-v": verdict ?? "none", style: sureStyle(confidence) });

function drawEdge(edge) {
  const { row, verdict, confidence, a, bend, b } = edge;
  const path = `M${a.x.toFixed(1)} ${a.y.toFixed(1)}Q${bend.x.toFixed(1)} ${bend.y.toFixed(1)} ${b.x.toFixed(1)} ${b.y.toFixed(1)}`;
  const angle = Math.atan2(b.y - bend.y, b.x - bend.x);
  const corner = (by) => `${(b.x - 7 * Math.cos(angle + by)).toFixed(1)} ${(b.y - 7 * Math.sin(angle + by)).toFixed(1)}`;
  const words = `${entityOf(row.head).name} — ${row.type} — ${entityOf(row.tail).name}${WORDS[verdict] ? `: ${WORDS[verdict]}` : ""}${sureWords({ confidence })}`;
  return el("svg:g", { class: `edge ${verdict ?? "none"}`, ...edgeData(edge) },
    el("svg:title", {}, visible(words)),
    el("svg:path", { class: "reach", d: path }),
    el("svg:path", { class: "stroke", d: path }),
    el("svg:path", { class: "head", d: `M${b.x.toFixed(1)} ${b.y.toFixed(1)}L${corner(0.45)}L${corner(-0.45)}Z` }));
}

/** The type of an edge; labels are drawn after all edges, so that no line crosses one. */
function drawLabel(edge) {
  const { at, label, shown, wrong } = edge;
  return el("svg:g", { class: "edge", ...edgeData(edge) },
    el("svg:text", { class: `type${shown ? " shown" : ""}${wrong ? " wrong" : ""}`, x: at.x.toFixed(1), y: (at.y + 3.5).toFixed(1) }, label));
}

const nameOf = (content, n, width) => brief(entityOf(n).name, (content.lang === "zh" ? 8 : 15) + (width > 380 ? 2 : 0));

/** The rectangles that an entity takes: its circle, and its name beside it. */
function roomOf(content, n, { x, y }, width) {
  const long = widthOfText(nameOf(content, n, width), 11.5) + 14;
  const [x0, x1] = x >= width / 2 ? [x, x + long] : [x - long, x];
  return [{ x0: x - 10, x1: x + 10, y0: y - 10, y1: y + 10 }, { x0, x1, y0: y - 7, y1: y + 7 }];
}

function drawNode(content, n, { x, y }, width) {
  const entity = entityOf(n);
  const right = x >= width / 2;
  return el("svg:g", { class: "node", tabindex: "0", role: "button", "aria-pressed": "false", "aria-label": `${isRegion(entity) ? "region" : "entity"} ${n}: ${brief(entity.name, 60)}, ${brief(entity.type, 60)}`, "data-e": n, "data-pick": n, "data-kind": JSON.stringify([entity.type]), "data-hue": colourOf(n).hue },
    el("svg:title", {}, visible(`${entity.name} · ${entity.type}`)),
    isRegion(entity)
      ? el("svg:rect", { x: (x - 9).toFixed(1), y: (y - 9).toFixed(1), width: 18, height: 18 })
      : el("svg:circle", { cx: x.toFixed(1), cy: y.toFixed(1), r: 9.5 }),
    el("svg:text", { "aria-hidden": "true", class: "n", x: x.toFixed(1), y: (y + 3.5).toFixed(1) }, String(n)),
    el("svg:text", { "aria-hidden": "true", class: right ? "name" : "name left", x: (x + (right ? 14 : -14)).toFixed(1), y: (y + 4).toFixed(1), lang: content.lang }, nameOf(content, n, width)));
}
