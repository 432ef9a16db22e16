// A form made from what the service says of a case, and its answer in words and bars.

import {
  ask, attempt, chosen, hasKey, html, listCases, markCase, percent, plain, spaced, svg, toSpread,
  ui,
} from "./shared.js";

const FIRST = 8; // inputs in sight at once, the most influential ones
const BARS = 8; // contributions with a bar of their own

let about = null; // the description of the case on the page
let fields = new Map(); // column -> { input, control, error }
let asked = 0; // counts questions, so that a late answer does not replace a newer one

const inUnit = (text) => (about.target.unit ? `${text} ${about.target.unit}` : text);
const inColumn = (value, { unit }) => plain(value, { useGrouping: unit !== "year" });

function known(value, input) {
  if (value === null) return input.absent ? "has none" : "not known";
  return typeof value === "number" ? inColumn(value, input) : value;
}

// Errors beside their fields, or where a person looks for an answer

function handle(error) {
  if (!fields.has(error.column)) {
    (ui.case.hidden ? ui.main : ui.answer).append(ui.problem);
    return false;
  }
  refuse(error);
  return true;
}

function refuse({ column, message }) {
  const { control, error } = fields.get(column);
  error.textContent = message;
  control.setAttribute("aria-invalid", "true");
  if (ui.others.contains(control)) ui.more.open = true;
  control.focus();
}

function forgive(control, error) {
  error.textContent = "";
  control.removeAttribute("aria-invalid");
}

// The form

function field(input) {
  const id = `of-${encodeURIComponent(input.name)}`; // no spaces, which part ids
  const gap = input.absent ? "has none" : "not known";
  const usual = input.typical === "absent" && input.absent ? "" : input.typical ?? "";
  const help = [];
  let control;
  if (input.categories) {
    const choices = input.categories.filter((c) => !(input.absent && c === "absent"));
    control = html("select", { id, name: input.name },
      ...choices.map((c) => new Option(c, c, c === usual, c === usual)),
      input.nullable ? new Option(gap, "", usual === "", usual === "") : null);
  } else {
    control = html("input", { id, name: input.name, autocomplete: "off", spellcheck: "false" });
    control.defaultValue = usual;
    if (input.type === "number") {
      // Some phones' decimal keyboard has no minus sign.
      control.inputMode = input.minimum < 0 ? "text" : "decimal";
      if (input.minimum !== undefined) {
        const [low, high] = [input.minimum, input.maximum].map((v) => inColumn(v, input));
        help.push(`${low} to ${high} in training`);
      }
    }
    if (input.nullable) help.push(`empty: ${gap}`);
  }
  const error = html("span", { class: "error", id: `${id}-error` });
  const hint = html("span", { class: "hint", id: `${id}-hint` }, help.join("; "));
  control.setAttribute("aria-describedby", `${hint.id} ${error.id}`);
  control.addEventListener("input", () => forgive(control, error));
  fields.set(input.name, { input, control, error });
  const unit = input.unit ? html("span", { class: "unit" }, ` ${input.unit}`) : null;
  return html("p", { class: "field" },
    html("label", { for: id }, spaced(input.name), unit), control, hint, error);
}

/** What the form says; a number that is none goes as it was typed, for the service to judge. */
function record() {
  return Object.fromEntries([...fields].map(([name, { input, control }]) => {
    const text = control.value.trim();
    if (text === "") return [name, null];
    const number = Number(text);
    return [name, input.type === "number" && Number.isFinite(number) ? number : control.value];
  }));
}

function showForm() {
  fields = new Map();
  const order = about.inputs.toSorted((a, b) => (b.influence ?? 0) - (a.influence ?? 0));
  // One or two left over are not worth a fold.
  const first = order.length <= FIRST + 2 ? order.length : FIRST;
  ui.first.replaceChildren(...order.slice(0, first).map(field));
  ui.others.replaceChildren(...order.slice(first).map(field));
  ui.more.hidden = first === order.length;
  ui.more.open = false;
  ui.form.querySelector("legend").textContent = ui.more.hidden ? "Inputs" : "What matters most";
  ui.more.firstElementChild.textContent = `${order.length - first} more inputs`;
}

function showCase() {
  const { target, training_rows: rows, version } = about;
  document.title = `${about.title} · Truefit`;
  ui.title.textContent = about.title;
  ui.about.textContent = about.about ?? "";
  ui.facts.textContent =
    `Predicts ${spaced(target.name)}${about.classes ? `, ${about.classes.join(" or ")}` : ""}` +
    `${target.unit ? ` in ${target.unit}` : ""}. ` +
    `Model ${about.model.replaceAll("_", " ")}, version ${version}, ` +
    `learned from ${plain(rows)} rows.`;
  markCase(about.case);
  ui.compare.href = `comparison#${encodeURIComponent(about.case)}`;
  asked += 1; // what was asked of the case before is no answer to this one
  ui.answer.removeAttribute("aria-busy");
  ui.said.hidden = true;
  ui.empty.hidden = false;
  ui.live.textContent = "";
  showForm();
  showCommand();
  ui.case.hidden = false;
}

// The same from a terminal

const casePath = () => `v1/cases/${encodeURIComponent(about.case)}`;

function showCommand() {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const parts = [
    `curl ${quoted(new URL(`${casePath()}/predict`, document.baseURI).href)}`,
    "-H 'content-type: application/json'",
    ...(hasKey() ? ['-H "authorization: Bearer $TRUEFIT_KEY"'] : []),
    `-d ${quoted(JSON.stringify(record(), null, 1))}`,
  ];
  ui.curl.textContent = parts.join(" \\\n  ");
  ui.copied.textContent = "";
}

async function copy() {
  try {
    await navigator.clipboard.writeText(ui.curl.textContent);
    ui.copied.textContent = "Copied";
  } catch {
    // Away from https and the own machine a browser lends no clipboard.
    getSelection().selectAllChildren(ui.curl);
    ui.copied.textContent = "Selected: press Ctrl+C, or ⌘C";
  }
}

// The answer

/** A strip from `low` to `high` with an interval, a point, and perhaps a mark with its name. */
function showScale(low, high, interval, point, mark, ends) {
  const wide = (value) => `${100 * (value / (high - low))}%`;
  const at = (value) => wide(value - low);
  const shown = [svg("rect", { class: "track", y: 9, width: "100%", height: 4, rx: 2 })];
  if (interval) {
    const [x, width] = [at(interval[0]), wide(interval[1] - interval[0])];
    shown.push(svg("rect", { class: "interval", x, width, y: 6, height: 10, rx: 2 }));
  }
  if (mark) {
    shown.push(svg("line", { class: "mark", x1: at(mark), x2: at(mark), y1: 2, y2: 20 }));
  }
  shown.push(svg("circle", { class: "point", cx: at(point), cy: 11, r: 6 }));
  shown.push(svg("text", { y: 36 }, ends[0]));
  shown.push(svg("text", { x: "100%", y: 36, "text-anchor": "end" }, ends[1]));
  ui.scale.replaceChildren(...shown);
}

const spreadOf = ({ prediction, low, high }) =>
  low === undefined ? Math.abs(prediction) / 10 : high - low;

/** Show a number with its interval; returns the sentence that says it. */
function showNumber({ prediction, low, high }) {
  const { minimum, maximum, name } = about.target;
  const bare = low === undefined;
  const digits = (value) => toSpread(value, spreadOf({ prediction, low, high }), 3);
  ui.headline.replaceChildren(digits(prediction), html("small", {}, ` ${about.target.unit ?? ""}`));
  ui.explained.textContent = bare
    ? "This model states no interval."
    : `Between ${digits(low)} and ${inUnit(digits(high))} with ` +
      `${percent(about.interval.confidence)} confidence.`;
  ui.scale.toggleAttribute("hidden", minimum === undefined);
  if (minimum !== undefined) {
    const from = Math.min(minimum, low ?? prediction);
    const to = Math.max(maximum, high ?? prediction);
    showScale(from, to, bare ? null : [low, high], prediction, null, [
      from < minimum ? digits(from) : `${plain(from)} lowest in training`,
      to > maximum ? digits(to) : `highest in training ${plain(to)}`,
    ]);
  }
  return `${spaced(name)}: ${inUnit(digits(prediction))}. ${ui.explained.textContent}`;
}

/** Show a class with its probabilities; returns the sentence that says it. */
function showClass({ prediction, probabilities }) {
  const { positive, threshold } = about;
  const other = about.classes.find((c) => c !== positive);
  const share = probabilities[positive];
  // The threshold from which a call costs less than none; see `truefit.task`.
  const ratio = plain((1 - threshold) / threshold, { maximumFractionDigits: 1 });
  const weighs = ratio === "1" ? "as much as" : `${ratio} times`;
  ui.headline.replaceChildren(prediction,
    html("small", {}, ` probability of ${positive}: ${percent(share)}`));
  ui.explained.textContent =
    `The probability of ${positive} is ${percent(share)}, of ${other} ` +
    `${percent(probabilities[other])}. It is called ${prediction} because ${percent(share)} is ` +
    `${prediction === positive ? "not " : ""}below the threshold of ${percent(threshold)}: a ` +
    `${positive} called ${other} is taken to cost ${weighs} a ${other} called ${positive}.`;
  ui.scale.toggleAttribute("hidden", false);
  showScale(0, 1, null, share, threshold, [`0\u00a0% ${positive}`, `100\u00a0% ${positive}`]);
  return `${spaced(about.target.name)}: ${prediction}. ${ui.explained.textContent}`;
}

function showWarnings(warnings) {
  ui.warned.hidden = warnings.length === 0;
  ui.warnings.replaceChildren(...warnings.map(({ column, reason }) =>
    html("li", {}, html("b", {}, `${spaced(column)}:`), ` ${reason}`)));
}

/** Bars around a common zero: each row of the table is a row of the chart. */
function showMoves({ prediction, typical, contributions }, one) {
  const share = Boolean(about.classes);
  const top = contributions.filter((c) => c.contribution !== 0).slice(0, BARS);
  const rest = contributions.slice(top.length);
  const sum = rest.reduce((total, c) => total + c.contribution, 0);
  const largest = Math.max(...top.map((c) => Math.abs(c.contribution)), Math.abs(sum));
  const signDisplay = "exceptZero";
  const spread = spreadOf(one);
  // As exact as the prediction, and more so where all of them are small.
  const signed = (value) => share
    ? `${toSpread(100 * value, 1, 2, { signDisplay })} points`
    : toSpread(value, Math.min(spread / 10, largest), 2, { signDisplay });
  const whole = (value) => (share ? percent(value) : inUnit(toSpread(value, spread, 3)));
  const low = Math.min(0, sum, ...top.map((c) => c.contribution));
  const span = Math.max(0, sum, ...top.map((c) => c.contribution)) - low;
  const wide = (value) => `${100 * (value / span)}%`;
  const at = (value) => wide(value - low);
  const bar = (value) => svg("svg", { width: "100%", height: 14, "aria-hidden": "true" },
    svg("rect", {
      class: value < 0 ? "down" : "up", x: at(Math.min(value, 0)), y: 1,
      width: wide(Math.abs(value)), height: 12, rx: 1,
    }),
    svg("line", { class: "zero", x1: at(0), x2: at(0), y1: 0, y2: 14 }));
  const row = (name, values, value) => html("tr", {},
    html("th", { scope: "row" }, name, html("span", { class: "hint" }, ` ${values}`)),
    html("td", {}, bar(value)), html("td", { class: "n" }, signed(value)));

  ui.moves.replaceChildren(...top.map(({ column, value, typical: usual, contribution }) => {
    const { input } = fields.get(column);
    const values = `${known(value, input)}, typically ${known(usual, input)}`;
    return row(spaced(column), values, contribution);
  }));
  if (rest.some((c) => c.contribution !== 0)) {
    ui.moves.append(row(`the other ${rest.length}`, "together", sum));
  }
  const start = share ? `has a probability of ${about.positive} of` : "is predicted at";
  ui["moved-about"].textContent = top.length
    ? `A row of typical values ${start} ${whole(typical)}. What differs from them here leads ` +
      `from there to ${whole(prediction)}.`
    : `A row of typical values ${start} ${whole(typical)}, and this is one.`;
  ui.moves.parentElement.hidden = top.length === 0;
  ui.moved.hidden = false;
}

async function predict() {
  const mine = ++asked;
  const said = record();
  const path = casePath();
  for (const { control, error } of fields.values()) forgive(control, error);
  ui.answer.setAttribute("aria-busy", "true");
  try {
    const answer = await ask(`${path}/predict`, said);
    const [one] = answer.predictions;
    // The prediction is the answer; without the explanation it still is one.
    const moves = await ask(`${path}/explain`, said).catch(() => null);
    if (mine !== asked) return;
    const sentence = about.classes ? showClass(one) : showNumber(one);
    ui.role.textContent = answer.model_role === "challenger"
      ? `The challenger answered, version ${answer.version}.` : "";
    showWarnings(one.warnings);
    if (moves) showMoves(moves, one);
    else ui.moved.hidden = true;
    ui.empty.hidden = ui.stale.hidden = true;
    ui.said.hidden = false;
    const care = one.warnings.length;
    ui.live.textContent = sentence + (care ? ` ${care} warning${care > 1 ? "s" : ""}.` : "");
    // On a phone it is below the form, beside a long form perhaps above what is in sight.
    const { top } = ui.answer.getBoundingClientRect();
    if (top < 0 || top > innerHeight / 2) ui.answer.scrollIntoView();
  } finally {
    if (mine === asked) ui.answer.removeAttribute("aria-busy");
  }
}

// What a person does

ui.form.addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(predict, handle);
});
ui.form.addEventListener("input", () => {
  ui.stale.hidden = false;
  showCommand();
});
ui.form.addEventListener("reset", () => setTimeout(() => {
  for (const { control, error } of fields.values()) forgive(control, error);
  ui.stale.hidden = false;
  showCommand();
}));
ui.copy.addEventListener("click", copy);

async function open({ byHand }) {
  const link = chosen();
  const found = await ask(`v1/cases/${link.hash.slice(1)}`);
  if (link !== chosen()) return; // another one was chosen meanwhile
  about = found;
  showCase();
  if (byHand) ui.title.focus();
}

ui.loading.hidden = true;
attempt(() => listCases(open, handle), handle);
