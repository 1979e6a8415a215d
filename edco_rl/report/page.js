// What is shown: the task and unit chosen, the series that are switched on, the runs that are looked at. All of it
// stands in the address, so that a view can be sent and survives a reload.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const DASHES = ["", "7 4", "2 3", "9 3 2 3", "1 5", "12 4"];
const PART_COLORS = ["--c1", "--c2", "--c5", "--c4", "--c3", "--c6", "--c7"];
const SHARES = ["signal", "overlap", "difficulty"];
const state = { task: data.tasks[0], unit: data.unit, hidden: new Set(), run: "", beside: "" };
const seriesName = (s) => `${s.method} ${s.curriculum}`;
// Beside a line there is room for what tells the series apart.
const shortName = (s) => (data.methods.length === 1 ? s.curriculum : data.curricula.length === 1 ? s.method : seriesName(s));
// Grey is the baseline's.
const colorOf = (s) => `var(--c${(data.curricula.indexOf(s.curriculum) + (data.curricula[0] === data.baseline ? 0 : 1)) % 10})`;
// Beyond ten curricula colours come again, with another dash.
const dashOf = (s) => DASHES[(data.methods.indexOf(s.method) + Math.floor(data.curricula.indexOf(s.curriculum) / 10)) % DASHES.length];
const inTask = () => data.series.filter((s) => s.task === state.task);
const visible = () => inTask().filter((s) => !state.hidden.has(seriesName(s)));
const subjectsOf = (all) => [...new Set(all.flatMap((s) => Object.keys(s.subjects)))].slice(0, 12);

function lineOf(s, points) {
  return { label: seriesName(s), name: shortName(s), color: colorOf(s), dash: dashOf(s), ...(points || { x: [], y: [] }) };
}

/** Show a section where there is something in it. */
function show(section, is) {
  byId(section).hidden = !is;
  return is;
}

function drawAccuracy() {
  const shown = visible();
  const targets = data.single ? {} : Object.fromEntries(shown.filter((s) => s.target && isNumber(s.target.value)).map((s) => [`target ${data.methods.length > 1 ? `${s.method} ` : ""}${short(s.target.value)}`, s.target.value]));
  const lines = shown.map((s) => lineOf(s, s.accuracy && s.accuracy[state.unit])).filter((line) => line.x.length);
  if (show("accuracy", lines.length)) lineChart(document.querySelector("[data-chart=accuracy]"), "accuracy", lines, { xLabel: state.unit, whole: state.unit !== "seconds", share: true, label: `Held-out accuracy against ${state.unit}, ${state.task}`, targets });
}

function drawCost() {
  const shown = new Set(visible().map(seriesName));
  const told = data.comparisons.filter((c) => c.task === state.task && shown.has(seriesName(c)) && c.units[state.unit]);
  if (!show("cost", told.length)) return;
  const verdicts = { 1: "fewer, as the interval and the corrected test agree", 0: "cannot be told from chance", "-1": "more, as the interval and the corrected test agree" };
  const toTarget = (name) => data.series.find((s) => s.task === state.task && seriesName(s) === name)?.to_target?.[state.unit];
  const spent = (cost) => (cost && isNumber(cost.value) ? short(cost.value) : `not within ${short(cost?.limit)}`);
  ratioChart(document.querySelector("[data-chart=cost]"), "cost", told.map((c) => {
    const result = c.units[state.unit];
    const [mine, other] = [toTarget(seriesName(c)), toTarget(c.against.join(" "))];
    return {
      label: `${shortName(c)} / ${c.curriculum === c.against[1] ? c.against.join(" ") : c.against[1]}`,
      color: colorOf(c), ratio: result.ratio, low: result.low, high: result.high,
      detail: [
        `ratio ${result.never ? "never as much learned" : result.ratio === null ? "open" : short(result.ratio)} [${short(result.low)}, ${result.high === null ? "∞" : short(result.high)}], ${result.seeds} seeds`,
        ...(mine ? [`${state.unit} to the target: ${spent(mine)}; baseline ${spent(other)}`] : []),
        `mean accuracy over training ${result.difference >= 0 ? "+" : ""}${short(result.difference)}, p ${short(result.p_value)}`,
        `p with Holm's correction ${short(c.adjusted)} (${data.unit}): ${verdicts[c.verdict]}`,
        ...(result.seeds > 1 ? [`${result.seeds_needed ?? "more than 99"} seeds would tell a factor of 2`] : []),
      ],
    };
  }), { xLabel: `${state.unit}, ratio to the baseline (left of 1 is cheaper)`, label: `Ratio of ${state.unit} for the same learning, ${state.task}` });
}

/** Curricula against tasks: what the same learning costs, in parts of the baseline's. */
function drawMap() {
  const told = data.comparisons.filter((c) => c.units[state.unit] && c.curriculum !== c.against[1]);
  if (!show("map", data.tasks.length > 2 && told.length)) return;
  const rows = new Map(told.map((c) => [seriesName(c), shortName(c)]));
  const cell = (name, task) => {
    const label = `data-label="${escapeText(task)}"`;
    const found = told.find((c) => seriesName(c) === name && c.task === task);
    const result = found?.units[state.unit];
    if (!result || (result.ratio === null && !result.never)) return `<td ${label}>${result ? "open" : ""}</td>`;
    const [doublings, text] = result.never ? [2, "never"] : [Math.log2(Math.max(result.ratio, 1 / 16)), short(result.ratio)];
    const fill = `rgba(var(${doublings < 0 ? "--heat" : "--dear"}), ${(0.6 * Math.min(Math.abs(doublings) / 2, 1)).toFixed(2)})`;
    const interval = `[${short(result.low)}, ${result.high === null ? "∞" : short(result.high)}], ${result.seeds} seed${result.seeds > 1 ? "s" : ""}`;
    return `<td ${label} style="background:${fill}" title="${interval}">${found.verdict ? `<b>${text}</b>` : text}</td>`;
  };
  const head = data.tasks.map((task) => `<th scope="col">${escapeText(task)}</th>`).join("");
  const lines = [...rows].map(([name, shown]) => `<tr><th scope="row">${escapeText(shown)}</th>${data.tasks.map((task) => cell(name, task)).join("")}</tr>`);
  byId("map-table").innerHTML = `<thead><tr><th scope="col">${state.unit}</th>${head}</tr></thead><tbody>${lines.join("")}</tbody>`;
}

function drawGrid(section, names, linesOf, options) {
  const found = names.map((name) => [name, linesOf(name).filter((line) => line.x.length)]).filter(([, lines]) => lines.length);
  if (!show(section, found.length)) return;
  const grid = byId(section).querySelector(".grid");
  grid.innerHTML = found.map(([name]) => `<div><h3>${escapeText(options(name).title)}</h3><p class="muted">${escapeText(options(name).about || "")}</p><div data-chart="${escapeText(name)}"></div></div>`).join("");
  found.forEach(([name, lines], number) => lineChart(grid.children[number].lastElementChild, name, lines, { height: 230, whole: true, ...options(name) }));
}

function drawTime() {
  const parts = Object.entries(data.parts).map(([name, { what, place }]) => ({ name, what, color: `var(${PART_COLORS[place]})` }));
  if (show("time", parts.length && visible().length)) barChart(document.querySelector("[data-chart=time]"), "time", visible().map((s) => ({ label: seriesName(s), values: s.time })), parts, { xLabel: "seconds", label: `Seconds by part, ${state.task}` });
}

function draw() {
  drawAccuracy();
  drawCost();
  drawMap();
  drawGrid("subjects", subjectsOf(inTask()), (name) => visible().map((s) => lineOf(s, s.subjects[name]?.[state.unit])), (name) => ({ title: name, xLabel: state.unit, whole: state.unit !== "seconds", share: true, label: `Held-out accuracy, ${name}, ${state.task}` }));
  drawGrid("traces", Object.keys(data.traces), (name) => visible().map((s) => lineOf(s, s.traces[name])), (name) => {
    const { title, axis } = data.traces[name];
    return { title, about: axis, xLabel: "optimizer steps", share: SHARES.includes(name), label: `${title} (${axis}), ${state.task}` };
  });
  drawRuns();
  drawTime();
  for (const place of document.querySelectorAll(".task")) place.textContent = data.tasks.length > 1 ? `: ${state.task}` : "";
  for (const row of document.querySelectorAll("[data-task]")) row.classList.toggle("other", row.dataset.task !== state.task);
  byId("shown").textContent = `(${visible().length} of ${inTask().length} shown)`;
}

function fillControls() {
  byId("legend").innerHTML = inTask().map((s) => `<button type="button" data-series="${escapeText(seriesName(s))}" aria-pressed="${!state.hidden.has(seriesName(s))}"><svg viewBox="0 0 26 10" style="width:26px" aria-hidden="true"><line x1="0" x2="26" y1="5" y2="5" stroke="${colorOf(s)}" stroke-width="3" stroke-dasharray="${dashOf(s)}"/></svg>${escapeText(seriesName(s))}</button>`).join("");
  byId("unit").innerHTML = data.units.map((unit) => `<button type="button" data-unit="${unit}" aria-pressed="${unit === state.unit}">${unit}</button>`).join("");
  byId("task").value = state.task;
}

/** Read the address; what it does not name, or names wrongly, stays as at first. */
function fromAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  const one = (name, known, first) => (known.includes(given.get(name)) ? given.get(name) : first);
  state.task = one("task", data.tasks, data.tasks[0]);
  state.unit = one("unit", data.units, data.unit);
  state.hidden = new Set(given.getAll("hide"));
  state.run = given.get("run") || "";
  state.beside = given.get("beside") || "";
}

function toAddress() {
  const given = new URLSearchParams();
  if (state.task !== data.tasks[0]) given.set("task", state.task);
  if (state.unit !== data.unit) given.set("unit", state.unit);
  for (const name of state.hidden) given.append("hide", name);
  for (const name of ["run", "beside"]) if (state[name]) given.set(name, state[name]);
  history.replaceState(null, "", String(given) ? `#${given}` : location.pathname + location.search);
}

function choose(change) {
  Object.assign(state, change);
  toAddress();
  fillControls();
  fillRuns();
  draw();
}

function highlight(event) {
  const name = event.type === "pointerout" ? null : event.target.closest("[data-series]")?.dataset.series;
  for (const host of document.querySelectorAll("[data-chart]")) host.highlight?.(name);
}

byId("task").innerHTML = data.tasks.map((task) => `<option>${escapeText(task)}</option>`).join("");
byId("task").addEventListener("change", (event) => choose({ task: event.target.value, run: "", beside: "" }));
byId("task").parentElement.hidden = data.tasks.length === 1;
byId("unit").addEventListener("click", (event) => event.target.dataset.unit && choose({ unit: event.target.dataset.unit }));
byId("series").hidden = data.series.length === 1;
byId("all").addEventListener("click", () => choose({ hidden: new Set() }));
byId("none").addEventListener("click", () => choose({ hidden: new Set(inTask().map(seriesName)) }));
byId("legend").addEventListener("pointerover", highlight);
byId("legend").addEventListener("pointerout", highlight);
byId("legend").addEventListener("click", (event) => {
  const button = event.target.closest("[data-series]");
  if (!button) return;
  const hidden = new Set(state.hidden);
  if (!hidden.delete(button.dataset.series)) hidden.add(button.dataset.series);
  choose({ hidden });
});
for (const name of ["run", "beside"]) byId(name).addEventListener("change", (event) => choose({ [name]: event.target.value }));
const counts = {};
for (const cell of data.cells) counts[cell.status] = (counts[cell.status] || 0) + 1;
byId("cells-summary").textContent = Object.entries(counts).map(([status, count]) => `${count} ${status}`).join(", ") + ` of ${data.expected}`;
byId("cells").innerHTML = `<ul>${data.cells.map((cell) => `<li>${escapeText(cell.folder)}: ${cell.status}${cell.error ? `, ${escapeText(cell.error)}` : ""}</li>`).join("")}</ul>`;
window.addEventListener("hashchange", () => {
  fromAddress();
  choose({});
});
fromAddress();
choose({});

// A phone begins with the plots; paper has everything.
if (window.innerWidth < 700) byId("table").open = false;
window.addEventListener("beforeprint", () => document.querySelectorAll("#table, #series").forEach((part) => (part.open = true)));
if (data.refresh) setTimeout(() => location.reload(), 1000 * data.refresh);

// Text keeps its size: charts are drawn anew when their width changes.
let width = document.body.clientWidth;
new ResizeObserver(() => {
  if (document.body.clientWidth !== width) {
    width = document.body.clientWidth;
    draw();
  }
}).observe(document.body);
