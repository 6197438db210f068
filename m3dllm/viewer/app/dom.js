// Elements from words. Text goes in as text nodes only: nothing here, or anywhere in the program, reads markup.

const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);

/** An element `kind` ("p", "span.tag", "svg:path") with attributes, properties ("onclick") and children. */
function el(kind, attributes = {}, ...children) {
  const [name, ...classes] = kind.split(".");
  const svg = name.startsWith("svg:");
  const made = svg ? document.createElementNS(SVG, name.slice(4)) : document.createElement(name);
  if (classes.length) made.setAttribute("class", classes.join(" "));
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "style") for (const [rule, set] of Object.entries(value)) made.style.setProperty(rule, set);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f]/g;
const INVISIBLE = /[\u0080-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g;

/** `text` with control characters as signs, one for one: none of them may turn or hide what stands beside it. */
function visible(text) {
  return text
    .replace(CONTROLS, (sign) => (sign === "\u007f" ? "\u2421" : String.fromCharCode(0x2400 + sign.charCodeAt(0))))
    .replace(INVISIBLE, "\ufffd");
}

/** `text` cut to `length` characters, with an ellipsis. */
function brief(text, length) {
  const signs = visible(text.slice(0, 2 * length + 2)).replace(/\s+/g, " ").trim();
  const points = Array.from(signs);
  return points.length > length ? points.slice(0, length - 1).join("") + "…" : signs;
}

/** A name that may be broken behind each of its signs, not within its words. */
const breakable = (name) => name.split(/(?<=[_-])/).flatMap((part, i) => (i ? [el("wbr"), part] : [part]));

const count = (n, one, many = one + "s") => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

/** A long text in `parent`: its first `limit` characters, and the rest a step at a time. */
function longText(parent, text, limit = 20000) {
  let shown = 0;
  const more = el("button.more", { type: "button", onclick: show });
  function show() {
    parent.insertBefore(document.createTextNode(visible(text.slice(shown, shown + limit))), more.parentNode ? more : null);
    shown = Math.min(text.length, shown + limit);
    more.textContent = `Show more: ${count(text.length - shown, "character")} left`;
    if (shown < text.length) parent.append(more);
    else more.remove();
  }
  show();
  return parent;
}
