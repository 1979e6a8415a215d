// What is shown: the task and unit chosen, the series that are switched on.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const DASHES = ["", "7 4", "2 3", "9 3 2 3", "1 5", "12 4"];
const PART_COLORS = ["--c1", "--c2", "--c5", "--c4", "--c3", "--c6", "--c7"];
const state = { task: data.tasks[0], unit: data.unit, hidden: new Set(), run: null };
const seriesName = (s) => `${s.method} ${s.curriculum}`;
const colorOf = (s) => `var(--c${data.curricula.indexOf(s.curriculum) % 10})`;
// Beyond ten curricula colours come again, with another dash.
const dashOf = (s) => DASHES[(data.methods.indexOf(s.method) + Math.floor(data.curricula.indexOf(s.curriculum) / 10)) % DASHES.length];
const inTask = () => data.series.filter((s) => s.task === state.task);
const visible = () => inTask().filter((s) => !state.hidden.has(seriesName(s)));
const hosts = () => [...document.querySelectorAll("[data-chart]")];

function lineOf(s, points) {
  return { label: seriesName(s), color: colorOf(s), dash: dashOf(s), ...(points || { x: [], y: [] }) };
}

function drawAccuracy(host) {
  const shown = visible();
  const targets = Object.fromEntries(shown.filter((s) => s.target && isNumber(s.target.value)).map((s) => [s.method, s.target.value]));
  lineChart(host, "accuracy", shown.map((s) => lineOf(s, s.accuracy && s.accuracy[state.unit])), {
    xLabel: state.unit, share: true, label: `Held-out accuracy against ${state.unit}, ${state.task}`, hint: "No series is switched on.",
    targets,
  });
}

function drawCost(host) {
  const shown = new Set(visible().map(seriesName));
  const found = data.comparisons.filter((c) => c.task === state.task && shown.has(seriesName(c)));
  const told = found.filter((c) => c.units[state.unit]);
  const verdicts = { 1: "fewer, as the interval and the corrected test agree", 0: "cannot be told from chance", "-1": "more, as the interval and the corrected test agree" };
  ratioChart(host, "cost", told.map((c) => {
    const result = c.units[state.unit];
    const cost = (value, reached) => (reached ? short(value.value) : `not reached within ${short(value.limit)}`);
    return {
      label: `${seriesName(c)} / ${c.against.join(" ")}${result.reached ? (result.baseline_reached ? "" : ": baseline did not get there") : ": did not get there"}`,
      color: colorOf(c), ratio: result.ratio, low: result.low, high: result.high,
      detail: [
        `ratio ${result.ratio === null ? "unknown" : short(result.ratio)} [${short(result.low)}, ${result.high === null ? "∞" : short(result.high)}]`,
        `${state.unit} to accuracy ${short(c.target)}: ${cost(result.cost, result.reached)}; baseline ${cost(result.baseline_cost, result.baseline_reached)}`,
        `${result.cost.seeds_reached} of ${result.seeds} seeds reach it, of the baseline ${result.baseline_cost.seeds_reached}`,
        `mean accuracy over training ${result.difference >= 0 ? "+" : ""}${short(result.difference)}, p ${short(result.p_value)}`,
        `p with Holm's correction ${short(c.adjusted)} (${data.unit}): ${verdicts[c.verdict]}`,
      ],
    };
  }), { xLabel: `${state.unit}, ratio to the baseline (left of 1 is cheaper)`, label: `Ratio of ${state.unit} to the target, ${state.task}`, hint: found.length ? found[0].problem : "There is nothing to compare among the series shown." });
  byId("cost-note").textContent = `${Math.round(data.level * 100)} % bootstrap intervals over seeds and held-out prompts. An arrow leaves the plot: runs that did not reach the target leave their ratio open.`;
}

function drawTrace(host, name) {
  const { title, axis } = data.traces[name];
  lineChart(host, name, visible().map((s) => lineOf(s, s.traces[name])), {
    xLabel: "optimizer steps", height: 210, label: `${title} (${axis}), ${state.task}`, hint: "No series is switched on.",
    share: ["signal", "overlap", "difficulty"].includes(name),
  });
}

function drawHeat(host) {
  const [method, curriculum, seed] = JSON.parse(byId("run").value || "[]");
  const s = inTask().find((one) => one.method === method && one.curriculum === curriculum);
  const heat = s && s.heat[seed];
  byId("heat-note").textContent = heat ? `Draws a prompt; ${heat.ranked ? "prompts in order of difficulty for the start weights (minus the mean log-probability of the reference answer)" : "prompts in the order of the pool"}.` : "";
  heatChart(host, "heat", heat, { label: `Prompts chosen over steps, ${state.task}, ${method} ${curriculum}, seed ${seed}` });
}

function drawTime(host) {
  const parts = Object.entries(data.parts).map(([name, { what, place }]) => ({ name, what, color: `var(${PART_COLORS[place]})` }));
  barChart(host, "time", visible().map((s) => ({ label: seriesName(s), values: s.time })), parts, { xLabel: "seconds", label: `Seconds by part, ${state.task}`, hint: "No series is switched on." });
  const keys = document.createElement("div");
  keys.className = "keys";
  keys.innerHTML = parts.map((part) => `<span title="${part.what}"><i style="background:${part.color}"></i>${part.name}</span>`).join("");
  host.prepend(keys);
}

function draw() {
  for (const host of hosts()) {
    const name = host.dataset.chart;
    ({ accuracy: drawAccuracy, cost: drawCost, heat: drawHeat, time: drawTime })[name]?.(host);
    if (name in data.traces) drawTrace(host, name);
  }
  for (const place of document.querySelectorAll(".task")) place.textContent = state.task;
  for (const row of document.querySelectorAll("[data-task]")) row.classList.toggle("other", row.dataset.task !== state.task);
  byId("shown").textContent = `(${visible().length} of ${inTask().length} shown)`;
}

function fillLegend() {
  byId("legend").innerHTML = inTask().map((s) => `<button type="button" data-series="${escapeText(seriesName(s))}" aria-pressed="${!state.hidden.has(seriesName(s))}"><svg viewBox="0 0 26 10" style="width:26px" aria-hidden="true"><line x1="0" x2="26" y1="5" y2="5" stroke="${colorOf(s)}" stroke-width="3" stroke-dasharray="${dashOf(s)}"/></svg>${escapeText(seriesName(s))}</button>`).join("");
}

function fillRuns() {
  byId("run").innerHTML = inTask().flatMap((s) => Object.keys(s.heat).map((seed) => `<option value="${escapeText(JSON.stringify([s.method, s.curriculum, seed]))}">${escapeText(seriesName(s))}, seed ${seed}</option>`)).join("");
}

function fillUnits() {
  byId("unit").innerHTML = data.units.map((unit) => `<button type="button" data-unit="${unit}" aria-pressed="${unit === state.unit}">${unit}</button>`).join("");
}

function choose(change) {
  Object.assign(state, change);
  fillLegend();
  fillUnits();
  if ("task" in change) fillRuns();
  draw();
}

byId("task").innerHTML = data.tasks.map((task) => `<option>${escapeText(task)}</option>`).join("");
byId("task").addEventListener("change", (event) => choose({ task: event.target.value }));
byId("run").addEventListener("change", () => draw());
byId("unit").addEventListener("click", (event) => event.target.dataset.unit && choose({ unit: event.target.dataset.unit }));
byId("all").addEventListener("click", () => choose({ hidden: new Set() }));
byId("none").addEventListener("click", () => choose({ hidden: new Set(inTask().map(seriesName)) }));
byId("legend").addEventListener("click", (event) => {
  const button = event.target.closest("[data-series]");
  if (!button) return;
  const hidden = new Set(state.hidden);
  if (!hidden.delete(button.dataset.series)) hidden.add(button.dataset.series);
  choose({ hidden });
});
byId("traces").innerHTML = Object.entries(data.traces).map(([name, { title, axis }]) => `<div><h3>${escapeText(title)}</h3><p class="muted">${escapeText(axis)}</p><div data-chart="${name}"></div></div>`).join("");
const counts = Object.groupBy ? Object.groupBy(data.cells, (cell) => cell.status) : { done: data.cells };
byId("cells-summary").textContent = Object.entries(counts).map(([status, cells]) => `${cells.length} ${status}`).join(", ") + ` of ${data.expected}`;
byId("cells").innerHTML = `<ul>${data.cells.map((cell) => `<li>${escapeText(cell.folder)}: ${cell.status}${cell.error ? `, ${escapeText(cell.error)}` : ""}</li>`).join("")}</ul>`;
choose({ task: state.task });

// A phone begins with the plots; paper has everything.
if (window.innerWidth < 700) byId("table").open = false;
window.addEventListener("beforeprint", () => document.querySelectorAll("#table, #series").forEach((part) => (part.open = true)));

// Text keeps its size: charts are drawn anew when their width changes.
let width = document.body.clientWidth;
new ResizeObserver(() => {
  if (document.body.clientWidth !== width) {
    width = document.body.clientWidth;
    draw();
  }
}).observe(document.body);
