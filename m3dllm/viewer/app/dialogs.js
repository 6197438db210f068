// What opens over the page: an answer as it was given, a frame, help.

const dialog = byId("dialog");

function open(title, ...content) {
  byId("dialog-title").textContent = title;
  byId("dialog-body").replaceChildren(...content.flat().filter(Boolean));
  if (!dialog.open) dialog.showModal();
  byId("dialog-body").scrollTop = 0;
}

byId("dialog-close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});

const answerOf = (side) => state.content.answers.find((answer) => answer.run === side.run && answer.given === side.given);

function openAnswer(side) {
  const answer = answerOf(side);
  const { facts } = index.runs[side.run];
  const cost = [["seconds", answer.seconds], ["tokens in", answer.tokens_in], ["tokens out", answer.tokens_out], ["given", PASSES[side.given ?? ""]], ["frames shown", answer.frames?.length]];
  open(`What ${sideName(side)} answered`,
    answer.error ? el("p.failure", {}, el("b", {}, "Failed: "), visible(answer.error)) : null,
    el("h3", {}, answer.issues.length ? count(answer.issues.length, "issue") : "No issues"),
    answer.issues.length ? el("div.scroll", {}, el("table", {}, el("thead", {}, el("tr", {}, ["Code", "Where", "Detail"].map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, answer.issues.slice(0, 1000).map(([code, where, detail]) => el("tr", {}, el("th", { scope: "row" }, visible(code)), el("td.mono", {}, visible(where)), longText(el("td"), detail, 2000)))))) : null,
    answer.issues.length > 1000 ? el("p.note", {}, `and ${count(answer.issues.length - 1000, "issue")} more`) : null,
    el("h3", {}, "Answer"),
    answer.there ? longText(el("pre", { tabindex: "0" }), payloadText(answer.payload)) : el("p.empty.small", {}, "The run has no answer for this document."),
    (answer.turns ?? []).map((turn, i) => [
      el("h3", {}, `Turn ${i + 1}: ${visible(turn.stage)}`),
      el("p.note", {}, [["ended by", turn.finish], ["tokens in", turn.tokens_in], ["tokens out", turn.tokens_out]].filter(([, v]) => v !== null && v !== "").map(([k, v]) => `${k} ${visible(String(v))}`).join(" · ")),
      longText(el("pre", { tabindex: "0" }), turn.text),
    ]).flat(),
    el("h3", {}, "Cost and run"),
    el("dl", {}, [...cost, ...facts].filter(([, value]) => value !== null && value !== undefined).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, visible(String(value)))])));
}

function payloadText(payload) {
  if (payload === null || payload === undefined) return "nothing";
  return typeof payload === "string" ? payload : JSON.stringify(payload, null, 1).replace(/\[\s+(-?[\d.e+-]+),\s+(-?[\d.e+-]+),\s+(-?[\d.e+-]+),\s+(-?[\d.e+-]+)\s+\]/g, "[$1, $2, $3, $4]");
}

function openFrame(frameIndex) {
  const { content } = state;
  const at = content.frames.findIndex((frame) => frame.index === frameIndex);
  const frame = content.frames[at];
  const sides = sidesShown();
  const rows = sides.flatMap((side) => [
    ...side.regions.filter((region) => region.frame === frameIndex).map((region) => [side, region, region.verdict]),
    ...(side.missed?.regions ?? []).filter((region) => region.frame === frameIndex).map((region) => [side, region, "missed"]),
  ]);
  const boxes = rows.filter(([, , verdict]) => verdict !== "missed");
  const turn = (by, words, sign) => el("button.quiet", { type: "button", "aria-label": words, disabled: !content.frames[at + by], onclick: () => openFrame(content.frames[at + by].index) }, sign);
  open(`Frame ${frameIndex}`,
    el("div.large", { style: { "aspect-ratio": `${frame.width} / ${frame.height}`, "--ratio": frame.width / frame.height } }, picture(frame), drawBoxes(frame, boxes, Math.min(860, innerWidth - 80))),
    el("p.row", {}, turn(-1, "Previous frame", "←"), drawKey(sides), turn(1, "Next frame", "→")),
    rows.length ? el("div.scroll", {}, el("table", {}, el("thead", {}, el("tr", {}, ["Column", "Type", "Entity", "Verdict", "Box"].map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, rows.map(([side, region, verdict]) => el("tr", {}, el("td", {}, sideName(side)), el("th", { scope: "row" }, region.number ? [number(region.number), " "] : null, brief(region.type, 40)), el("td", { lang: content.lang }, region.entity ? [number(region.entity), " ", brief(entityOf(region.entity).name, 40)] : null), el("td", {}, verdict ? [el(verdict === "hit" ? "b.good" : "b.bad", { "aria-hidden": "true" }, SIGNS[verdict]), " ", WORDS[verdict]] : null), el("td.mono", {}, drawable(region) ? region.box.map((x) => x.toFixed(2)).join(" ") : `no box: ${region.box.join(" ")}`)))))) : el("p.empty.small", {}, frame.annotated || !index.gold ? "No boxes." : "The boxes of this frame are not annotated."));
  light();
}

const KEYS = [["j →", "next document"], ["k ←", "previous document"], ["n  p", "next and previous entity"], ["/", "search"], ["e", "only errors"], ["v", "play or pause the video"], [",  .", "previous and next segment in the video"], ["Esc", "clear the selection"], ["?", "open or close this help"]];
const MEANING = { hit: "the scorer counts it as correct", missed: "the gold has it, the system does not; drawn dashed", spurious: "the system has it, the gold does not", type: "correct place, wrong type", part: "a chain that is only a part of a gold chain", merged: "a chain with mentions of several gold chains" };

function openHelp() {
  open("Help",
    el("h3", {}, "Keys"), el("dl.keys", {}, KEYS.flatMap(([keys, words]) => [el("dt", {}, keys.split(/\s+/).map((key) => el("kbd", {}, key))), el("dd", {}, words)])),
    el("h3", {}, "Signs"), el("dl.keys", {}, VERDICTS.flatMap((verdict) => [el("dt", {}, sign(verdict)), el("dd", {}, `${WORDS[verdict]}: ${MEANING[verdict]}`)])),
    el("p.note", {}, "A number denotes the same entity in every column, a number in a square a region that a relation names. Entities with several mentions are coloured, entities with one are grey. Verdicts are those of the scorer; items that it does not count have none."),
    el("p.note", {}, `The search covers titles, ids and the first ${index.searched.toLocaleString("en")} characters of a text.`));
}
