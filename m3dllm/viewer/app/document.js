// One document: head, columns, text, frames, entities, relations; and what lights up in all of them.

function drawDocument() {
  const { content } = state;
  const main = byId("main");
  const sides = sidesShown();
  const rows = relationRows(sides);
  const graph = placeEntities(rows);
  const nothing = !content.text && !content.frames.length;
  const time = section(content.video?.src ? "Video" : "Time", drawTime(content, sides));
  main.lang = "en";
  document.title = `${brief(content.title || content.id, 80)} · m3dllm`;
  main.replaceChildren(...[
    drawHead(content),
    el("div.grid.heads", { style: { "--n": sides.length } }, el("div.gutter"), sides.map(drawSideHead)),
    sides.length ? null : el("p.empty", {}, "No column is selected."),
    section("Verdicts", sides.some((side) => side.run !== null) ? drawSummary(sides) : null, "summary"),
    nothing ? el("p.empty", {}, "Neither text nor frames. ", el("span", {}, "The correct answer is empty.")) : null,
    content.video ? time : null,
    nothing ? null : section("Text", drawText(content, sides)),
    content.video ? null : time,
    nothing ? null : section("Frames", [sides.length > 1 && content.frames.length ? drawKey(sides) : null, drawFrames(content, sides)]),
    !content.text && !rows.length ? null : section("Relations", rows.length ? [
      drawGraphs(content, sides, rows, graph),
      drawRelations(content, sides, rows),
    ] : el("p.empty", {}, "No relations.")),
    !content.text && !content.entities.length ? null : section("Entities", drawEntities(content, sides)),
  ].filter(Boolean));
  light();
  dimByFilter();
  findFollowers();
}

/** A graph a side, under the heads; more than three sides, or many relations, would be too small there: they stand in rows, each with its name. */
function drawGraphs(content, sides, rows, graph) {
  const cell = (side, ...head) => el("div.cell", {}, head, drawGraph(content, side, rows, graph));
  if (sides.length <= 3 && rows.length <= FEW) return el("div.grid.graphs", { style: { "--n": sides.length } }, el("div.gutter"), sides.map((side) => cell(side)));
  return el(rows.length > FEW ? "div.graphs.apart.wide" : "div.graphs.apart", {}, sides.map((side) => cell(side, el("p.kind", {}, el(`i.swatch.${styleOf(side)}`, { "aria-hidden": "true" }), sideName(side)))));
}

const section = (name, content, kind = "") =>
  content && el("section", { "aria-label": name, class: kind || null }, el("h2", {}, name), ...[content].flat(3).filter(Boolean));

function drawHead(content) {
  const facts = [
    content.lang === "zh" ? "Chinese" : "English",
    content.text ? count(pointsOf(content.text).length, "character") : "no text",
    content.frames.length ? count(content.frames.length, "frame") + (index.gold ? `, ${content.frames.filter((frame) => frame.annotated).length} annotated` : "") : "no frames",
  ];
  return el("header.head", {},
    el("div", {},
      el("p.eyebrow", {}, el("span.mono", {}, brief(content.id, 80)), content.group && content.group !== content.id ? [" · from ", brief(content.group, 60)] : null),
      el("h1", { lang: content.lang, dir: "auto" }, brief(content.title || content.text || content.id, 160)),
      el("p.facts", {}, facts.join(" · "))),
    el("div.steps", {},
      el("button.quiet", { type: "button", "aria-label": "Previous document (k)", title: "Previous document (k)", onclick: () => step(-1) }, "←"),
      el("button.quiet", { type: "button", "aria-label": "Next document (j)", title: "Next document (j)", onclick: () => step(1) }, "→")));
}

function drawSideHead(side) {
  const swatch = el(`i.swatch.${styleOf(side)}`, { "aria-hidden": "true" });
  if (side.run === null) return el("div.cell", {}, swatch, el("b", {}, "gold"));
  const answer = answerOf(side);
  const notes = [side.hidden && `was not shown the ${side.hidden}`, !side.answered && "no prediction", answer.error && "failed"].filter(Boolean);
  return el("div.cell", {}, swatch, el("b", {}, sideName(side)),
    el("button.answer", { type: "button", "aria-haspopup": "dialog", onclick: () => openAnswer(side) }, answer.issues.length ? `answer · ${count(answer.issues.length, "issue")}` : "answer"),
    notes.length ? el("span.warn", {}, notes.join(", ")) : null);
}

// --- what lights up ---

const same = (a, b) => a === b || Boolean(a && b && a.entity === b.entity && a.row === b.row);

function select(chosen) {
  state.selected = same(chosen, state.selected) ? null : chosen;
  state.hovered = null;
  history.replaceState(null, "", addressOf(state.number, state.selected));
  light();
}

/** Light up what is hovered, else what is selected: in the text, in the graphs, in the tables and in the frames. */
function light() {
  const chosen = state.hovered ?? state.selected;
  const rows = chosen?.row && state.content ? relationRows(sidesShown()).find((row) => row.key === chosen.row) : null;
  const entities = chosen?.entity ? [String(chosen.entity)] : rows ? [String(rows.head), String(rows.tail)] : [];
  const main = byId("main");
  main.classList.toggle("lighting", entities.length > 0);
  for (const element of document.querySelectorAll("#main [data-e], #dialog [data-e]")) {
    const own = element.dataset.e.split(" ");
    const { r } = element.dataset;
    const lit = entities.length > 0 && (rows && r ? r === rows.key : own.some((n) => entities.includes(n)));
    element.classList.toggle("lit", lit);
  }
  for (const button of main.querySelectorAll("[aria-pressed]")) {
    const { pick, row } = button.dataset;
    button.setAttribute("aria-pressed", String(same(state.selected, row ? { entity: undefined, row } : { entity: Number(pick), row: undefined })));
  }
  drawSelected();
}

function drawSelected() {
  const place = byId("selected");
  const { selected, content } = state;
  const row = selected?.row && content ? relationRows(sidesShown()).find((other) => other.key === selected.row) : null;
  const entity = selected?.entity && content ? entityOf(selected.entity) : null;
  place.replaceChildren();
  if (!entity && !row) return;
  const sides = sidesShown();
  const words = entity
    ? sides.map((side) => `${sideName(side)}: ${isRegion(entity) ? count(boxesNamed(side, entity.number), "box", "boxes") : count(chainOf(side, entity.number)?.size ?? 0, "mention")}`)
    : sides.map((side) => `${sideName(side)}: ${row.at.has(side) ? (WORDS[row.at.get(side)] ?? (row.at.get(side) === "gold" ? "yes" : "not scored")) : "no"}`);
  place.append(el("div.card", {},
    entity ? [number(entity.number), el("b", { lang: content.lang }, brief(entity.name, 60)), el("span.kind", {}, brief(entity.type, 40))]
      : [number(row.head), el("b", {}, brief(row.type, 60)), number(row.tail), gloss(row.type) === row.type ? null : el("span.muted", { lang: content.lang }, brief(gloss(row.type), 120))],
    el("span", {}, words.join(" · ")),
    el("button.quiet.icon", { type: "button", "aria-label": "Clear the selection", onclick: () => select(null) }, "✕")));
}

const boxesNamed = (side, n) => side.regions.filter((region) => region.number === n).length;

/** Step through the entities of the document. */
function stepEntity(by) {
  const known = state.content.entities.length;
  if (!known) return;
  const at = state.selected?.entity ?? (by > 0 ? 0 : known + 1);
  const to = ((at + by - 1 + known) % known) + 1;
  select({ entity: to });
  document.querySelector(`#main .text [data-pick="${to}"]`)?.scrollIntoView({ block: "nearest" });
}

/** Under a filter by type or errors, whatever does not pass steps back. */
function dimByFilter() {
  const { type, errors } = state.filters;
  for (const element of byId("main").querySelectorAll("[data-kind]")) {
    const ofType = !type || JSON.parse(element.dataset.kind).includes(type);
    const wrong = !errors || !element.dataset.v || element.dataset.v.split(" ").some((verdict) => WRONG.includes(verdict));
    element.classList.toggle("dim", !(ofType && wrong));
  }
}
