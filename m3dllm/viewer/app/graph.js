// Relations as a graph: entities on an ellipse in one order for every side, so that the sides can be compared at a glance.

const WIDTH = 380;
const LABEL = 112; // pixels kept for names on each side
const ROOM = 19; // pixels of height for a name

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
  const height = Math.max(190, (order.length / 2 + 1.5) * ROOM + 34);
  const [rx, ry] = [WIDTH / 2 - LABEL, height / 2 - 24];
  const places = new Map();
  order.forEach((n, i) => {
    const angle = (2 * Math.PI * (i + 0.5)) / order.length - Math.PI / 2;
    places.set(n, { x: WIDTH / 2 + rx * Math.sin(angle + Math.PI / 2), y: height / 2 - ry * Math.cos(angle + Math.PI / 2) });
  });
  return { places, height };
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

function drawGraph(content, side, rows, { places, height }) {
  const own = rows.filter((row) => row.at.has(side));
  if (!own.length) return el("p.empty.small", {}, "No relations.");
  const linked = new Set(own.flatMap((row) => [row.head, row.tail]));
  const many = own.length > 60;
  const pairs = new Map();
  const edges = own.map((row) => {
    const pair = [row.head, row.tail].sort((a, b) => a - b).join("-");
    const nth = pairs.get(pair) ?? 0;
    pairs.set(pair, nth + 1);
    return drawEdge(content, row, row.at.get(side), places, height, nth);
  });
  const nodes = [...linked].map((n) => drawNode(content, n, places.get(n)));
  const label = `${count(own.length, "relation")} of ${sideName(side)} between ${count(linked.size, "entity", "entities")}; the list below has them all`;
  return el("svg:svg", { viewBox: `0 0 ${WIDTH} ${height}`, class: many ? "graph many" : "graph", role: "group", "aria-label": label },
    el("svg:g", { "aria-hidden": "true" }, edges), el("svg:g", {}, nodes));
}

function drawEdge(content, row, verdict, places, height, nth) {
  const [from, to] = [places.get(row.head), places.get(row.tail)];
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const length = Math.hypot(dx, dy) || 1;
  const middle = { x: (from.x + to.x) / 2, y: (from.y + to.y) / 2 };
  const pull = 0.22; // towards the centre
  const aside = (nth % 2 ? -1 : 1) * Math.ceil(nth / 2) * 16;
  const turn = row.head < row.tail ? 1 : -1;
  const bend = {
    x: middle.x + pull * (WIDTH / 2 - middle.x) - (turn * aside * dy) / length,
    y: middle.y + pull * (height / 2 - middle.y) + (turn * aside * dx) / length,
  };
  const rim = (p) => {
    const d = Math.hypot(bend.x - p.x, bend.y - p.y) || 1;
    return { x: p.x + (10.5 * (bend.x - p.x)) / d, y: p.y + (10.5 * (bend.y - p.y)) / d };
  };
  const [a, b] = [rim(from), rim(to)];
  const path = `M${a.x.toFixed(1)} ${a.y.toFixed(1)}Q${bend.x.toFixed(1)} ${bend.y.toFixed(1)} ${b.x.toFixed(1)} ${b.y.toFixed(1)}`;
  const angle = Math.atan2(b.y - bend.y, b.x - bend.x);
  const corner = (by) => `${(b.x - 6 * Math.cos(angle + by)).toFixed(1)} ${(b.y - 6 * Math.sin(angle + by)).toFixed(1)}`;
  const at = { x: (a.x + 2 * bend.x + b.x) / 4, y: (a.y + 2 * bend.y + b.y) / 4 };
  const words = `${entityOf(row.head).name} — ${row.type} — ${entityOf(row.tail).name}${WORDS[verdict] ? `: ${WORDS[verdict]}` : ""}`;
  const bad = verdict && verdict !== "hit" && verdict !== "gold";
  return el("svg:g", { class: `edge ${verdict ?? "none"}`, "data-e": `${row.head} ${row.tail}`, "data-r": row.key, "data-row": row.key, "data-kind": JSON.stringify([row.type]), "data-v": verdict ?? "none" },
    el("svg:title", {}, visible(words)),
    el("svg:path", { class: "reach", d: path }),
    el("svg:path", { class: "stroke", d: path }),
    el("svg:path", { class: "head", d: `M${b.x.toFixed(1)} ${b.y.toFixed(1)}L${corner(0.45)}L${corner(-0.45)}Z` }),
    bad ? el("svg:text", { class: "mark", x: at.x.toFixed(1), y: (at.y + 4).toFixed(1) }, SIGNS[verdict]) : null,
    el("svg:text", { class: "type", x: at.x.toFixed(1), y: (at.y - 6).toFixed(1), }, brief(row.type, 30)));
}

function drawNode(content, n, { x, y }) {
  const entity = entityOf(n);
  const right = x >= WIDTH / 2;
  return el("svg:g", { class: "node", tabindex: "0", role: "button", "aria-pressed": "false", "aria-label": `entity ${n}: ${brief(entity.name, 60)}, ${brief(entity.type, 60)}`, "data-e": n, "data-pick": n, "data-kind": JSON.stringify([entity.type]), "data-hue": colourOf(n).hue },
    el("svg:title", {}, visible(`${entity.name} · ${entity.type}`)),
    el("svg:circle", { cx: x.toFixed(1), cy: y.toFixed(1), r: 9.5 }),
    el("svg:text", { class: "n", x: x.toFixed(1), y: (y + 3.5).toFixed(1) }, String(n)),
    el("svg:text", { class: right ? "name" : "name left", x: (x + (right ? 14 : -14)).toFixed(1), y: (y + 4).toFixed(1), lang: content.lang }, brief(entity.name, content.lang === "zh" ? 8 : 15)));
}
