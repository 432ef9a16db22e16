// What the pages share: elements, numbers for people, and asking the service.
// What the service says reaches a page as text, never as HTML.

export const ui = Object.fromEntries([...document.querySelectorAll("[id]")].map((e) => [e.id, e]));
let key = null; // never stored: a new visit asks for it again

// Elements

const SVG = "http://www.w3.org/2000/svg";

function put(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}
export const html = (tag, attributes = {}, ...children) =>
  put(document.createElement(tag), attributes, children);
export const svg = (tag, attributes = {}, ...children) =>
  put(document.createElementNS(SVG, tag), attributes, children);
export const spaced = (column) => column.replaceAll("_", " ");

// Numbers for people

export const plain = (value, options = {}) =>
  new Intl.NumberFormat("en", { maximumFractionDigits: 6, ...options })
    .format(value)
    .replace("-", "−");

/** To the digits it deserves: so many digits of the spread it is known with. */
export function toSpread(value, spread, digits, options = {}) {
  const decimals = spread > 0 ? digits - 1 - Math.floor(Math.log10(spread)) : 3;
  const unit = 10 ** Math.max(-decimals, 0);
  const places = Math.min(Math.max(decimals, 0), 20);
  return plain(decimals < 0 ? Math.round(value / unit) * unit : value, {
    minimumFractionDigits: places, maximumFractionDigits: places, ...options,
  });
}

export const percent = (share) => `${plain(100 * share, { maximumFractionDigits: 1 })}\u00a0%`;

// Asking the service

class Refusal extends Error {}

export async function ask(path, body) {
  const headers = { accept: "application/json, application/problem+json" };
  if (key) headers.authorization = `Bearer ${key}`;
  if (body) headers["content-type"] = "application/json";
  let response, said;
  try {
    response = await fetch(path, {
      method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body),
    });
    said = await response.json();
  } catch {
    throw new Refusal("The service does not answer. Try again in a moment.");
  }
  if (response.ok) return said;
  const { detail, title, column, request_id: id } = said;
  throw Object.assign(new Refusal(detail || title || `The service answered ${response.status}.`), {
    status: response.status, column, id,
  });
}

/**
 * Ask, and where the service wants a key or refuses, say so where it belongs.
 * A refusal goes to `handle` first, which returns whether it has said all.
 */
export async function attempt(action, handle = () => false) {
  ui.problem.textContent = "";
  try {
    await action();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    if (error.status === 401) return unlock(() => attempt(action, handle));
    if (handle(error)) return;
    ui.problem.textContent = error.message + (error.id ? ` (Request ${error.id})` : "");
    ui.problem.scrollIntoView({ block: "nearest" });
  }
}

export const hasKey = () => Boolean(key);

function unlock(then) {
  ui.unlock.hidden = false;
  ui["key-error"].textContent = key ? "The service does not know this key." : "";
  ui.key.setAttribute("aria-invalid", String(Boolean(key)));
  ui.key.focus();
  ui.unlock.onsubmit = (event) => {
    event.preventDefault();
    key = ui.key.value.trim();
    if (!key) return ui.key.focus();
    ui.unlock.hidden = true;
    then();
  };
}

// The cases, a link for each

/** The link of the case that the address names; the first one, if it names none. */
export function chosen() {
  const links = [...ui.cases.querySelectorAll("a")];
  return links.find((link) => link.hash === location.hash) ?? links[0];
}

/** List the cases, open the one that is chosen, and later those that are. */
export async function listCases(open, handle) {
  const { cases } = await ask("v1/cases");
  ui.cases.replaceChildren(...cases.map((c) => html("li", {},
    html("a", { href: `#${encodeURIComponent(c.case)}` }, c.title))));
  addEventListener("hashchange", () => {
    if (location.hash !== "#main") attempt(() => open({ byHand: true }), handle);
  });
  await open({ byHand: false });
}

export function markCase(name) {
  for (const link of ui.cases.querySelectorAll("a")) {
    if (link.hash === `#${encodeURIComponent(name)}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}
