// Frames with their boxes: a line style and a colour a side, the type in words.

const styleOf = (side) => (side.run === null ? "gold" : `s${state.runs.indexOf(side.run) < 0 ? 0 : state.runs.indexOf(side.run)}`);

function drawFrames(content, sides) {
  if (!content.frames.length) return el("p.empty", {}, "No frames. ", el("span", {}, "All information is in the text."));
  const known = new Set(content.frames.map((frame) => frame.index));
  const stray = sides.map((side) => [side, side.regions.filter((region) => !known.has(region.frame)).length]).filter(([, n]) => n);
  return [
    drawStrip(content, sides),
    stray.map(([side, n]) => el("p.note", {}, `${sideName(side)} has ${count(n, "box", "boxes")} in frames that the document does not have.`)),
  ];
}

/** The frames side by side: so many, and the rest when the reader asks. */
function drawStrip(content, sides) {
  const strip = el("ul.strip", { tabindex: "0", "aria-label": "Frames" });
  let drawn = 0;
  const more = el("li", {}, el("button.more", { type: "button", onclick: show }));
  function show() {
    more.remove();
    strip.append(...content.frames.slice(drawn, drawn + LISTED).map((frame) => el(frame.annotated || boxesOf(frame, sides).length ? "li" : "li.bare", frame.time_s === null ? {} : shownFor(content, frame), drawFrame(content, frame, sides))));
    drawn = Math.min(content.frames.length, drawn + LISTED);
    if (drawn === content.frames.length) return;
    more.firstChild.textContent = `Show more: ${count(content.frames.length - drawn, "frame")} left`;
    strip.append(more);
  }
  show();
  return strip;
}

const boxesOf = (frame, sides) => sides.flatMap((side) => side.regions.filter((region) => region.frame === frame.index).map((region) => [side, region]));

function drawFrame(content, frame, sides) {
  const boxes = boxesOf(frame, sides);
  const words = `Frame ${frame.index}: ${boxes.length ? count(boxes.length, "box", "boxes") : "no boxes"}`;
  return el("figure", {},
    el("button.still", { type: "button", "aria-label": `${words}; enlarge`, onclick: () => openFrame(frame.index), style: { "aspect-ratio": `${frame.width} / ${frame.height}` } }, picture(frame), drawBoxes(frame, boxes, 300)),
    el("figcaption", {}, `${frame.index}`, el("span.muted", {}, frame.time_s === null ? "" : [" · ", timeMark(frame.time_s)], frame.annotated || !index.gold ? "" : " · boxes not annotated")));
}

function picture(frame) {
  const gone = (why) => el("span.gone", {}, el("span", {}, `Frame ${frame.index}`), el("span", {}, why));
  if (!frame.src) return gone(frame.gone);
  return el("img", { src: frame.src, alt: "", loading: "lazy", decoding: "async", width: frame.width, height: frame.height, onerror: (event) => event.target.replaceWith(gone("the thumbnail is missing")) });
}

const drawable = ({ box }) => box.every((x) => x !== null && Math.abs(x) < 100) && box[0] < box[2] && box[1] < box[3];

/** The number that a box bears: its own where a relation names it, else that of the entity that it shows. */
const numberIn = ({ entity, number: own }) => (own ?? entity ? ` ${own ?? entity}` : "");

function drawBoxes(frame, boxes, width) {
  const drawn = boxes.filter(([, region]) => drawable(region));
  const corners = cornersOf(frame, drawn, width);
  const shapes = drawn.map(([side, region], i) => {
    const [x0, y0, x1, y1] = region.box;
    const { entity, number: own, type, verdict } = region;
    const wrong = verdict && verdict !== "hit";
    const place = { left: `${100 * x0}%`, top: `${100 * y0}%`, width: `${100 * (x1 - x0)}%`, height: `${100 * (y1 - y0)}%`, ...sureStyle(region.confidence) };
    const words = `${sideName(side)}: ${type}${verdict ? `, ${WORDS[verdict]}` : ""}${sureWords(region)}${own ? `, region ${own}` : ""}${entity ? `, entity ${entity} ${entityOf(entity).name}` : ""}`;
    return el(`span.box.${styleOf(side)}`, { style: place, title: visible(words), "data-e": [entity, own].filter(Boolean).join(" "), "data-box": side.run ?? "gold", "data-kind": JSON.stringify([type]), "data-v": verdict ?? "none" },
      el(`span.type.${corners[i] ?? "aside"}`, {}, wrong ? `${SIGNS[verdict]} ` : "", brief(type, 10), numberIn(region), sureValue(region.confidence)));
  });
  return el("span.boxes", { "aria-hidden": "true" }, shapes);
}

const CORNERS = ["tl", "bl", "tr", "br", "over", "under"];

/** For each box the corner where its label covers no other label, in a frame so many pixels wide; none where none is free. */
function cornersOf(frame, boxes, width) {
  const height = (width * frame.height) / frame.width;
  const taken = [];
  return boxes.map(([, region]) => {
    const { box, type, verdict, confidence } = region;
    const words = `${verdict && verdict !== "hit" ? "+ " : ""}${brief(type, 10)}${numberIn(region)}${sureValue(confidence)}`;
    const [long, high] = [widthOfText(words, 10.5) + 10, 14];
    const [x0, y0, x1, y1] = [box[0] * width, box[1] * height, box[2] * width, box[3] * height];
    const rooms = { tl: [x0, y0], bl: [x0, y1 - high], tr: [x1 - long, y0], br: [x1 - long, y1 - high], over: [x0, y0 - high], under: [x0, y1] };
    const room = (corner) => ({ x0: rooms[corner][0], x1: rooms[corner][0] + long, y0: rooms[corner][1], y1: rooms[corner][1] + high });
    const free = (corner) => {
      const at = room(corner);
      return at.x0 >= -2 && at.y0 >= -2 && at.x1 <= width + 2 && at.y1 <= height + 2 && !taken.some((other) => crosses(other, at));
    };
    const corner = CORNERS.find(free);
    if (corner) taken.push(room(corner));
    return corner;
  });
}

/** The key of the lines, where several sides draw. */
function drawKey(sides) {
  return el("p.key", { "aria-hidden": "true" }, sides.map((side) => el("span", {}, el(`i.swatch.${styleOf(side)}`), sideName(side))));
}
