"use strict";
// Charts as SVG, drawn at the width they are shown at, so that text keeps its size on a phone.

const escapeText = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

/** Round numbers between two bounds, about `count` of them. */
function ticks(low, high, count) {
  const rough = (high - low) / Math.max(count, 1) || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
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

/** What a pointer is over: a box beside it, kept within the chart. */
function tooltip(host) {
  const box = document.createElement("div");
  box.className = "tip";
  box.hidden = true;
  host.append(box);
  return {
    show(x, y, content) {
      box.innerHTML = content;
      box.hidden = false;
      const room = host.clientWidth - box.offsetWidth;
      const right = x + 14 <= room ? x + 14 : x - 14 - box.offsetWidth;
      box.style.left = `${Math.max(0, Math.min(right, room))}px`;
      box.style.top = `${Math.max(0, y - box.offsetHeight / 2)}px`;
    },
    hide() {
      box.hidden = true;
    },
  };
}

/** Put an SVG into a host, and call `hover(x, y)` with the pointer in its coordinates; it returns what to tell. */
function place(host, name, label, width, height, content, hover) {
  host.innerHTML = `<svg data-plot="${name}" role="img" aria-label="${escapeText(label)}" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}">${content}<g class="guide"></g></svg>`;
  const svg = host.firstElementChild;
  const tip = tooltip(host);
  const guide = svg.querySelector(".guide");
  const leave = () => {
    tip.hide();
    guide.innerHTML = "";
  };
  const move = (event) => {
    const box = svg.getBoundingClientRect();
    const scale = width / box.width;
    const x = (event.clientX - box.left) * scale;
    const y = (event.clientY - box.top) * scale;
    const found = hover(x, y);
    if (!found) return leave();
    guide.innerHTML = found.guide || "";
    tip.show(x / scale, y / scale, found.text);
  };
  svg.addEventListener("pointermove", move);
  svg.addEventListener("pointerdown", move);
  svg.addEventListener("pointerleave", leave);
}

function nothing(host, name, text) {
  host.innerHTML = `<p class="muted" data-empty="${name}">${escapeText(text)}</p>`;
}

/** Lines with bands. Each of `lines` has label, color, dash, x, y, and low and high, whose values can be null. */
function lineChart(host, name, lines, options) {
  const drawn = lines.filter((line) => line.x.length);
  if (!drawn.length) return nothing(host, name, lines.length || !options.hint ? "Not measured in these runs." : options.hint);
  const width = Math.max(host.clientWidth, 240);
  const height = options.height || Math.min(340, Math.max(200, width * 0.6));
  const margin = { top: 10, right: 12, bottom: 38, left: 46 };
  const all = (key) => drawn.flatMap((line) => line[key] || []).filter(isNumber);
  const right = Math.max(...all("x"), 1e-9);
  const left = Math.min(...all("x"), options.fromZero === false ? Infinity : 0);
  const values = [...all("y"), ...all("low"), ...all("high"), ...Object.values(options.targets || {})];
  let bottom = Math.min(...values);
  let top = Math.max(...values);
  const pad = (top - bottom || Math.abs(top) || 1) * 0.06;
  bottom = options.share ? Math.max(0, bottom - pad) : bottom - pad;
  top = options.share ? Math.min(1, top + pad) : top + pad;
  if (top <= bottom) top = bottom + 1e-3;
  const px = (x) => margin.left + ((x - left) / (right - left || 1)) * (width - margin.left - margin.right);
  const py = (y) => height - margin.bottom - ((y - bottom) / (top - bottom)) * (height - margin.top - margin.bottom);
  let content = "";
  for (const y of ticks(bottom, top, height / 50)) {
    content += `<line x1="${margin.left}" x2="${width - margin.right}" y1="${py(y)}" y2="${py(y)}" stroke="var(--grid)"/>`;
    content += `<text x="${margin.left - 6}" y="${py(y) + 4}" text-anchor="end">${short(y)}</text>`;
  }
  for (const x of ticks(left, right, width / 90)) content += `<text x="${px(x)}" y="${height - 20}" text-anchor="middle">${short(x)}</text>`;
  content += `<text x="${(margin.left + width - margin.right) / 2}" y="${height - 4}" text-anchor="middle">${escapeText(options.xLabel)}</text>`;
  Object.entries(options.targets || {}).forEach(([method, target], number) => {
    content += `<line x1="${margin.left}" x2="${width - margin.right}" y1="${py(target)}" y2="${py(target)}" stroke="var(--ink)" stroke-dasharray="2 3"/>`;
    content += `<text class="strong" x="${width - margin.right - 4}" y="${py(target) + (number % 2 ? 14 : -5)}" text-anchor="end">target ${escapeText(method)} ${short(target)}</text>`;
  });
  for (const line of drawn) {
    const at = line.x.map((x, i) => i).filter((i) => line.low && isNumber(line.low[i]) && isNumber(line.high[i]));
    if (at.length > 1) {
      const up = at.map((i) => `${px(line.x[i])},${py(line.high[i])}`);
      const down = at.reverse().map((i) => `${px(line.x[i])},${py(line.low[i])}`);
      content += `<polygon class="band" points="${[...up, ...down].join(" ")}" fill="${line.color}" opacity="${drawn.length > 8 ? 0.05 : 0.13}"/>`;
    }
  }
  for (const line of drawn) {
    const points = line.x.map((x, i) => [x, line.y[i]]).filter(([, y]) => isNumber(y));
    const path = points.map(([x, y], i) => `${i ? "L" : "M"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`).join("");
    content += `<path class="line" d="${path}" fill="none" stroke="${line.color}" stroke-width="2" stroke-dasharray="${line.dash}" stroke-linejoin="round"/>`;
    if (points.length === 1) content += `<circle cx="${px(points[0][0])}" cy="${py(points[0][1])}" r="4" fill="${line.color}"/>`;
  }
  const stops = [...new Set(all("x"))].sort((a, b) => a - b);
  place(host, name, options.label, width, height, content, (mouse, mouseY) => {
    if (mouse < margin.left - 8 || mouse > width - margin.right + 8 || mouseY > height - margin.bottom + 8) return null;
    const x = stops.reduce((best, stop) => (Math.abs(px(stop) - mouse) < Math.abs(px(best) - mouse) ? stop : best));
    const rows = drawn
      .filter((line) => x >= line.x[0] && x <= line.x[line.x.length - 1])
      .map((line) => ({ line, y: interpolate(line.x, line.y, x), low: line.low && interpolate(line.x, line.low, x), high: line.high && interpolate(line.x, line.high, x) }))
      .filter((row) => isNumber(row.y))
      .sort((a, b) => b.y - a.y);
    if (!rows.length) return null;
    // Of many, those nearest to the pointer.
    const near = rows.length > 8 ? [...rows].sort((a, b) => Math.abs(py(a.y) - mouseY) - Math.abs(py(b.y) - mouseY)).slice(0, 8).sort((a, b) => b.y - a.y) : rows;
    const text = near.map(({ line, y, low, high }) => `<div><i style="background:${line.color}"></i>${escapeText(line.label)}: <b>${short(y)}</b>${isNumber(low) && isNumber(high) ? ` [${short(low)}, ${short(high)}]` : ""}</div>`);
    const dots = near.map(({ line, y }) => `<circle cx="${px(x)}" cy="${py(y)}" r="3.5" fill="${line.color}"/>`);
    const hidden = rows.length - near.length;
    return {
      guide: `<line x1="${px(x)}" x2="${px(x)}" y1="${margin.top}" y2="${height - margin.bottom}" stroke="var(--muted)" stroke-dasharray="3 3"/>${dots.join("")}`,
      text: `<div><b>${short(x)}</b> ${escapeText(options.xLabel)}</div>${text.join("")}${hidden ? `<div>and ${hidden} more</div>` : ""}`,
    };
  });
}

function interpolate(xs, ys, x) {
  const after = xs.findIndex((value) => value >= x);
  if (after <= 0) return ys[Math.max(after, 0)];
  const share = (x - xs[after - 1]) / (xs[after] - xs[after - 1]);
  return isNumber(ys[after]) && isNumber(ys[after - 1]) ? ys[after - 1] + share * (ys[after] - ys[after - 1]) : null;
}

/** Ratios with intervals on a logarithmic axis, one a row; a null bound is infinite. */
function ratioChart(host, name, rows, options) {
  if (!rows.length) return nothing(host, name, options.hint);
  const width = Math.max(host.clientWidth, 240);
  const rowHeight = 40;
  const height = rows.length * rowHeight + 46;
  const margin = { left: 10, right: 10 };
  const bounds = rows.flatMap((row) => [row.low, row.ratio, row.high]).filter((value) => isNumber(value) && value > 0);
  const reach = Math.min(Math.max(1.5, ...bounds.map((value) => Math.max(value, 1 / value))) * 1.1, 16);
  const px = (ratio) => margin.left + ((Math.log(Math.min(Math.max(ratio, 1 / reach), reach)) / Math.log(reach) + 1) / 2) * (width - margin.left - margin.right);
  let content = "";
  for (const mark of [1 / 16, 1 / 8, 1 / 4, 1 / 2, 2 / 3, 1, 1.5, 2, 4, 8, 16].filter((value) => value >= 1 / reach && value <= reach)) {
    if (reach > 3 && (mark === 2 / 3 || mark === 1.5)) continue;
    content += `<line x1="${px(mark)}" x2="${px(mark)}" y1="4" y2="${height - 40}" stroke="${mark === 1 ? "var(--ink)" : "var(--grid)"}"/>`;
    content += `<text x="${px(mark)}" y="${height - 24}" text-anchor="middle">${short(mark)}</text>`;
  }
  content += `<text x="${width / 2}" y="${height - 6}" text-anchor="middle">${escapeText(options.xLabel)}</text>`;
  rows.forEach((row, number) => {
    const y = number * rowHeight + 30;
    content += `<text class="strong" x="${margin.left}" y="${y - 10}">${escapeText(row.label)}</text>`;
    const [low, high] = [row.low > 0 ? row.low : 0, isNumber(row.high) ? row.high : Infinity];
    content += `<line class="interval" x1="${px(low)}" x2="${px(high)}" y1="${y}" y2="${y}" stroke="${row.color}" stroke-width="3" stroke-linecap="round" opacity="0.65"/>`;
    if (high > reach) content += `<path d="M${px(high) - 7} ${y - 5}L${px(high)} ${y}L${px(high) - 7} ${y + 5}" fill="none" stroke="${row.color}" stroke-width="2"/>`;
    if (low < 1 / reach) content += `<path d="M${px(low) + 7} ${y - 5}L${px(low)} ${y}L${px(low) + 7} ${y + 5}" fill="none" stroke="${row.color}" stroke-width="2"/>`;
    if (isNumber(row.ratio) && row.ratio > 0) content += `<circle class="ratio" cx="${px(row.ratio)}" cy="${y}" r="5" fill="${row.color}"/>`;
  });
  place(host, name, options.label, width, height, content, (x, y) => {
    const row = rows[Math.floor((y - 8) / rowHeight)];
    return row && y > 8 ? { text: `<div><i style="background:${row.color}"></i><b>${escapeText(row.label)}</b></div>${row.detail.map((line) => `<div>${escapeText(line)}</div>`).join("")}` } : null;
  });
}

/** Stacked bars, one a row. */
function barChart(host, name, rows, parts, options) {
  if (!rows.length) return nothing(host, name, options.hint);
  const width = Math.max(host.clientWidth, 240);
  const rowHeight = 38;
  const height = rows.length * rowHeight + 40;
  const total = (row) => parts.reduce((sum, part) => sum + (row.values[part.name] || 0), 0);
  const largest = Math.max(...rows.map(total), 1e-9);
  const px = (value) => 10 + (value / largest) * (width - 70);
  let content = "";
  for (const mark of ticks(0, largest, width / 110)) content += `<line x1="${px(mark)}" x2="${px(mark)}" y1="4" y2="${height - 34}" stroke="var(--grid)"/><text x="${px(mark)}" y="${height - 18}" text-anchor="middle">${short(mark)}</text>`;
  content += `<text x="${width / 2}" y="${height - 3}" text-anchor="middle">${escapeText(options.xLabel)}</text>`;
  const boxes = [];
  rows.forEach((row, number) => {
    const y = number * rowHeight + 18;
    content += `<text class="strong" x="10" y="${y - 4}">${escapeText(row.label)}</text>`;
    let start = 0;
    for (const part of parts) {
      const value = row.values[part.name] || 0;
      const box = { x: px(start), end: px(start + value), y, row, part, value };
      content += `<rect class="part" x="${box.x}" y="${y}" width="${Math.max(box.end - box.x, 0)}" height="14" fill="${part.color}"/>`;
      boxes.push(box);
      start += value;
    }
    content += `<text x="${px(start) + 5}" y="${y + 12}">${short(start)}</text>`;
  });
  place(host, name, options.label, width, height, content, (x, y) => {
    const row = rows[Math.floor((y - 2) / rowHeight)];
    if (!row || y < 2) return null;
    const here = boxes.find((box) => box.row === row && x >= box.x && x < box.end);
    const lines = parts.map((part) => `<div><i style="background:${part.color}"></i>${here && here.part === part ? "<b>" : ""}${escapeText(part.name)}: ${short(row.values[part.name])} s (${Math.round((100 * (row.values[part.name] || 0)) / (total(row) || 1))} %)${here && here.part === part ? "</b>" : ""}</div>`);
    return { text: `<div><b>${escapeText(row.label)}</b></div>${lines.join("")}` };
  });
}

/** Cells of a matrix, darker for larger values. */
function heatChart(host, name, heat, options) {
  if (!heat || !heat.steps.length) return nothing(host, name, "No steps were recorded.");
  const width = Math.max(host.clientWidth, 240);
  const height = Math.min(360, Math.max(220, width * 0.45));
  const margin = { top: 8, right: 10, bottom: 38, left: 62 };
  const rows = heat.rows.length;
  const columns = heat.steps.length;
  const largest = Math.max(...heat.rows.flat(), 1e-9);
  const across = (width - margin.left - margin.right) / columns;
  const down = (height - margin.top - margin.bottom) / rows;
  // The hardest prompts stand at the top.
  const py = (row) => height - margin.bottom - (row + 1) * down;
  let content = `<rect x="${margin.left}" y="${margin.top}" width="${width - margin.left - margin.right}" height="${height - margin.top - margin.bottom}" fill="none" stroke="var(--line)"/>`;
  heat.rows.forEach((values, row) => values.forEach((value, column) => {
    if (value) content += `<rect class="cell" x="${(margin.left + column * across).toFixed(2)}" y="${py(row).toFixed(2)}" width="${(across + 0.3).toFixed(2)}" height="${(down + 0.3).toFixed(2)}" fill="rgb(var(--heat))" fill-opacity="${(0.08 + (0.92 * value) / largest).toFixed(3)}"/>`;
  }));
  const ends = heat.ranked ? ["easiest", "hardest"] : ["first", "last"];
  content += `<text x="${margin.left - 6}" y="${height - margin.bottom}" text-anchor="end">${ends[0]}</text><text x="${margin.left - 6}" y="${margin.top + 10}" text-anchor="end">${ends[1]}</text>`;
  const last = heat.last;
  for (const mark of ticks(0, last, width / 90)) content += `<text x="${margin.left + (mark / last) * (width - margin.left - margin.right)}" y="${height - 20}" text-anchor="middle">${short(mark)}</text>`;
  content += `<text x="${(margin.left + width) / 2}" y="${height - 4}" text-anchor="middle">optimizer steps</text>`;
  place(host, name, options.label, width, height, content, (x, y) => {
    const column = Math.floor((x - margin.left) / across);
    const row = Math.floor((height - margin.bottom - y) / down);
    if (column < 0 || column >= columns || row < 0 || row >= rows) return null;
    const range = `steps ${heat.steps[column]} to ${column + 1 < columns ? heat.steps[column + 1] - 1 : last}`;
    const part = `${Math.round((100 * row) / rows)} to ${Math.round((100 * (row + 1)) / rows)} %`;
    return {
      guide: `<rect x="${margin.left + column * across}" y="${py(row)}" width="${across}" height="${down}" fill="none" stroke="var(--ink)"/>`,
      text: `<div>${range}</div><div>prompts from ${part} ${heat.ranked ? "of difficulty" : "of the pool"}</div><div><b>${short(heat.rows[row][column])}</b> draws a prompt</div>`,
    };
  });
}
