// When what is said and shown: a line of the segments, one of the frames (filled where they are annotated or have boxes), and
// under them the entities that come up most.

const LINES = 8; // entities with a line of their own

/** The segments and frames with times, and the first and last time; null where there are none. */
function timesOf({ segments: all, frames: shown, video }) {
  const segments = all.filter(([, , from, to]) => to > from);
  const frames = shown.filter((frame) => frame.time_s !== null);
  const bounds = video?.src ? [video.start_s, video.end_s ?? video.start_s] : [];
  const times = [...segments.flatMap(([, , from, to]) => [from, to]), ...frames.map((frame) => frame.time_s), ...bounds];
  const last = times.reduce((a, b) => Math.max(a, b), 0);
  return last ? { segments, frames, last, first: times.reduce((a, b) => Math.min(a, b), last) } : null;
}

/** The video, and the time line of the first column; null where there are neither video, nor segments and frames with times. */
function drawTime(content, [side]) {
  const times = timesOf(content);
  const watched = drawPlayer(content);
  if (!times || !side) return watched;
  const { segments, frames, first, last } = times;
  const share = (seconds) => `${((100 * (seconds - first)) / (last - first || 1)).toFixed(2)}%`;
  const stretch = (kind, [, , from, to], facts = {}) => el(`i.${kind}`, { style: { left: share(from), width: `calc(${share(to)} - ${share(from)})` }, ...facts });
  const line = (name, marks, facts = {}) => el("div.line", facts, el("span.name", {}, name), el("span.track", {}, marks));
  const track = (name, marks) => line(name, [marks, player ? el("i.playhead") : null].flat(), { class: player ? "line seeks" : "line", onclick: seekThere });
  /** A click beside the marks goes to the time under the pointer. */
  function seekThere({ target, clientX }) {
    if (!target.classList.contains("track")) return;
    const { left, width } = target.getBoundingClientRect();
    seek(first + ((clientX - left) / width) * (last - first));
  }
  const boxed = new Set(side.regions.map((region) => region.frame));
  const lines = entitiesInTime(side, segments, frames).map(({ n, said, shown }) =>
    line([number(n), " ", brief(entityOf(n).name, 18)], [
      ...said.map((segment) => stretch("said", segment, { title: `${clock(segment[2])}: mentioned` })),
      ...shown.map((frame) => el("i.shown", { style: { left: share(frame.time_s) }, title: `${clock(frame.time_s)}: in frame ${frame.index}` })),
    ], { "data-e": n, "data-pick": n, "data-hue": colourOf(n).hue, "data-kind": JSON.stringify([entityOf(n).type]), lang: content.lang }));
  const marks = [
    el("div.time", { role: "group", "aria-label": `${count(segments.length, "segment")} and ${count(frames.length, "frame")} with times, from ${clock(first)} to ${clock(last)}` },
      segments.length ? track("segments", segments.map((segment) => stretch("segment", segment, { title: `${clock(segment[2])} to ${clock(segment[3])}`, "data-from": segment[2], "data-to": segment[3], onclick: () => seek(segment[2]) }))) : null,
      frames.length ? track("frames", frames.map((frame) => el(frame.annotated || boxed.has(frame.index) ? "i.frame.filled" : "i.frame", { style: { left: share(frame.time_s), width: `clamp(2px, ${(40 / frames.length).toFixed(2)}%, 5px)` }, title: `${clock(frame.time_s)}: frame ${frame.index}`, ...shownFor(content, frame), onclick: () => seek(frame.time_s) || openFrame(frame.index) }))) : null,
      lines,
      el("div.line.ends", {}, el("span.name"), el("span.track", {}, el("span", {}, clock(first)), el("span", {}, clock(last))))),
    lines.length ? el("p.note", {}, `Entities of ${sideName(side)}: lines where they are mentioned, squares where a frame shows them.`) : null,
  ];
  return player ? el("div.watch", {}, watched, el("div", {}, marks)) : [watched, ...marks];
}

const untils = new WeakMap(); // of a document: when the next frame is shown, by the time of a frame

/** From when to when a frame is the one to look at: until the next. */
function shownFor(content, frame) {
  if (!untils.has(content)) {
    const times = [...new Set(content.frames.map(({ time_s }) => time_s).filter((time) => time !== null))].sort((a, b) => a - b);
    untils.set(content, new Map(times.map((time, i) => [time, times[i + 1] ?? ""])));
  }
  return { "data-from": frame.time_s, "data-to": untils.get(content).get(frame.time_s) };
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
