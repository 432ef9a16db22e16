// Champion and challenger side by side, as far as this can be told without labels.

import {
  ask, attempt, chosen, html, listCases, markCase, percent, plain, spaced, svg, toSpread, ui,
} from "./shared.js";

const EDGE = { left: 62, right: 12, top: 10, bottom: 48 }; // of the plot, around its frame
const SIZE = 400;
const QUANTILES = [["q05", "5 %"], ["q25", "25 %"], ["q50", "50 %"], ["q75", "75 %"], ["q95", "95 %"]];

let about = null; // the description of the case on the page
let found = null; // its comparison

// In words

const many = (n, what) => `${plain(n)} ${what}${n === 1 ? "" : "s"}`;
const inUnit = (text) => (about.target.unit ? `${text} ${about.target.unit}` : text);
const points = (value) => `${toSpread(100 * value, 0.1, 1)} percentage points`;
const ms = (seconds) => `${toSpread(1000 * seconds, 1000 * seconds, 2)} ms`;
const called = ({ model, version }) => `${model.replaceAll("_", " ")}, version ${version}`;
const what = () => (about.classes ? `probability of ${about.positive}` : spaced(about.target.name));

/** A prediction, to three digits of how far predictions lie apart. */
function digits(value) {
  if (about.classes) return percent(value);
  const { q05, q95 } = found.champion.predictions;
  return toSpread(value, q95 - q05 || Math.abs(value), 3);
}

const when = (time) => `${new Intl.DateTimeFormat("en", {
  dateStyle: "long", timeStyle: "short", timeZone: "UTC",
}).format(new Date(time))} UTC`;

function sinceThen() {
  const { mode, share, champion, challenger, shadow } = found;
  const since = `Since ${when(found.since)}`;
  if (mode === "shadow") {
    return `${since} the champion (${called(champion)}) has answered ` +
      `${many(champion.requests, "request")}. The challenger (${called(challenger)}) has scored ` +
      `${plain(shadow?.requests ?? 0)} of these too, with ${many(shadow?.rows ?? 0, "row")}; ` +
      `nobody was given its answers. It is meant to score ${percent(share)} of the requests.`;
  }
  const all = champion.requests + challenger.requests;
  return `${since} the challenger (${called(challenger)}) has answered ` +
    `${plain(challenger.requests)} of ${many(all, "request")}, and the champion ` +
    `(${called(champion)}) the others. It is meant to answer ${percent(share)} of them; the id of ` +
    `a row, or its content, decides which model it meets, so the same row always meets the same one.`;
}

function caution() {
  const truth = about.classes ? "classes" : `values of ${spaced(about.target.name)}`;
  const then = found.mode === "shadow" ? "compares the two on the rows that both have scored" :
    "measures the champion on the rows that it answered";
  return `Without labels this page cannot say which of the two is better: it shows how they ` +
    `differ, and not which one is right. Once the true ${truth} are known, this ${then}, from the ` +
    `request log; the report of the step maintenance compares both on the newest rows with labels.`;
}

/** How far apart they are, in a paragraph. */
function differences({ rows, apart, difference, correlation, called_differently: other }) {
  const [half, most, largest] = [apart.q50, apart.q95, apart.largest].map(
    about.classes ? points : percent);
  const size = Math.abs(difference.mean);
  const mean = about.classes ? points(size) : inUnit(toSpread(size, size || 1, 2));
  const side = difference.mean < 0 ? "below" : "above";
  return `Over ${many(rows, "row")} the challenger's ${what()} is on average ` +
    `${/[1-9]/.test(mean) ? `${mean} ${side}` : "the same as"} the champion's. In half of the rows the two are at most ${half} apart, in 95\u00a0% of them at ` +
    `most ${most}; the farthest are ${largest} apart. ` +
    (other === null ? "" : `They call ${percent(other)} of the rows differently. `) +
    (correlation === null ? "" : `The correlation is ${toSpread(correlation, 0.01, 2)}.`);
}

// The plot

/** Some round numbers from low to high. */
function ticks(low, high) {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((n) => n * power >= rough) * power;
  const first = Math.ceil(low / step);
  const count = Math.floor(high / step) - first + 1;
  return Array.from({ length: count }, (_, i) => (first + i) * step);
}

function showPlot({ pairs, correlation }) {
  const values = pairs.flat();
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const room = (most - least || Math.abs(most) || 1) / 20;
  const [low, high] = [least - room, most + room];
  const inner = SIZE - EDGE.left - EDGE.right;
  const tall = SIZE - EDGE.top - EDGE.bottom;
  const x = (value) => EDGE.left + (inner * (value - low)) / (high - low);
  const y = (value) => EDGE.top + (tall * (high - value)) / (high - low);
  const short = (value) => (about.classes ? percent(value)
    : plain(value, { notation: "compact", maximumSignificantDigits: 4 }));
  const marks = ticks(low, high);
  const middle = EDGE.top + tall / 2;
  ui.plot.replaceChildren(
    svg("rect", { class: "frame", x: EDGE.left, y: EDGE.top, width: inner, height: tall }),
    svg("line", { class: "same", x1: x(low), y1: y(low), x2: x(high), y2: y(high) }),
    ...pairs.map(([first, second]) =>
      svg("circle", { class: "row", cx: x(first).toFixed(1), cy: y(second).toFixed(1), r: 3.5 })),
    ...marks.map((v) =>
      svg("text", { x: x(v), y: SIZE - 28, "text-anchor": "middle" }, short(v))),
    ...marks.map((v) =>
      svg("text", { x: EDGE.left - 6, y: y(v) + 5, "text-anchor": "end" }, short(v))),
    svg("text", { x: EDGE.left + inner / 2, y: SIZE - 6, "text-anchor": "middle" }, "champion"),
    svg("text", {
      x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})`,
    }, "challenger"));
  const rows = pairs.length === 1 ? "one row" : `the newest ${plain(pairs.length)} rows`;
  ui.plot.setAttribute("aria-label", `The challenger's ${what()} against the champion's for ` +
    `${rows}, from ${digits(least)} to ${digits(most)}` +
    (correlation === null ? "." : `; correlation ${toSpread(correlation, 0.01, 2)}.`));
  ui.caption.textContent = `${spaced(about.target.name)}${about.classes ? `, ${what()}` : ""}` +
    `${about.target.unit ? `, ${about.target.unit}` : ""}: each point is a row, of ${rows}. On ` +
    `the broken line the two agree.`;
}

// The table

function showTable() {
  const { champion, challenger, shadow } = found;
  const both = [champion, challenger];
  const row = (name, cells) => html("tr", {}, html("th", { scope: "row" }, name),
    ...cells.map((cell) => html("td", {}, cell)));
  const of = (member, key, shown) => both.map((side) =>
    (side[member] ? shown(side[member][key]) : "none yet"));
  ui.rows.replaceChildren(
    row("Model", both.map(({ model }) => model.replaceAll("_", " "))),
    row("Version", both.map(({ version }) => version)),
    row("Requests answered", both.map(({ requests }) => plain(requests))),
    row("Rows answered", both.map(({ rows }) => plain(rows))),
    ...QUANTILES.map(([key, share]) =>
      row(`${share} of the predictions are at most`, of("predictions", key, digits))),
    row("Half of the requests take at most", of("seconds", "q50", ms)),
    row("95 % of the requests take at most", of("seconds", "q95", ms)),
    row("Requests it could not answer", ["0", plain(challenger.failed)]),
    ...(shadow ? [row("Requests it had no time for", ["0", plain(shadow.dropped)])] : []));
  ui["each-about"].textContent = found.mode === "shadow"
    ? "Predictions and times are of the same rows: those that both have scored. The challenger's " +
      "times contain waiting, because answers go first."
    : "Each has answered other rows. They are chosen as if by lot, so what differs beyond chance " +
      "is the models' doing.";
}

// The page

function showNone() {
  ui.about.textContent =
    `There is no challenger: ${found.reason}. The champion is ${called(found.champion)}.`;
  ui.place.textContent = ["model.onnx", "manifest.json"]
    .map((file) => `${about.case}/challenger/${file}`).join("\n");
  ui.start.textContent = "truefit serve --shadow 1.0    # it scores every request, unseen\n" +
    "truefit serve --canary 0.1    # it answers a tenth of them";
}

function showBoth() {
  ui.about.textContent = sinceThen();
  ui.caution.textContent = caution();
  ui.command.textContent =
    `truefit monitor --case ${about.case} --log request-log --labels labels.csv`;
  const compared = found.shadow?.rows > 0;
  ui.apart.hidden = found.mode !== "shadow";
  ui.figure.hidden = !compared;
  ui.differ.textContent = compared ? differences(found.shadow)
    : "No request has been scored by both yet.";
  if (compared) showPlot(found.shadow);
  showTable();
}

function show() {
  document.title = `${about.title}: champion and challenger · Truefit`;
  ui.title.textContent = `${about.title}: champion and challenger`;
  markCase(about.case);
  ui.none.hidden = found.challenger !== null;
  ui.both.hidden = found.challenger === null;
  if (found.challenger) showBoth();
  else showNone();
  ui.case.hidden = false;
}

async function open({ byHand }) {
  const link = chosen();
  const path = `v1/cases/${link.hash.slice(1)}`;
  const said = await Promise.all([ask(path), ask(`${path}/comparison`)]);
  if (link !== chosen()) return; // another one was chosen meanwhile
  [about, found] = said;
  show();
  ui.live.textContent = "";
  if (byHand) ui.title.focus();
}

ui.again.addEventListener("click", () => attempt(async () => {
  await open({ byHand: false });
  ui.live.textContent = "This is the newest.";
}));
ui.loading.hidden = true;
attempt(() => listCases(open));
