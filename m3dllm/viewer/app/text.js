// The text, a row a segment and a column a side, so that one can read across.

const ROW = 20000; // characters of a row before the reader is asked

/** The text as code points, so that offsets fit; plain where the two are the same. */
function pointsOf(text) {
  const points = /[\ud800-\udfff]/.test(text) ? Array.from(text) : null;
  return { length: points ? points.length : text.length, slice: (a, b) => (points ? points.slice(a, b).join("") : text.slice(a, b)) };
}

/** Rows that cover the whole text once: segments with their times, and what lies between them. */
function rowsOf(points, segments) {
  const rows = [];
  let at = 0;
  const add = (start, end, times) => {
    for (let from = start; from < end; from += ROW) {
      const to = Math.min(end, from + ROW);
      if (times || points.slice(from, to).trim()) rows.push({ start: from, end: to, times: from === start ? times : null });
    }
  };
  for (const [start, end, from, to] of [...segments].sort((a, b) => a[0] - b[0] || a[1] - b[1])) {
    if (start > at) add(at, start, null);
    if (end > at) add(Math.max(start, at), end, [from, to]);
    at = Math.max(at, end);
  }
  add(at, points.length, null);
  return rows;
}

const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

/** What is marked in a side's text: what it said and what it missed, the inner ones first (level 0 lies nearest). */
function marksOf(side) {
  const missed = (side.missed?.mentions ?? []).map((mention) => ({ ...mention, verdict: "missed" }));
  const marks = [...side.mentions, ...missed].sort((a, b) => a.end - a.start - (b.end - b.start) || a.start - b.start);
  const placed = [];
  for (const mark of marks) {
    const under = placed.filter((other) => other.start < mark.end && mark.start < other.end);
    const taken = new Set(under.map((other) => other.level));
    let level = 0;
    while (taken.has(level)) level += 1;
    placed.push({ ...mark, level });
  }
  return placed.sort((a, b) => a.start - b.start || b.end - a.end);
}

function drawText(content, sides) {
  if (!content.text) return el("p.empty", {}, "No text. ", el("span", {}, "All information is in the frames."));
  const points = pointsOf(content.text);
  const rows = rowsOf(points, content.segments);
  const marks = sides.map(marksOf);
  const grid = el("div.grid.text", { style: { "--n": sides.length } });
  let drawn = 0;
  const more = el("button.more", { type: "button", onclick: show });
  function show() {
    for (let budget = 2 * ROW; drawn < rows.length && budget > 0; drawn += 1) {
      const row = rows[drawn];
      budget -= row.end - row.start;
      const here = new Set(marks.flat().filter((mark) => mark.start < row.end && row.start < mark.end).map((mark) => mark.entity));
      const when = row.times ? { "data-from": row.times[0], "data-to": row.times[1] } : {};
      grid.append(el("div.gutter", { "data-e": [...here].join(" "), ...when }, row.times ? timeMark(row.times[0], { title: `${row.times[0]} s to ${row.times[1]} s` }) : null));
      sides.forEach((side, i) => grid.append(el("p.cell", { ...when, lang: content.lang, dir: "auto", "data-side": sideName(side) }, drawRow(points, row, marks[i], side))));
    }
    if (drawn < rows.length) {
      more.textContent = `Show more: ${count(points.length - rows[drawn].start, "character")} left`;
      grid.append(more);
    } else more.remove();
  }
  show();
  return grid;
}

function drawRow(points, row, marks, side) {
  const here = marks.filter((mark) => mark.start < row.end && row.start < mark.end);
  if (!here.length) return visible(points.slice(row.start, row.end));
  const cuts = [...new Set([row.start, row.end, ...here.flatMap((m) => [Math.max(row.start, m.start), Math.min(row.end, m.end)])])].sort((a, b) => a - b);
  return cuts.slice(0, -1).flatMap((start, i) => {
    const end = cuts[i + 1];
    const over = here.filter((mark) => mark.start <= start && end <= mark.end);
    const words = visible(points.slice(start, end));
    if (!over.length) return [words];
    const ending = over.filter((mark) => mark.end === end).sort((a, b) => a.level - b.level);
    return [piece(words, over), ...ending.map((mark) => tag(mark, points, side))];
  });
}

const GAP = 4; // pixels from one line under the text to the next

/** A stretch of text under one or several mentions, with a line for each: dashed where a mention was missed. */
function piece(words, over) {
  const levels = 1 + Math.max(...over.map((mark) => mark.level));
  const inner = over.reduce((a, b) => (a.level <= b.level ? a : b));
  return el(over.every((mark) => mark.verdict === "missed") ? "span.piece.ghost" : "span.piece", {
    ...marksData(over),
    "data-pick": inner.entity,
    "data-hue": colourOf(inner.entity).hue,
    title: inner.confidence === undefined ? null : `${brief(inner.type, 60)}${sureWords(inner)}`,
    style: {
      ...sureStyle(inner.confidence),
      "padding-bottom": `${GAP * levels - 1}px`,
      "background-image": ["linear-gradient(var(--lit), var(--lit))", ...over.map(lineOf)].join(", "),
      "background-size": ["100% 100%", ...over.map((mark) => `100% ${colourOf(mark.entity).double ? 3 : 2}px`)].join(", "),
      "background-position": ["0 0", ...over.map((mark) => `0 calc(100% - ${GAP * (levels - 1 - mark.level)}px)`)].join(", "),
    },
  }, words);
}

function lineOf({ entity, verdict }) {
  const { hue, double } = colourOf(entity);
  const colour = `var(--h-${hue})`;
  if (verdict === "missed") return `repeating-linear-gradient(90deg, ${colour} 0 4px, transparent 4px 7px)`;
  return double
    ? `linear-gradient(${colour} 0 1px, transparent 1px 2px, ${colour} 2px 3px)`
    : `linear-gradient(${colour}, ${colour})`;
}

/** What lights an element up and dims it: its entities, its types, its verdicts. */
const marksData = (marks) => ({
  "data-e": marks.map((mark) => mark.entity).join(" "),
  "data-kind": JSON.stringify(marks.map((mark) => mark.type)),
  "data-v": marks.map((mark) => mark.verdict ?? "none").join(" "),
});

/** The number after a mention: the button that selects its entity, and the sign of what is wrong with it. */
function tag(mark, points, side) {
  const wrong = mark.verdict && mark.verdict !== "hit";
  const name = brief(points.slice(mark.start, Math.min(mark.end, mark.start + 80)), 60);
  const words = `${name}: ${brief(mark.type, 60)}, entity ${mark.entity}${mark.verdict ? `, ${WORDS[mark.verdict]}` : ""}${sureWords(mark)}`;
  return el(wrong ? "span.tag.wrong" : "span.tag", {
    role: "button",
    tabindex: "0",
    ...marksData([mark]),
    "data-pick": mark.entity,
    "data-hue": colourOf(mark.entity).hue,
    "data-side": sideName(side),
    "aria-label": words,
    "aria-pressed": "false",
    title: words,
    style: sureStyle(mark.confidence),
  }, wrong ? el("b", {}, SIGNS[mark.verdict]) : null, String(mark.entity), el("span.kind", { "data-type": brief(mark.type, 6) }));
}
