"use strict";
// What every chart is made of, and charts of lines. They are drawn at the width they are shown at, so that text keeps
// its size on a phone.

const escapeText = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const LETTER = 6.6; // pixels of a letter of a plot's text, on average

/** Round numbers between two bounds, about `count` of them; whole ones where only these make sense. */
function ticks(low, high, count, whole = false) {
  const rough = (high - low) / Math.max(count, 1) || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  let step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  if (whole) step = Math.max(1, Math.ceil(step));
  const found = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-6; value += step) found.push(Math.abs(value) < step * 1e-6 ? 0 : value);
  return found;
}

/** A number as short as it can be read. */
function short(value) {
  if (!isNumber(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e6) return `${+(value / 1e6).toPrecision(3)}M`;
  if (size >= 1e4) return `${+(value / 1e3).toPrecision(3)}k`;
  return String(+value.toPrecision(size >= 100 ? 4 : 3));
}

const cut = (text, letters) => (text.length > letters ? `${text.slice(0, Math.max(letters - 1, 1))}…` : text);

/** A box beside what a pointer is over, where it hides the fewest of the points that are drawn. */
function tooltip(host) {
  const box = document.createElement("div");
  box.className = "tip";
  box.hidden = true;
  host.append(box);
  return {
    show(x, y, content, points = []) {
      box.innerHTML = content;
      box.hidden = false;
      const [width, height, room] = [box.offsetWidth, box.offsetHeight, host.clientWidth - box.offsetWidth];
      const sides = [x + 16, x - 16 - width].filter((left) => left >= 0 && left <= room);
      const rows = [y - height / 2, y - height - 16, y + 16].map((top) => Math.max(0, top));
      const places = (sides.length ? sides : [Math.max(0, Math.min(x + 16, room))]).flatMap((left) => rows.map((top) => [left, top]));
      const hides = ([left, top]) => points.filter(([px, py]) => px >= left - 4 && px <= left + width + 4 && py >= top - 4 && py <= top + height + 4).length;
      const [left, top] = places.reduce((best, one) => (hides(one) < hides(best) ? one : best));
      box.style.left = `${left}px`;
      box.style.top = `${top}px`;
    },
    hide() {
      box.hidden = true;
    },
  };
}

/** Let the reader take a file. */
function save(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const asCsv = (rows) => rows.map((row) => row.map((cell) => (/[",\n]/.test(cell ?? "") ? `"${String(cell).replace(/"/g, '""')}"` : (cell ?? ""))).join(",")).join("\n") + "\n";

/** An SVG that is the same outside of the page: its colours and fonts are in it. */
function asSvg(svg) {
  const copy = svg.cloneNode(true);
  copy.querySelector(".guide").remove();
  const style = getComputedStyle(document.documentElement);
  const value = (name) => style.getPropertyValue(name).trim();
  const rules = `text{fill:${value("--muted")};font:12px sans-serif}.strong{fill:${value("--ink")}}.band{opacity:.13}`;
  const text = new XMLSerializer().serializeToString(copy).replace(/var\((--[\w-]+)\)/g, (_, name) => value(name));
  return text.replace(/>/, `><style>${rules}</style><rect width="100%" height="100%" fill="${value("--card")}"/>`);
}

/** Put an SVG into a host, with its numbers to take away; `hover(x, y)` is called with the pointer and says what to tell. */
function place(host, name, label, width, height, content, hover, table) {
  host.innerHTML = `<svg data-plot="${name}" role="img" aria-label="${escapeText(label)}" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}"><g class="marks">${content}</g><g class="guide"></g></svg><p class="take"><button type="button" data-take="csv">CSV</button><button type="button" data-take="svg">SVG</button></p>`;
  const svg = host.firstElementChild;
  const tip = tooltip(host);
  const guide = svg.querySelector(".guide");
  const file = label.replace(/[^\w.-]+/g, "_").slice(0, 80);
  host.querySelector("[data-take=csv]").addEventListener("click", () => save(`${file}.csv`, "text/csv", asCsv(table)));
  host.querySelector("[data-take=svg]").addEventListener("click", () => save(`${file}.svg`, "image/svg+xml", asSvg(svg)));
  const leave = () => {
    tip.hide();
    guide.innerHTML = "";
    svg.classList.remove("faded");
  };
  const move = (event) => {
    const box = svg.getBoundingClientRect();
    const scale = width / box.width;
    const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    const found = hover(x, y);
    if (!found) return leave();
    guide.innerHTML = found.guide || "";
    svg.classList.toggle("faded", Boolean(found.fade));
    tip.show(x / scale, y / scale, found.text, (found.points || []).map(([px, py]) => [px / scale, py / scale]));
  };
  svg.addEventListener("pointermove", move);
  svg.addEventListener("pointerdown", move);
  svg.addEventListener("pointerleave", leave);
  return {
    point(markup) {
      guide.innerHTML = markup;
      svg.classList.toggle("faded", Boolean(markup));
    },
  };
}

/** Heights for labels that want to stand at `wanted`, so that none touches another. */
function spread(wanted, gap, low, high) {
  const order = wanted.map((y, i) => [y, i]).sort((a, b) => a[0] - b[0]);
  const found = [];
  let last = low - gap;
  for (const [y, i] of order) found[i] = last = Math.max(y, last + gap);
  let next = high + gap;
  for (const [, i] of order.reverse()) found[i] = next = Math.min(found[i], next - gap);
  return found;
}

/**
 * Lines with their names at their ends. Each of `lines` has label, color, dash, x, y, and low and high, whose values can
 * be null; the band between these is shown of the line that is pointed at, or of an only one.
 */
function lineChart(host, name, lines, options) {
  const drawn = lines.filter((line) => line.x.length);
  const width = Math.max(host.clientWidth, 240);
  const height = options.height || Math.min(360, Math.max(220, width * 0.6));
  const targets = Object.entries(options.targets || {});
  const ends = drawn.length > 1 ? drawn.map((line) => line.name || line.label) : [];
  const marks = [...ends, ...targets.map(([target]) => target)];
  const margin = { top: 10, right: 12, bottom: 38, left: 46 };
  const fits = marks.length * 13 <= height - margin.top - margin.bottom;
  const letters = Math.min(Math.max(0, ...marks.map((mark) => mark.length)), Math.floor((width * 0.36) / LETTER));
  if (marks.length && fits) margin.right = letters * LETTER + 22;
  const all = (key) => drawn.flatMap((line) => line[key] || []).filter(isNumber);
  const right = Math.max(...all("x"), 1e-9);
  const left = Math.min(...all("x"), options.fromZero === false ? Infinity : 0);
  const withBands = drawn.length === 1 ? [...all("low"), ...all("high")] : [];
  const values = [...all("y"), ...withBands, ...targets.map(([, y]) => y)];
  let [bottom, top] = [Math.min(...values), Math.max(...values)];
  const pad = (top - bottom || Math.abs(top) || 1) * 0.06;
  bottom = options.share ? Math.max(0, bottom - pad) : bottom - pad;
  top = options.share ? Math.min(1, top + pad) : top + pad;
  if (top <= bottom) top = bottom + 1e-3;
  const px = (x) => margin.left + ((x - left) / (right - left || 1)) * (width - margin.left - margin.right);
  const py = (y) => height - margin.bottom - ((Math.min(Math.max(y, bottom), top) - bottom) / (top - bottom)) * (height - margin.top - margin.bottom);
  let content = "";
  for (const y of ticks(bottom, top, height / 50)) {
    content += `<line x1="${margin.left}" x2="${width - margin.right}" y1="${py(y)}" y2="${py(y)}" stroke="var(--grid)"/>`;
    content += `<text x="${margin.left - 6}" y="${py(y) + 4}" text-anchor="end">${short(y)}</text>`;
  }
  for (const x of ticks(left, right, (width - margin.left - margin.right) / 70, options.whole)) content += `<text x="${px(x)}" y="${height - 20}" text-anchor="middle">${short(x)}</text>`;
  content += `<text x="${(margin.left + width - margin.right) / 2}" y="${height - 4}" text-anchor="middle">${escapeText(options.xLabel)}</text>`;
  for (const [, y] of targets) content += `<line x1="${margin.left}" x2="${width - margin.right}" y1="${py(y)}" y2="${py(y)}" stroke="var(--ink)" stroke-dasharray="2 3"/>`;

  const points = (line) => line.x.map((x, i) => [x, line.y[i]]).filter(([, y]) => isNumber(y));
  const path = (line) => points(line).map(([x, y], i) => `${i ? "L" : "M"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`).join("");
  const band = (line) => {
    const at = line.x.map((x, i) => i).filter((i) => line.low && isNumber(line.low[i]) && isNumber(line.high[i]));
    const up = at.map((i) => `${px(line.x[i])},${py(line.high[i])}`);
    const down = at.reverse().map((i) => `${px(line.x[i])},${py(line.low[i])}`);
    return at.length > 1 ? `<polygon class="band" points="${[...up, ...down].join(" ")}" fill="${line.color}" opacity="0.16"/>` : "";
  };
  const stroke = (line, weight) => `<path class="line" d="${path(line)}" fill="none" stroke="${line.color}" stroke-width="${weight}" stroke-dasharray="${line.dash}" stroke-linejoin="round"/>`;
  if (drawn.length === 1) content += band(drawn[0]);
  for (const line of drawn) {
    const found = points(line);
    content += stroke(line, 2);
    if (found.length === 1) content += `<circle cx="${px(found[0][0])}" cy="${py(found[0][1])}" r="4" fill="${line.color}"/>`;
  }
  const last = drawn.map((line) => points(line).pop() || [right, bottom]);
  const wanted = [...(ends.length ? last.map(([, y]) => py(y)) : []), ...targets.map(([, y]) => py(y))];
  const at = spread(wanted, 13, margin.top + 6, height - margin.bottom);
  const edge = width - margin.right;
  const nameOf = (number, weight) => {
    const line = number < ends.length ? drawn[number] : null;
    const x = line ? px(last[number][0]) : edge;
    return `<path d="M${x + 2} ${wanted[number]}L${edge + 10} ${at[number]}" stroke="${line ? line.color : "var(--ink)"}" opacity="0.5" fill="none"/><text class="name" x="${edge + 13}" y="${at[number] + 4}" style="fill:${line ? line.color : "var(--ink)"};font-weight:${weight}">${escapeText(cut(marks[number], letters))}</text>`;
  };
  if (fits) marks.forEach((_, number) => (content += nameOf(number, 400)));

  const pointed = (line) => band(line) + stroke(line, 3.5) + (fits && ends.length ? nameOf(drawn.indexOf(line), 700) : "");
  const stops = [...new Set(all("x"))].sort((a, b) => a - b);
  const grid = Array.from({ length: 60 }, (_, i) => left + ((right - left) * i) / 59);
  const covered = drawn.flatMap((line) => grid.map((x) => [x, valueAt(line.x, line.y, x)]).filter(([, y]) => isNumber(y)).map(([x, y]) => [px(x), py(y)]));
  const csv = [["series", options.xLabel, "value", "low", "high"], ...drawn.flatMap((line) => line.x.map((x, i) => [line.label, x, line.y[i], line.low?.[i], line.high?.[i]]))];
  const chart = place(host, name, options.label, width, height, content, (mouse, mouseY) => {
    if (mouse < margin.left - 8 || mouse > edge + 8 || mouseY > height - margin.bottom + 8) return null;
    const x = stops.reduce((best, stop) => (Math.abs(px(stop) - mouse) < Math.abs(px(best) - mouse) ? stop : best));
    const rows = drawn
      .map((line) => ({ line, y: valueAt(line.x, line.y, x), low: line.low && valueAt(line.x, line.low, x), high: line.high && valueAt(line.x, line.high, x) }))
      .filter((row) => isNumber(row.y))
      .sort((a, b) => Math.abs(py(a.y) - mouseY) - Math.abs(py(b.y) - mouseY));
    if (!rows.length) return null;
    const most = width < 480 ? 4 : 8; // of many, those nearest to the pointer
    const near = rows.slice(0, most).sort((a, b) => b.y - a.y);
    const text = near.map(({ line, y, low, high }) => `<div class="${line === rows[0].line ? "here" : ""}"><i style="background:${line.color}"></i>${escapeText(line.label)}: <b>${short(y)}</b>${isNumber(low) && isNumber(high) ? ` [${short(low)}, ${short(high)}]` : ""}</div>`);
    const dots = near.map(({ line, y }) => `<circle cx="${px(x)}" cy="${py(y)}" r="3.5" fill="${line.color}"/>`);
    return {
      guide: `${pointed(rows[0].line)}<line x1="${px(x)}" x2="${px(x)}" y1="${margin.top}" y2="${height - margin.bottom}" stroke="var(--muted)" stroke-dasharray="3 3"/>${dots.join("")}`,
      text: `<div><b>${short(x)}</b> ${escapeText(options.xLabel)}</div>${text.join("")}${rows.length > most ? `<div>and ${rows.length - most} more</div>` : ""}`,
      fade: drawn.length > 1,
      points: covered,
    };
  }, csv);
  host.highlight = (label) => {
    const line = drawn.find((one) => one.label === label);
    chart.point(line && drawn.length > 1 ? pointed(line) : "");
  };
}

/** The value of a line at x, null beyond its ends. */
function valueAt(xs, ys, x) {
  if (x < xs[0] || x > xs[xs.length - 1]) return null;
  const after = xs.findIndex((value) => value >= x);
  if (after <= 0) return ys[Math.max(after, 0)];
  const share = (x - xs[after - 1]) / (xs[after] - xs[after - 1]);
  return isNumber(ys[after]) && isNumber(ys[after - 1]) ? ys[after - 1] + share * (ys[after] - ys[after - 1]) : null;
}
