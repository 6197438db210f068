// When what is said and shown: a line of the segments, one of the frames (filled where they are annotated or have boxes), and
// under them the entities that come up most.

const LINES = 8; // entities with a line of their own

/** The time line of the first column; null where neither segments nor frames have times. */
function drawTime(content, [side]) {
  const segments = content.segments.filter(([, , from, to]) => to > from);
  const frames = content.frames.filter((frame) => frame.time_s !== null);
  const last = Math.max(0, ...segments.map(([, , , to]) => to), ...frames.map((frame) => frame.time_s));
  if (!last || !side) return null;
  const first = Math.min(last, ...segments.map(([, , from]) => from), ...frames.map((frame) => frame.time_s));
  const share = (seconds) => `${((100 * (seconds - first)) / (last - first || 1)).toFixed(2)}%`;
  const stretch = (kind, [, , from, to], facts = {}) => el(`i.${kind}`, { style: { left: share(from), width: `calc(${share(to)} - ${share(from)})` }, ...facts });
  const line = (name, marks, facts = {}) => el("div.line", facts, el("span.name", {}, name), el("span.track", {}, marks));
  const boxed = new Set(side.regions.map((region) => region.frame));
  const lines = entitiesInTime(side, segments, frames).map(({ n, said, shown }) =>
    line([number(n), " ", brief(entityOf(n).name, 18)], [
      ...said.map((segment) => stretch("said", segment, { title: `${clock(segment[2])}: mentioned` })),
      ...shown.map((frame) => el("i.shown", { style: { left: share(frame.time_s) }, title: `${clock(frame.time_s)}: in frame ${frame.index}` })),
    ], { "data-e": n, "data-pick": n, "data-hue": colourOf(n).hue, "data-kind": JSON.stringify([entityOf(n).type]), lang: content.lang }));
  return [
    el("div.time", { role: "group", "aria-label": `${count(segments.length, "segment")} and ${count(frames.length, "frame")} with times, from ${clock(first)} to ${clock(last)}` },
      segments.length ? line("segments", segments.map((segment) => stretch("segment", segment, { title: `${clock(segment[2])} to ${clock(segment[3])}` }))) : null,
      frames.length ? line("frames", frames.map((frame) => el(frame.annotated || boxed.has(frame.index) ? "i.frame.filled" : "i.frame", { style: { left: share(frame.time_s), width: `clamp(2px, ${(40 / frames.length).toFixed(2)}%, 5px)` }, title: `${clock(frame.time_s)}: frame ${frame.index}`, onclick: () => openFrame(frame.index) }))) : null,
      lines,
      el("div.line.ends", {}, el("span.name"), el("span.track", {}, el("span", {}, clock(first)), el("span", {}, clock(last))))),
    lines.length ? el("p.note", {}, `Entities of ${sideName(side)}: lines where they are mentioned, squares where a frame shows them.`) : null,
  ];
}

/** The entities of a side that come up in most segments and frames, in the order in which they first do. */
function entitiesInTime(side, segments, frames) {
  const found = new Map();
  const of = (n) => found.get(n) ?? found.set(n, { n, said: new Set(), shown: new Set() }).get(n);
  for (const mention of side.mentions) {
    const segment = segments.find(([start, end]) => start <= mention.start && mention.start < end);
    if (segment) of(mention.entity).said.add(segment);
  }
  const known = new Map(frames.map((frame) => [frame.index, frame]));
  for (const region of side.regions) if (region.entity && known.has(region.frame)) of(region.entity).shown.add(known.get(region.frame));
  return [...found.values()].sort((a, b) => b.said.size + b.shown.size - a.said.size - a.shown.size || a.n - b.n).slice(0, LINES)
    .sort((a, b) => a.n - b.n).map(({ n, said, shown }) => ({ n, said: [...said], shown: [...shown] }));
}
