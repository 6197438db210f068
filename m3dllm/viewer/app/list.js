// The list of documents: search, filters, and how much is wrong in each.

/** Counts of a document under the filters: {run: {verdict: n}} for the runs that are shown, in the shown pass. */
function talliesOf(entry) {
  const { task, type } = state.filters;
  const found = new Map();
  for (const { run, given, tasks } of entry.tallies) {
    if (given !== state.given || !state.runs.includes(run)) continue;
    const counts = Object.fromEntries(VERDICTS.map((verdict) => [verdict, 0]));
    for (const [name, types] of Object.entries(tasks)) {
      if (task && name !== task) continue;
      for (const [kind, verdicts] of Object.entries(types)) {
        if (type && kind !== type) continue;
        for (const [verdict, n] of Object.entries(verdicts)) counts[verdict] += n;
      }
    }
    found.set(run, counts);
  }
  return found;
}

/** The share of true positives among all that is right, wrong or missed, over the shown runs; null where nothing counts. */
function share(entry) {
  const counts = [...talliesOf(entry).values()];
  const all = counts.reduce((sum, of) => sum + total(of, VERDICTS), 0);
  return all ? counts.reduce((sum, of) => sum + of.hit, 0) / all : null;
}

const total = (counts, verdicts) => verdicts.reduce((sum, verdict) => sum + counts[verdict], 0);

function passes(entry) {
  const { words, lang, task, type, errors, issues } = state.filters;
  if (lang && entry.lang !== lang) return false;
  if (issues && !entry.issues.some((run) => state.runs.includes(run))) return false;
  if (words) {
    entry.low ??= `${entry.id}\n${entry.title}\n${entry.text}`.toLowerCase();
    if (!words.toLowerCase().split(/\s+/).every((word) => entry.low.includes(word))) return false;
  }
  if (!errors && !task && !type) return true;
  const tallies = [...talliesOf(entry).values()];
  return tallies.some((counts) => total(counts, errors ? WRONG : VERDICTS) > 0);
}

const PAGE = 200; // documents of the list that stand there at once
let listed = [];
let first = 0; // of them that stand there
const { compare } = new Intl.Collator("en", { numeric: true }); // clip-2 before clip-10
const named = index.documents.map((_, number) => number).sort((a, b) => compare(index.documents[a].id, index.documents[b].id) || a - b);

function drawList() {
  const { order } = state.filters;
  listed = (order ? [...index.documents.keys()] : named).filter((number) => passes(index.documents[number]));
  if (order && order !== "corpus") {
    const shares = new Map(listed.map((number) => [number, share(index.documents[number])]));
    const sign = order === "worst" ? 1 : -1;
    const rank = (number) => (shares.get(number) === null ? Infinity : sign * shares.get(number));
    listed.sort((a, b) => (rank(a) === rank(b) ? a - b : rank(a) - rank(b)));
  }
  byId("found").textContent =
    listed.length === index.documents.length
      ? count(listed.length, "document")
      : `${listed.length} of ${count(index.documents.length, "document")}`;
  first = 0;
  drawPage();
  markCurrent();
}

function drawPage() {
  const turn = (words, by) => {
    const to = first + by;
    if (to < 0 || to >= listed.length) return null;
    const act = () => {
      first = to;
      drawPage();
      byId("documents").scrollTo(0, 0);
      byId("documents").querySelector("a").focus();
    };
    const range = `${(to + 1).toLocaleString("en")} to ${Math.min(to + PAGE, listed.length).toLocaleString("en")}`;
    return el("li", {}, el("button.more", { type: "button", onclick: act }, `${words}: ${range}`));
  };
  const items = [turn("Previous", -PAGE), ...listed.slice(first, first + PAGE).map(listItem), turn("Next", PAGE)];
  byId("documents").replaceChildren(...items.filter(Boolean));
}

function listItem(number) {
  const entry = index.documents[number];
  const name = entry.title || entry.text || entry.id;
  const signs = [entry.lang === "zh" ? "中" : "en", !entry.text && "no text", !entry.frames && "no frames"];
  const meters = [...talliesOf(entry)].map(([run, counts]) => meter(run, counts));
  return el("li", {}, el("a", { href: addressOf(number), "data-number": number },
    el("span.name", { lang: entry.lang }, brief(name, 90)),
    el("span.meta", {}, el("span.id", {}, brief(entry.id, 40)), signs.filter(Boolean).map((sign) => el("span.mark", {}, sign))),
    index.gold && meters.length ? el("span.meters", {}, meters) : null,
  ));
}

/** A line as long as what there is: true positives, wrong, missed. */
function meter(run, counts) {
  const all = total(counts, VERDICTS);
  const parts = [["hit", counts.hit], ["wrong", total(counts, WRONG.filter((verdict) => verdict !== "missed"))], ["missed", counts.missed]];
  const words = VERDICTS.filter((verdict) => counts[verdict]).map((verdict) => `${counts[verdict]} ${WORDS[verdict]}`);
  const label = `${index.runs[run].name}: ${words.join(", ") || "nothing to count"}`;
  return el("span.meter", { title: label, role: "img", "aria-label": label },
    parts.filter(([, n]) => n).map(([name, n]) => el(`i.${name}`, { style: { width: `${(100 * n) / all}%` } })));
}

function markCurrent() {
  const at = listed.indexOf(state.number);
  if (at >= 0 && !(at >= first && at < first + PAGE)) {
    first = at - (at % PAGE);
    drawPage();
  }
  for (const link of byId("documents").querySelectorAll("a")) {
    const current = Number(link.dataset.number) === state.number;
    if (current) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest" });
    } else link.removeAttribute("aria-current");
  }
}

/** The next document of the list, or the one before: of the one in the address, which may not be shown yet. */
function step(by) {
  if (!listed.length) return;
  const { number } = readAddress();
  const from = number < 0 ? state.number : number;
  const at = listed.indexOf(from);
  const to = at < 0 ? (by > 0 ? 0 : listed.length - 1) : Math.min(listed.length - 1, Math.max(0, at + by));
  if (listed[to] !== from) location.hash = addressOf(listed[to]);
}

function drawFilters() {
  const options = (all, names) => [el("option", { value: "" }, all), ...names.map(([value, words]) => el("option", { value }, words))];
  const langs = [...new Set(index.documents.map((entry) => entry.lang))].sort();
  byId("lang").replaceChildren(...options("all languages", langs.map((lang) => [lang, lang === "zh" ? "Chinese" : "English"])));
  byId("task").replaceChildren(...options("all tasks", TASKS.map((task) => [task, task])));
  byId("order").replaceChildren(...options("by name", [["corpus", "order of the corpus"], ...(index.gold ? [["worst", "least correct first"], ["best", "most correct first"]] : [])]));
  byId("errors").parentNode.hidden = !index.gold;
  drawTypes();
  for (const id of ["order", "lang", "task", "type"]) byId(id).addEventListener("change", (event) => filter(id, event.target.value));
  for (const id of ["errors", "issues"]) byId(id).addEventListener("change", (event) => filter(id, event.target.checked));
  byId("search").addEventListener("input", (event) => filter("words", event.target.value.trim()));
  byId("filters").addEventListener("submit", (event) => {
    event.preventDefault();
    if (listed.length) location.hash = addressOf(listed[0]);
  });
}

/** The types that occur, of the chosen task or of all. */
function drawTypes() {
  const types = new Set();
  for (const { tallies } of index.documents)
    for (const { tasks } of tallies)
      for (const [task, kinds] of Object.entries(tasks))
        if (!state.filters.task || task === state.filters.task) for (const kind of Object.keys(kinds)) types.add(kind);
  const names = [...types].sort();
  if (!types.has(state.filters.type)) state.filters.type = "";
  const kept = state.filters.type;
  byId("type").replaceChildren(el("option", { value: "" }, "all types"), ...names.map((name) => el("option", { value: name }, brief(name, 40))));
  byId("type").value = kept;
}

function filter(name, value) {
  state.filters[name] = value;
  if (name === "task") drawTypes();
  drawList();
  dimByFilter();
}
