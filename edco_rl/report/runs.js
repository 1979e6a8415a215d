// One run, and another one beside it: what it did with its prompts, as plots and as text.

const ROWS = 12;
const runName = (run) => JSON.stringify([run.method, run.curriculum, run.seed]);
const runsOfTask = () => data.runs.filter((run) => run.task === state.task);
const subjectColor = (row) => `var(--c${(row + 1) % 10})`;
const column = (name) => data.prompt_columns.indexOf(name);
const textOf = (run, row) => data.texts[run.pool]?.[row[0]] || [`prompt ${row[0]} of the pool`, ""];
const prompts = new Map(); // what each table of prompts is sorted by, filtered for, and how much of it is shown

/** The run that is chosen, at first one whose prompts were drawn by a score, if there is one; beside it none. */
const chosenRun = (name) => runsOfTask().find((run) => runName(run) === state[name]) || (name === "run" ? runsOfTask().find((run) => run.score_reward) || runsOfTask()[0] : undefined);

function fillRuns() {
  const option = (run, chosen) => `<option value="${escapeText(runName(run))}"${run === chosen ? " selected" : ""}>${escapeText(`${run.method} ${run.curriculum}, seed ${run.seed}`)}</option>`;
  byId("run").innerHTML = runsOfTask().map((run) => option(run, chosenRun("run"))).join("");
  byId("beside").innerHTML = `<option value="">none</option>${runsOfTask().map((run) => option(run, chosenRun("beside"))).join("")}`;
  byId("choose-run").hidden = runsOfTask().length < 2;
}

function drawRuns() {
  const shown = [chosenRun("run"), chosenRun("beside")].filter(Boolean);
  if (!show("runs", shown.some((run) => run.heat.steps.length))) return;
  byId("runs-title").textContent = data.runs.length === 1 ? "Prompt by prompt" : shown.length > 1 ? "Two runs side by side" : "A run, prompt by prompt";
  const host = byId("beside-grid");
  host.classList.toggle("two", shown.length > 1);
  host.innerHTML = shown.map(() => "<div class='run'></div>").join("");
  shown.forEach((run, number) => drawRun(host.children[number], run, shown, number ? "beside-" : ""));
}

function part(host, title, about, name) {
  const box = document.createElement("div");
  box.innerHTML = `<h3>${escapeText(title)}</h3><p class="muted">${escapeText(about)}</p><div data-chart="${name}"></div>`;
  host.append(box);
  return box.lastElementChild;
}

function drawRun(host, run, shown, prefix) {
  const name = `${run.method} ${run.curriculum}, seed ${run.seed}`;
  if (data.runs.length > 1) host.innerHTML = `<h3>${escapeText(name)}</h3>`;
  const facts = Object.entries(run.facts).map(([label, value]) => `<div><dt>${escapeText(label)}</dt><dd>${escapeText(value)}</dd></div>`);
  host.innerHTML += `<dl class="facts">${facts.join("")}</dl>`;
  if (shown.length > 1) host.innerHTML += differing(run, shown.find((one) => one !== run) || run);
  const label = (what) => `${what}, ${state.task}, ${name}`;
  const grid = document.createElement("div");
  grid.className = "grid";
  host.append(grid);
  if (run.heat.steps.length) heatChart(part(grid, "Which prompts were drawn when", run.heat.ranked ? "Draws a prompt, in order of difficulty for the start weights (minus the mean log-probability of the reference answer)." : "Draws a prompt, in the order of the pool.", `${prefix}heat`), `${prefix}heat`, run.heat, { label: label("Prompts drawn over steps") });
  if (run.subjects) shareChart(part(grid, "Of which subject", "Share of the draws.", `${prefix}picks`), `${prefix}picks`, run.subjects, subjectColor, { label: label("Draws by subject") });
  const scatter = (plot, title, about, x, y, means, xLabel, yLabel) => {
    const points = run.prompts.filter((row) => isNumber(row[column(x)]) && isNumber(row[column(y)])).map((row) => ({ x: row[column(x)], y: row[column(y)], text: textOf(run, row)[0] }));
    if (points.length > 1) pointChart(part(grid, title, about, prefix + plot), prefix + plot, points, means, { xLabel, yLabel, color: colorOf(run), label: label(title) });
  };
  scatter("score", "Score against later reward", "A point a prompt: the score it was drawn with, the mean reward of its groups from then on. Line: means of fifths.", "score", "later", run.score_reward, "score", "reward");
  scatter("entropy", "Entropy against reward", "A point a prompt: means over its rollouts, in nats. Line: means of fifths.", "entropy", "reward", run.entropy_reward, "entropy", "reward");
  const table = document.createElement("div");
  host.append(table);
  drawPrompts(table, run);
}

function differing(run, other) {
  const names = Object.keys({ ...run.settings, ...other.settings }).filter((name) => name !== "output_dir" && JSON.stringify(run.settings[name]) !== JSON.stringify(other.settings[name]));
  const lines = names.map((name) => `<div><dt>${escapeText(name)}</dt><dd>${escapeText(JSON.stringify(run.settings[name] ?? null))}</dd></div>`);
  return `<details><summary>${names.length} settings differ</summary><dl class="facts">${lines.join("")}</dl></details>`;
}

const PROMPT_COLUMNS = [
  ["prompt", (run, row) => textOf(run, row)[0]], ["subject", (run, row) => textOf(run, row)[1]],
  ["first drawn", (run, row) => row[column("first")]], ["draws", (run, row) => row[column("draws")]],
  ["score", (run, row) => row[column("score")]], ["reward", (run, row) => row[column("reward")]],
  ["signal", (run, row) => row[column("signal")]], ["entropy", (run, row) => row[column("entropy")]],
  ["difficulty", (run, row) => row[column("difficulty")]],
];

/** The prompts that were drawn, as text: sorted by a column, those that hold a word, some of them at a time. */
function drawPrompts(host, run) {
  if (!run.prompts.length) return;
  const view = prompts.get(run) || { by: 2, up: true, word: "", most: ROWS };
  prompts.set(run, view);
  const known = PROMPT_COLUMNS.map(([, value], number) => number).filter((number) => run.prompts.some((row) => ![null, undefined, ""].includes(PROMPT_COLUMNS[number][1](run, row))));
  const value = (row) => PROMPT_COLUMNS[view.by][1](run, row);
  const found = run.prompts.filter((row) => textOf(run, row).join(" ").toLowerCase().includes(view.word.toLowerCase()));
  found.sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (!isNumber(x) || !isNumber(y)) return isNumber(x) ? -1 : isNumber(y) ? 1 : (view.up ? 1 : -1) * String(x ?? "").localeCompare(String(y ?? ""));
    return view.up ? x - y : y - x;
  });
  const head = known.map((number) => `<th scope="col" aria-sort="${number === view.by ? (view.up ? "ascending" : "descending") : "none"}"><button type="button" data-by="${number}">${PROMPT_COLUMNS[number][0]}${number === view.by ? (view.up ? " ↑" : " ↓") : ""}</button></th>`);
  const cells = (row) => known.map((number) => `<td data-label="${PROMPT_COLUMNS[number][0]}"${number ? "" : ' class="prompt"'}>${escapeText(isNumber(PROMPT_COLUMNS[number][1](run, row)) ? short(PROMPT_COLUMNS[number][1](run, row)) : PROMPT_COLUMNS[number][1](run, row) ?? "–")}</td>`);
  const part = run.prompts.length < run.prompts_drawn ? `${run.prompts.length} of the ${run.prompts_drawn} prompts drawn, evenly spaced` : `${run.prompts_drawn} prompts drawn`;
  host.innerHTML = `<h3>Prompts</h3><p class="muted">${part}; rewards, signal and entropy are means over a prompt's groups.</p><p class="find"><input type="search" placeholder="with the word" aria-label="Prompts with the word" value="${escapeText(view.word)}"><button type="button" data-csv>CSV</button></p><div class="scroll"><table class="prompts"><thead><tr>${head.join("")}</tr></thead><tbody>${found.slice(0, view.most).map((row) => `<tr>${cells(row).join("")}</tr>`).join("")}</tbody></table></div>${found.length > view.most ? `<p><button type="button" data-more>${found.length - view.most} more</button></p>` : ""}`;
  host.onclick = (event) => {
    const by = event.target.dataset?.by;
    if (by !== undefined) Object.assign(view, { by: +by, up: view.by === +by ? !view.up : +by < 2 });
    else if (event.target.dataset?.more !== undefined) view.most += 10 * ROWS;
    else if (event.target.dataset?.csv !== undefined) return save("prompts.csv", "text/csv", asCsv([PROMPT_COLUMNS.map(([title]) => title), ...found.map((row) => PROMPT_COLUMNS.map(([, of]) => of(run, row)))]));
    else return;
    drawPrompts(host, run);
  };
  host.oninput = (event) => {
    Object.assign(view, { word: event.target.value, most: ROWS });
    drawPrompts(host, run);
    const field = host.querySelector("input");
    field.focus();
    field.setSelectionRange(view.word.length, view.word.length);
  };
}
