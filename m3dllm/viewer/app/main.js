// The page comes alive: bar, address, mouse, keys.

let asked = 0;

async function show() {
  const { number, id, selected, given } = readAddress();
  if (!index.documents.length || (id !== null && number < 0)) {
    state.content = null;
    const words = index.documents.length ? `No document has the id ${brief(id, 80)}.` : "There are no documents.";
    byId("main").replaceChildren(el("p.empty", {}, words));
    return;
  }
  const next = number < 0 ? (listed[0] ?? 0) : number;
  const fresh = next !== state.number || !state.content;
  state.number = next;
  if (given !== state.given) {
    state.given = given;
    byId("given").value = given ?? "";
    drawList();
  }
  const turn = ++asked;
  try {
    const content = await load(next);
    if (turn !== asked) return;
    state.content = content;
  } catch (error) {
    state.content = null;
    byId("main").replaceChildren(el("p.empty", {}, "This document's file is missing. ", el("span", {}, `Expected next to this page: ${error.message}`)));
    return;
  }
  state.selected = selected?.entity && !entityOf(selected.entity) ? null : selected;
  state.hovered = null;
  drawDocument();
  markCurrent();
  if (fresh) {
    scrollTo(0, 0);
    closeList();
  }
  const at = listed.indexOf(next);
  [listed[at + 1], listed[at - 1]].filter((n) => n !== undefined).forEach((n) => load(n).catch(() => {}));
}

// --- the bar ---

function drawBar() {
  byId("corpora").textContent = brief(index.corpora.join(", "), 60);
  const chip = (run, name) => el("button.chip", { type: "button", "data-run": run, "aria-pressed": "false", onclick: () => toggleSide(run) }, el("i.swatch", { "aria-hidden": "true" }), brief(name, 40));
  byId("sides").replaceChildren(...(index.gold ? [chip(-1, "gold")] : []), ...index.runs.map((run, i) => chip(i, run.name)));
  markChips();
  const given = new Set(index.documents.flatMap((entry) => entry.tallies.map((tally) => tally.given ?? "")));
  const passes = Object.entries(PASSES).filter(([pass]) => pass === "" || given.has(pass));
  byId("given").replaceChildren(...passes.map(([value, words]) => el("option", { value }, words)));
  byId("passes").hidden = passes.length < 2;
  byId("given").addEventListener("change", (event) => {
    state.given = event.target.value || null;
    history.replaceState(null, "", addressOf(state.number, state.selected));
    redraw();
  });
  byId("theme").addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]));
  setTheme(kept("theme") ?? "system");
  byId("help-open").addEventListener("click", openHelp);
  byId("menu").addEventListener("click", () => (document.body.classList.contains("listing") ? closeList() : openList()));
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault();
    byId("main").focus();
  });
}

function toggleSide(run) {
  if (narrow.matches) state.phone = run;
  else if (run < 0) state.gold = !state.gold;
  else if (state.runs.includes(run)) state.runs = state.runs.filter((other) => other !== run);
  else state.runs = [...state.runs, run].sort((a, b) => a - b).slice(-COLUMNS);
  redraw();
}

function markChips() {
  for (const chip of byId("sides").children) {
    const run = Number(chip.dataset.run);
    const on = isNarrow() ? state.phone === run : run < 0 ? state.gold : state.runs.includes(run);
    chip.setAttribute("aria-pressed", String(on));
    chip.firstChild.setAttribute("class", `swatch ${run < 0 ? "gold" : `s${Math.max(0, state.runs.indexOf(run))}`}`);
  }
}

function redraw() {
  markChips();
  drawList();
  if (state.content) drawDocument();
}

const THEMES = ["system", "light", "dark"];
const theme = () => document.documentElement.dataset.theme ?? "system";

function setTheme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  byId("theme").textContent = { system: "◐", light: "☼", dark: "☾" }[name];
  byId("theme").setAttribute("aria-label", `Colours: ${name === "system" ? "as set in the system" : name}`);
  byId("theme").title = byId("theme").getAttribute("aria-label");
  keep("theme", name);
}

function kept(name) {
  try {
    const value = localStorage.getItem(`m3dllm.${name}`);
    return THEMES.includes(value) ? value : null;
  } catch {
    return null; // a browser that keeps nothing
  }
}

function keep(name, value) {
  try {
    localStorage.setItem(`m3dllm.${name}`, value);
  } catch {
    // a browser that keeps nothing
  }
}

function openList() {
  document.body.classList.add("listing");
  byId("menu").setAttribute("aria-expanded", "true");
  byId("search").focus();
}

function closeList() {
  document.body.classList.remove("listing");
  byId("menu").setAttribute("aria-expanded", "false");
}

// --- mouse and keys ---

const picked = (target) => {
  const found = target.closest?.("[data-row], [data-pick]");
  if (!found) return null;
  return found.dataset.row ? { row: found.dataset.row } : { entity: Number(found.dataset.pick) };
};

byId("main").addEventListener("click", (event) => {
  const chosen = picked(event.target);
  if (chosen && !getSelection().toString()) select(chosen);
});
byId("main").addEventListener("mouseover", (event) => {
  const chosen = picked(event.target);
  if (!same(chosen, state.hovered)) {
    state.hovered = chosen;
    light();
  }
});
byId("main").addEventListener("mouseleave", () => {
  state.hovered = null;
  light();
});
byId("main").addEventListener("keydown", (event) => {
  if ((event.key === "Enter" || event.key === " ") && event.target.closest("[role=button]")) {
    event.preventDefault();
    select(picked(event.target));
  }
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (dialog.open) {
    if (event.key === "?") dialog.close();
    return;
  }
  const typing = event.target.closest("input[type=search], select, textarea");
  const inStrip = event.target.closest(".strip, .scroll, pre, video");
  const inList = event.target.closest("#list");
  if (event.key === "Escape") {
    if (typing) event.target.blur();
    else if (document.body.classList.contains("listing")) closeList();
    else if (state.selected) select(null);
    return;
  }
  if (typing) return;
  const act = {
    j: () => step(1),
    k: () => step(-1),
    ArrowRight: inStrip ? null : () => step(1),
    ArrowLeft: inStrip ? null : () => step(-1),
    ArrowDown: inList ? () => step(1) : null,
    ArrowUp: inList ? () => step(-1) : null,
    n: () => state.content && stepEntity(1),
    p: () => state.content && stepEntity(-1),
    "/": () => (narrow.matches ? openList() : byId("search").focus()),
    e: () => byId("errors").click(),
    v: player ? togglePlay : null,
    ",": () => stepTime(-1),
    ".": () => stepTime(1),
    "?": openHelp,
  }[event.key];
  if (act) {
    event.preventDefault();
    act();
  }
});

addEventListener("hashchange", show);
narrow.addEventListener("change", () => printing || redraw());
for (const [name, on] of [["beforeprint", true], ["afterprint", false]])
  addEventListener(name, () => {
    printing = on;
    if (narrow.matches) redraw(); // before the pages are counted
  });
drawFilters();
drawBar();
state.given = readAddress().given;
byId("given").value = state.given ?? "";
drawList();
show();
