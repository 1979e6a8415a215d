// Charts of other shapes: ratios, bars, cells, points, and shares over time.

/** Ratios with intervals on a logarithmic axis, one a row; a null bound is infinite. */
function ratioChart(host, name, rows, options) {
  const width = Math.max(host.clientWidth, 240);
  // Names stand before the plot, or above their rows where there is no room.
  const longest = Math.max(...rows.map((row) => row.label.length)) * LETTER + 16;
  const beside = longest < width * 0.42;
  const rowHeight = beside ? 26 : 40;
  const height = rows.length * rowHeight + 46;
  const margin = { left: beside ? longest : 10, right: 14 };
  const bounds = rows.flatMap((row) => [row.low, row.ratio, row.high]).filter((value) => isNumber(value) && value > 0);
  const reach = Math.min(Math.max(1.5, ...bounds.map((value) => Math.max(value, 1 / value))) * 1.1, 16);
  const px = (ratio) => margin.left + ((Math.log(Math.min(Math.max(ratio, 1 / reach), reach)) / Math.log(reach) + 1) / 2) * (width - margin.left - margin.right);
  let content = "";
  const marks = [1 / 16, 1 / 8, 1 / 4, 1 / 2, 2 / 3, 1, 1.5, 2, 4, 8, 16].filter((value) => value >= 1 / reach && value <= reach && ((reach <= 3 && width > 420) || (value !== 2 / 3 && value !== 1.5)));
  for (const mark of marks) {
    content += `<line x1="${px(mark)}" x2="${px(mark)}" y1="4" y2="${height - 40}" stroke="${mark === 1 ? "var(--ink)" : "var(--grid)"}"/>`;
    content += `<text x="${px(mark)}" y="${height - 24}" text-anchor="middle">${short(mark)}</text>`;
  }
  content += `<text x="${(margin.left + width) / 2}" y="${height - 6}" text-anchor="middle">${escapeText(options.xLabel)}</text>`;
  rows.forEach((row, number) => {
    const y = number * rowHeight + (beside ? 18 : 30);
    content += beside ? `<text class="strong" x="${margin.left - 10}" y="${y + 4}" text-anchor="end">${escapeText(row.label)}</text>` : `<text class="strong" x="${margin.left}" y="${y - 10}">${escapeText(cut(row.label, Math.floor((width - 20) / LETTER)))}</text>`;
    const [low, high] = [row.low > 0 ? row.low : 0, isNumber(row.high) ? row.high : Infinity];
    content += `<line class="interval" x1="${px(low)}" x2="${px(high)}" y1="${y}" y2="${y}" stroke="${row.color}" stroke-width="3" stroke-linecap="round" opacity="0.65"/>`;
    if (high > reach) content += `<path d="M${px(high) - 7} ${y - 5}L${px(high)} ${y}L${px(high) - 7} ${y + 5}" fill="none" stroke="${row.color}" stroke-width="2"/>`;
    if (low < 1 / reach) content += `<path d="M${px(low) + 7} ${y - 5}L${px(low)} ${y}L${px(low) + 7} ${y + 5}" fill="none" stroke="${row.color}" stroke-width="2"/>`;
    if (isNumber(row.ratio) && row.ratio > 0) content += `<circle class="ratio" cx="${px(row.ratio)}" cy="${y}" r="5" fill="${row.color}"/>`;
  });
  const csv = [["series", "ratio", "low", "high"], ...rows.map((row) => [row.label, row.ratio, row.low, row.high])];
  place(host, name, options.label, width, height, content, (x, y) => {
    const row = rows[Math.floor((y - 5) / rowHeight)];
    return row && y > 5 ? { text: `<div><i style="background:${row.color}"></i><b>${escapeText(row.label)}</b></div>${row.detail.map((line) => `<div>${escapeText(line)}</div>`).join("")}` } : null;
  }, csv);
}

/** Stacked bars, one a row. */
function barChart(host, name, rows, parts, options) {
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
  const csv = [["series", ...parts.map((part) => part.name)], ...rows.map((row) => [row.label, ...parts.map((part) => row.values[part.name] || 0)])];
  place(host, name, options.label, width, height, content, (x, y) => {
    const row = rows[Math.floor((y - 2) / rowHeight)];
    if (!row || y < 2) return null;
    const here = boxes.find((box) => box.row === row && x >= box.x && x < box.end);
    const lines = parts.map((part) => `<div class="${here && here.part === part ? "here" : ""}"><i style="background:${part.color}"></i>${escapeText(part.name)}: ${short(row.values[part.name])} s (${Math.round((100 * (row.values[part.name] || 0)) / (total(row) || 1))} %)</div>`);
    return { text: `<div><b>${escapeText(row.label)}</b></div>${lines.join("")}` };
  }, csv);
  host.prepend(keys(parts));
}

/** What colours mean. */
function keys(parts) {
  const found = document.createElement("div");
  found.className = "keys";
  found.innerHTML = parts.map((part) => `<span title="${escapeText(part.what || "")}"><i style="background:${part.color}"></i>${escapeText(part.name)}</span>`).join("");
  return found;
}

/** The frame of a chart over steps, from `first` to `last`: its marks, and where a column begins. */
function overSteps(width, height, margin, last) {
  const across = width - margin.left - margin.right;
  let content = `<rect x="${margin.left}" y="${margin.top}" width="${across}" height="${height - margin.top - margin.bottom}" fill="none" stroke="var(--line)"/>`;
  for (const mark of ticks(0, last, across / 70, true)) content += `<text x="${margin.left + (mark / Math.max(last, 1)) * across}" y="${height - 20}" text-anchor="middle">${short(mark)}</text>`;
  return `${content}<text x="${margin.left + across / 2}" y="${height - 4}" text-anchor="middle">optimizer steps</text>`;
}

const stepsOf = (steps, last, column) => `steps ${steps[column]} to ${column + 1 < steps.length ? steps[column + 1] - 1 : last}`;

/** Cells of a matrix, darker for larger values. */
function heatChart(host, name, heat, options) {
  const width = Math.max(host.clientWidth, 240);
  const height = Math.min(360, Math.max(220, width * 0.45));
  const margin = { top: 8, right: 14, bottom: 38, left: 62 };
  const rows = heat.rows.length;
  const columns = heat.steps.length;
  const largest = Math.max(...heat.rows.flat(), 1e-9);
  const across = (width - margin.left - margin.right) / columns;
  const down = (height - margin.top - margin.bottom) / rows;
  const py = (row) => height - margin.bottom - (row + 1) * down; // the hardest prompts stand at the top
  let content = overSteps(width, height, margin, heat.last);
  heat.rows.forEach((values, row) => values.forEach((value, column) => {
    if (value) content += `<rect class="cell" x="${(margin.left + column * across).toFixed(2)}" y="${py(row).toFixed(2)}" width="${(across + 0.3).toFixed(2)}" height="${(down + 0.3).toFixed(2)}" fill="rgb(var(--heat))" fill-opacity="${(0.08 + (0.92 * value) / largest).toFixed(3)}"/>`;
  }));
  const ends = heat.ranked ? ["easiest", "hardest"] : ["first", "last"];
  content += `<text x="${margin.left - 6}" y="${height - margin.bottom}" text-anchor="end">${ends[0]}</text><text x="${margin.left - 6}" y="${margin.top + 10}" text-anchor="end">${ends[1]}</text>`;
  const csv = [["prompts from %", ...heat.steps.map((step) => `step ${step}`)], ...heat.rows.map((values, row) => [Math.round((100 * row) / rows), ...values])];
  place(host, name, options.label, width, height, content, (x, y) => {
    const column = Math.floor((x - margin.left) / across);
    const row = Math.floor((height - margin.bottom - y) / down);
    if (column < 0 || column >= columns || row < 0 || row >= rows) return null;
    const part = `${Math.round((100 * row) / rows)} to ${Math.round((100 * (row + 1)) / rows)} %`;
    return {
      guide: `<rect x="${margin.left + column * across}" y="${py(row)}" width="${across}" height="${down}" fill="none" stroke="var(--ink)"/>`,
      text: `<div>${stepsOf(heat.steps, heat.last, column)}</div><div>prompts from ${part} ${heat.ranked ? "of difficulty" : "of the pool"}</div><div><b>${short(heat.rows[row][column])}</b> draws a prompt</div>`,
    };
  }, csv);
}

/** Shares that add up to one, over steps. */
function shareChart(host, name, shares, color, options) {
  const width = Math.max(host.clientWidth, 240);
  const height = 200;
  const margin = { top: 8, right: 14, bottom: 38, left: 46 };
  const columns = shares.steps.length;
  const across = (width - margin.left - margin.right) / columns;
  const down = height - margin.top - margin.bottom;
  let content = overSteps(width, height, margin, shares.last);
  for (const mark of [0, 0.5, 1]) content += `<text x="${margin.left - 6}" y="${height - margin.bottom - mark * down + 4}" text-anchor="end">${100 * mark} %</text>`;
  for (let column = 0; column < columns; column++) {
    let below = 0;
    shares.names.forEach((_, row) => {
      const value = shares.shares[row][column];
      below += value;
      if (value) content += `<rect class="share" x="${(margin.left + column * across).toFixed(2)}" y="${(height - margin.bottom - below * down).toFixed(2)}" width="${(across + 0.3).toFixed(2)}" height="${(value * down).toFixed(2)}" fill="${color(row)}"/>`;
    });
  }
  const csv = [["subject", ...shares.steps.map((step) => `step ${step}`)], ...shares.names.map((subject, row) => [subject, ...shares.shares[row]])];
  place(host, name, options.label, width, height, content, (x, y) => {
    const column = Math.floor((x - margin.left) / across);
    if (column < 0 || column >= columns || y > height - margin.bottom) return null;
    const lines = shares.names.map((subject, row) => `<div><i style="background:${color(row)}"></i>${escapeText(subject)}: ${Math.round(100 * shares.shares[row][column])} %</div>`);
    return { text: `<div>${stepsOf(shares.steps, shares.last, column)}</div>${lines.join("")}` };
  }, csv);
  host.prepend(keys(shares.names.map((subject, row) => ({ name: subject, color: color(row) }))));
}

/** Points, and means over equally many of them as a line. Each point has x, y and text. */
function pointChart(host, name, points, means, options) {
  const width = Math.max(host.clientWidth, 240);
  const height = 220;
  const margin = { top: 10, right: 14, bottom: 38, left: 46 };
  const range = (values) => {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const pad = (high - low || 1) * 0.05;
    return [low - pad, high + pad];
  };
  const [left, right] = range(points.map((point) => point.x));
  const [bottom, top] = range(points.map((point) => point.y));
  const px = (x) => margin.left + ((x - left) / (right - left)) * (width - margin.left - margin.right);
  const py = (y) => height - margin.bottom - ((y - bottom) / (top - bottom)) * (height - margin.top - margin.bottom);
  let content = "";
  for (const y of ticks(bottom, top, 4)) content += `<line x1="${margin.left}" x2="${width - margin.right}" y1="${py(y)}" y2="${py(y)}" stroke="var(--grid)"/><text x="${margin.left - 6}" y="${py(y) + 4}" text-anchor="end">${short(y)}</text>`;
  for (const x of ticks(left, right, width / 90)) content += `<text x="${px(x)}" y="${height - 20}" text-anchor="middle">${short(x)}</text>`;
  content += `<text x="${(margin.left + width) / 2}" y="${height - 4}" text-anchor="middle">${escapeText(options.xLabel)}</text>`;
  for (const point of points) content += `<circle class="point" cx="${px(point.x).toFixed(1)}" cy="${py(point.y).toFixed(1)}" r="3.5" fill="${options.color}" opacity="0.4"/>`;
  if (means) content += `<path class="line" d="${means.x.map((x, i) => `${i ? "L" : "M"}${px(x)} ${py(means.y[i])}`).join("")}" fill="none" stroke="var(--ink)" stroke-width="2"/>${means.x.map((x, i) => `<circle cx="${px(x)}" cy="${py(means.y[i])}" r="4" fill="var(--ink)"/>`).join("")}`;
  const csv = [["prompt", options.xLabel, options.yLabel], ...points.map((point) => [point.text, point.x, point.y])];
  place(host, name, options.label, width, height, content, (x, y) => {
    const far = (point) => (px(point.x) - x) ** 2 + (py(point.y) - y) ** 2;
    const near = points.reduce((best, point) => (far(point) < far(best) ? point : best));
    if (far(near) > 1600) return null;
    return {
      guide: `<circle cx="${px(near.x)}" cy="${py(near.y)}" r="6" fill="none" stroke="var(--ink)" stroke-width="2"/>`,
      text: `<div>${escapeText(cut(near.text, 160))}</div><div>${escapeText(options.xLabel)} <b>${short(near.x)}</b>, ${escapeText(options.yLabel)} <b>${short(near.y)}</b></div>`,
    };
  }, csv);
}
