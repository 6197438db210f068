// What is shown: data, the choices of the reader, and the address that keeps them.

const index = JSON.parse(byId("index").textContent);
const SIGNS = { hit: "✓", missed: "−", spurious: "+", type: "≠", part: "◐", merged: "∪" };
const WORDS = { hit: "true positive", missed: "missed", spurious: "spurious", type: "wrong type", part: "incomplete", merged: "over-merged" };
const VERDICTS = Object.keys(SIGNS);
const WRONG = ["missed", "spurious", "type", "part", "merged"];
const TASKS = ["entity", "chain", "relation", "grounding"];
const PASSES = { "": "nothing", mentions: "gold mentions", chains: "gold chains" };
const COLUMNS = 4; // systems side by side, at most
const AT_FIRST = 2; // of them; the others on demand
const HUES = 10;

const state = {
  number: 0, // of the document
  content: null,
  runs: index.runs.map((_, i) => i).slice(0, AT_FIRST),
  gold: index.gold,
  phone: 0, // the one column of a narrow window: a run, or -1 for gold
  given: null,
  selected: null, // {entity} or {row}
  hovered: null,
  filters: { words: "", lang: "", task: "", type: "", errors: false, issues: false, order: "" },
};

const narrow = matchMedia("screen and (max-width: 720px)");
let printing = false; // paper has room for all chosen columns, also from a narrow window
const isNarrow = () => narrow.matches && !printing;

/** The sides to draw, in order: the gold, and what each chosen run said in the chosen pass. */
function sidesShown() {
  const { sides } = state.content;
  const of = (run) =>
    run < 0
      ? sides.find((side) => side.run === null)
      : sides.find((side) => side.run === run && side.given === state.given);
  const wanted = isNarrow() ? [state.phone] : [...(state.gold ? [-1] : []), ...state.runs];
  return wanted.map(of).filter(Boolean);
}

/** How sure a system is of a part, in words that follow others; "" where it does not say. */
const sureWords = ({ confidence, link }) =>
  [["confidence", confidence], ["link", link]].filter(([, value]) => value !== undefined).map(([name, value]) => `, ${name} ${value.toFixed(2)}`).join("");
/** A confidence beside something else. */
const sureValue = (confidence) => (confidence === undefined ? "" : ` ${confidence.toFixed(2)}`);
/** The opacity of a part: from four tenths, where the system is not sure at all, to one. */
const sureStyle = (confidence) => (confidence === undefined ? {} : { "--sure": (0.4 + 0.6 * confidence).toFixed(3) });

const sideName = (side) => (side.run === null ? "gold" : index.runs[side.run].name);
const gloss = (type) => {
  const glosses = index.glosses[state.content.lang] ?? {};
  return Object.hasOwn(glosses, type) ? glosses[type] : type;
};
const entityOf = (n) => state.content.entities[n - 1];
/** Whether what has a number is a region that a relation names, and no entity of the text. */
const isRegion = (entity) => entity.frame !== undefined;

/** {hue, double} of an entity's colour: no hue for one that is a lone mention on every side. */
function colourOf(n) {
  const { entities } = state.content;
  if (!entities[n - 1].several) return { hue: "none", double: false };
  const rank = entities.filter((other) => other.several && other.number < n).length;
  return { hue: String(rank % HUES), double: rank % (2 * HUES) >= HUES };
}

// --- documents are loaded when they are opened ---

const files = new Map(); // those that are loaded or on their way
const loaded = new Map();
window.m3dllm = Object.freeze({
  add(number, content) {
    loaded.set(number, content);
  },
});

function load(number) {
  if (loaded.has(number)) return Promise.resolve(loaded.get(number));
  const { file } = index.documents[number];
  if (file === null) {
    const content = JSON.parse(byId(`document-${number}`).textContent);
    loaded.set(number, content);
    return Promise.resolve(content);
  }
  if (!files.has(file)) files.set(file, new Promise((done, fail) => {
    const gone = () => {
      files.delete(file);
      fail(new Error(file));
    };
    document.head.append(el("script", { src: file, onload: done, onerror: gone }));
  }));
  return files.get(file).then(() => loaded.get(number) ?? Promise.reject(new Error(file)));
}

// --- the address: #document=…&select=…&given=… ---

const numbers = new Map(); // of each id, of twins the first
index.documents.forEach(({ id }, number) => numbers.has(id) || numbers.set(id, number));

function addressOf(number, selected = null) {
  const { id } = index.documents[number];
  const words = new URLSearchParams({ document: id });
  if (numbers.get(id) !== number) words.set("number", number);
  if (state.given) words.set("given", state.given);
  if (selected?.entity) words.set("select", selected.entity);
  if (selected?.row) words.set("select", selected.row);
  return `#${words}`;
}

/** {number, selected, given} of the address; the first document where it names none. */
function readAddress() {
  const words = new URLSearchParams(location.hash.slice(1));
  const id = words.get("document");
  const named = Number(words.get("number") ?? -1);
  const number =
    index.documents[named]?.id === id ? named : numbers.get(id) ?? -1;
  const select = words.get("select");
  const selected = !select ? null : /^\d+$/.test(select) ? { entity: Number(select) } : { row: select };
  const given = words.get("given");
  return { number, id, selected, given: given && Object.hasOwn(PASSES, given) ? given : null };
}
