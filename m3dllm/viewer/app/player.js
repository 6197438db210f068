// The video of a document: it goes to where the reader points, and what it says and shows lights up while it plays.

let player = null; // {number, video} of the document whose video can be played
let followers = []; // {from, to, elements} of what is lit between two times

/** The video above the time line, or why there is none; null for a document without one. */
function drawPlayer(content) {
  const { video: clip } = content;
  if (player?.number !== state.number || !clip?.src) player = null;
  if (!clip) return null;
  if (!clip.src) return el("p.note", {}, `The video cannot be played: ${visible(clip.gone)}. The frames show what it shows.`);
  if (player) return el("div.player", {}, player.video);
  const made = el("video", {
    src: `${clip.src}#t=${clip.start_s}${clip.end_s === null ? "" : `,${clip.end_s}`}`,
    controls: true,
    preload: "metadata",
    playsinline: true,
    "aria-label": "The video of this document",
    ontimeupdate: follow,
    onseeking: follow,
    onloadedmetadata: () => made.videoWidth || silent(),
    onerror: silent,
    style: content.frames.length ? { "--ratio": content.frames[0].width / content.frames[0].height } : {},
  });
  // its text as captions, which the reader may switch on
  const captions = made.addTextTrack("captions", "Text", content.lang);
  captions.mode = "hidden";
  const points = pointsOf(content.text);
  for (const [start, end, from, to] of content.segments) if (to > from) captions.addCue(new VTTCue(from, to, visible(points.slice(start, end))));
  player = { number: state.number, video: made };
  /** A browser that cannot decode it shows the frames, as without a video. */
  function silent() {
    Object.assign(clip, { src: null, gone: "this browser cannot decode it" });
    if (player?.video === made) drawDocument();
  }
  return el("div.player", {}, made);
}

/** Go to a time, a little behind it, so that what begins there is shown; false where nothing can be played. */
function seek(seconds) {
  if (!player) return false;
  player.video.currentTime = seconds + 0.001;
  return true;
}

/** A time in the text or under a frame: a button where a video can be played. */
function timeMark(seconds, facts = {}) {
  const words = clock(seconds);
  if (!state.content.video?.src) return el("time", facts, words);
  return el("button.at", { type: "button", "aria-label": `Go to ${words} in the video`, ...facts, onclick: () => seek(seconds) && player.video.focus() }, el("time", {}, words));
}

/** What follows the video, found anew when a document is drawn: everything with the time from which, and to which, it is there. */
function findFollowers() {
  const found = new Map();
  for (const element of byId("main").querySelectorAll("[data-from]")) {
    const { from, to } = element.dataset;
    const key = `${from} ${to}`;
    if (!found.has(key)) found.set(key, { from: Number(from), to: to === "" ? Infinity : Number(to), elements: [] });
    found.get(key).elements.push(element);
  }
  followers = [...found.values()];
  follow();
}

function follow() {
  if (!player) return;
  const { video } = player;
  const now = video.currentTime;
  for (const { from, to, elements } of followers) for (const element of elements) element.classList.toggle("now", from <= now && now < to);
  const { first, last } = timesOf(state.content) ?? { first: 0, last: 1 };
  const share = Math.min(1, Math.max(0, (now - first) / (last - first || 1)));
  for (const element of document.querySelectorAll("#main .playhead")) element.style.setProperty("left", `${(100 * share).toFixed(3)}%`);
  const strip = document.querySelector("#main .strip");
  const shown = strip?.querySelector("li.now");
  if (shown && !video.paused) strip.scrollTo({ left: shown.offsetLeft - strip.offsetLeft - 12, behavior: "instant" });
}

/** Play, or pause. */
const togglePlay = () => player && (player.video.paused ? player.video.play().catch(() => {}) : player.video.pause());

/** To the segment after this one or before it; without segments, to the frame. */
function stepTime(by) {
  if (!player) return;
  const { segments, frames } = state.content;
  const spoken = segments.filter(([, , from, to]) => to > from).map(([, , from]) => from);
  const times = (spoken.length ? spoken : frames.map((frame) => frame.time_s).filter((time) => time !== null)).sort((a, b) => a - b);
  const now = player.video.currentTime;
  const to = by > 0 ? times.find((time) => time > now + 0.01) : times.findLast((time) => time < now - 0.5);
  if (to !== undefined) seek(to);
}

// rows and frames that come when the reader asks for more follow too
byId("main").addEventListener("click", (event) => event.target.closest(".more") && findFollowers());
