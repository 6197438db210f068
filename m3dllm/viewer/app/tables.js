// What was found, counted and listed: a row a task, an entity or a relation; a column a side.

const LISTED = 300; // rows before the reader is asked

/** The counts of a side, over types. */
function countsOf(side, task) {
  const counts = Object.fromEntries(VERDICTS.map((verdict) => [verdict, 0]));
  for (const verdicts of Object.values(side.tally?.[task] ?? {}))
    for (const [verdict, n] of Object.entries(verdicts)) counts[verdict] += n;
  return counts;
}

const PARTS = { entity: "mentions", chain: "chains", relation: "relations", grounding: "regions" };

function drawSummary(sides) {
  const grid = el("div.grid.summary", { style: { "--n": sides.length } });
  for (const task of TASKS) {
    grid.append(el("div.gutter", {}, task));
    for (const side of sides) grid.append(el("div.cell", {}, summaryOf(side, task)));
  }
  return grid;
}

function summaryOf(side, task) {
  const here = side[PARTS[task]].length;
  if (side.run === null || !index.gold) return el("span.number", {}, here.toLocaleString("en"));
  if (!side.scored.includes(task)) return el("span.muted", {}, here ? `${here.toLocaleString("en")}, not scored` : "not scored");
  const counts = countsOf(side, task);
  const shown = VERDICTS.filter((verdict) => counts[verdict]);
  if (!shown.length) return el("span.muted", {}, "nothing to find");
  return [
    meter(side.run, counts),
    el("span.counts", {}, shown.map((verdict) => el("span", { title: WORDS[verdict] }, el(verdict === "hit" ? "b.good" : "b.bad", { "aria-label": WORDS[verdict] }, SIGNS[verdict]), ` ${counts[verdict]} `))),
  ];
}

/** The sign of a verdict, with its word for those who do not see it. */
function sign(verdict, ...more) {
  if (!verdict) return el("span.sign.muted", {}, more.length ? more : "·");
  return el(verdict === "hit" ? "span.sign.good" : "span.sign.bad", { title: WORDS[verdict] }, el("span", { "aria-hidden": "true" }, SIGNS[verdict]), el("span.hidden", {}, WORDS[verdict]), more);
}

const number = (n) => el(isRegion(entityOf(n)) ? "span.entity.region" : "span.entity", { "data-hue": colourOf(n).hue }, String(n));

function table(caption, heads, rows, draw) {
  const body = el("tbody");
  const made = el("table", {}, el("caption.hidden", {}, caption), el("thead", {}, el("tr", {}, heads.map((head, i) => el("th", { scope: "col", class: i >= heads.length - sidesShown().length ? "side" : null }, head)))), body);
  let drawn = 0;
  const more = el("button.more", { type: "button", onclick: show });
  function show() {
    body.append(...rows.slice(drawn, drawn + LISTED).map(draw));
    drawn = Math.min(rows.length, drawn + LISTED);
    more.textContent = `Show more: ${count(rows.length - drawn, "row")} left`;
    if (drawn === rows.length) more.remove();
  }
  show();
  return el("div.scroll", {}, made, drawn < rows.length ? more : null);
}

function drawEntities(content, sides) {
  const rows = content.entities.filter(({ number: n }) => sides.some((side) => chainOf(side, n) || missedChain(side, n)));
  if (!rows.length) return el("p.empty", {}, "No entities.");
  return table("Entities", ["No.", "Entity", "Type", ...sides.map(sideName)], rows, (entity) => {
    const n = entity.number;
    const verdicts = sides.map((side) => chainOf(side, n)?.verdict ?? (missedChain(side, n) ? "missed" : "none"));
    return el("tr", { "data-e": n, "data-pick": n, "data-kind": JSON.stringify([entity.type]), "data-v": verdicts.join(" ") },
      el("td.first", {}, number(n)),
      el("th", { scope: "row", lang: content.lang, dir: "auto" }, el("button.link", { type: "button", "data-pick": n, "aria-pressed": "false", "data-e": n }, brief(entity.name, 60))),
      el("td.kind", { title: gloss(entity.type) }, brief(entity.type, 24)),
      sides.map((side) => el("td.side", {}, chainSign(side, n))));
  });
}

const chainOf = (side, n) => side.chains.find((chain) => chain.entity === n);
const missedChain = (side, n) => side.missed?.chains.some((chain) => chain.entity === n);

function chainSign(side, n) {
  const chain = chainOf(side, n);
  if (!chain) return missedChain(side, n) ? sign("missed") : null;
  return sign(chain.verdict, ` ${chain.size}`);
}

/** The relations of all sides, gold first; what two sides say alike is one row. */
function relationRows(sides) {
  const rows = new Map();
  const put = (key, relation, side, verdict) => {
    if (!rows.has(key)) rows.set(key, { key, ...relation, at: new Map(), sure: new Map() });
    const { at, sure } = rows.get(key);
    if (at.has(side) && verdict !== "hit") return;
    at.set(side, verdict);
    sure.set(side, relation.confidence);
  };
  const keyOf = (r) => r.row ?? `x${r.head}-${r.tail}-${r.type}`;
  for (const side of sides.filter((s) => s.run === null)) for (const r of side.relations) put(keyOf(r), r, side, "gold");
  for (const side of sides.filter((s) => s.run !== null)) for (const r of side.missed.relations) put(keyOf(r), r, side, "missed");
  for (const side of sides.filter((s) => s.run !== null)) for (const r of side.relations) put(keyOf(r), r, side, r.verdict);
  const order = (row) => (row.key[0] === "g" ? Number(row.key.slice(1)) : Infinity);
  return [...rows.values()].sort((a, b) => order(a) - order(b) || a.head - b.head || a.tail - b.tail || (a.type < b.type ? -1 : 1));
}

/** The confidence of a relation, beside its sign. */
const sureCell = (confidence) => (confidence === undefined ? [] : [el("span.sure-value", { title: "confidence" }, sureValue(confidence))]);

function drawRelations(content, sides, rows) {
  if (!rows.length) return el("p.empty", {}, "No relations.");
  return table("Relations", ["Head", "Relation", "Tail", ...sides.map(sideName)], rows, (row) => {
    const verdicts = [...row.at.values()].map((verdict) => verdict ?? "none");
    return el("tr", { "data-e": `${row.head} ${row.tail}`, "data-r": row.key, "data-kind": JSON.stringify([row.type]), "data-v": verdicts.join(" ") },
      el("td", { lang: content.lang, dir: "auto" }, number(row.head), " ", brief(entityOf(row.head).name, 28)),
      el("th", { scope: "row" }, el("button.link", { type: "button", "data-row": row.key, "aria-pressed": "false", title: visible(gloss(row.type)) }, breakable(brief(row.type, 40)))),
      el("td", { lang: content.lang, dir: "auto" }, number(row.tail), " ", brief(entityOf(row.tail).name, 28)),
      sides.map((side) => el("td.side", {}, !row.at.has(side) ? null : row.at.get(side) === "gold" ? el("span.sign.dot", { title: "gold" }, "●", el("span.hidden", {}, "gold")) : sign(row.at.get(side), ...sureCell(row.sure.get(side))))));
  });
}
