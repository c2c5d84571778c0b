"use strict";
// Charts of the report: SVG drawn from the JSON in the page. Text only ever enters the page as text.
const data = JSON.parse(document.getElementById("data").textContent);
const state = { by: data.by, seeds: false, hidden: new Set() };
const SVG = "http://www.w3.org/2000/svg";
const charts = [];

function element(name, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

function html(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}

function said(value) {
  const size = Math.abs(value);
  if (size >= 1e6) return `${+(value / 1e6).toPrecision(4)}M`;
  if (size >= 1e5) return `${+(value / 1e3).toPrecision(4)}k`;
  if (size >= 1000) return Math.round(value).toLocaleString("en-US");
  return `${+value.toPrecision(size >= 100 ? 4 : 3)}`;
}

function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const found = [];
  for (let tick = Math.ceil(low / step - 1e-9) * step; tick <= high + step * 1e-9; tick += step) {
    found.push(Math.abs(tick) < step * 1e-9 ? 0 : tick);
  }
  return found;
}

function extent(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) return [0, 1];
  const room = (high - low) * 0.03 || Math.abs(high) * 0.05 || 1;
  return [low - room, high + room];
}

function path(xs, ys, x, y) {
  return xs.map((value, i) => `${i ? "L" : "M"}${x(value).toFixed(2)},${y(ys[i]).toFixed(2)}`).join("");
}

function band(line, x, y) {
  const back = line.x.map((_, i) => line.x.length - 1 - i);
  const upper = path(line.x, line.high, x, y);
  return `${upper}${back.map((i) => `L${x(line.x[i]).toFixed(2)},${y(line.low[i]).toFixed(2)}`).join("")}Z`;
}

// Values between the points of a line, or undefined outside of it.
function valueAt(line, at) {
  const { x, mean } = line;
  if (!x.length || at < x[0] || at > x[x.length - 1]) return undefined;
  let right = x.findIndex((value) => value >= at);
  if (x[right] === at || right === 0) return mean[right];
  const share = (at - x[right - 1]) / (x[right] - x[right - 1]);
  return mean[right - 1] + share * (mean[right] - mean[right - 1]);
}

// Labels at the right end of the lines, moved apart where they would overlap.
function spreadOut(places, gap, low, high) {
  const order = places.map((_, i) => i).sort((a, b) => places[a] - places[b]);
  const moved = places.slice();
  for (let round = 0; round < 50; round++) {
    for (let k = 1; k < order.length; k++) {
      const overlap = gap - (moved[order[k]] - moved[order[k - 1]]);
      if (overlap > 0) {
        moved[order[k]] += overlap / 2;
        moved[order[k - 1]] -= overlap / 2;
      }
    }
    for (const i of order) moved[i] = Math.min(Math.max(moved[i], low), high);
  }
  return moved;
}

class Chart {
  constructor(figure, { lines, xName, height = 340, seeds = true, ends = true }) {
    Object.assign(this, { figure, lines, xName, height, withSeeds: seeds, withEnds: ends });
    this.zoom = null;
    this.svg = element("svg", { class: "chart", role: "img", "aria-label": figure.dataset.label || "chart" });
    this.tip = html("div", "", "tip");
    this.tip.hidden = true;
    this.back = html("button", "whole range", "back");
    this.back.hidden = true;
    this.back.addEventListener("click", () => this.look(null));
    figure.prepend(this.svg, this.tip, this.back);
    this.svg.addEventListener("pointerdown", (event) => this.press(event));
    this.svg.addEventListener("pointermove", (event) => this.move(event));
    this.svg.addEventListener("pointerup", (event) => this.release(event));
    this.svg.addEventListener("pointerleave", () => this.leave());
    this.svg.addEventListener("dblclick", () => this.look(null));
    charts.push(this);
  }

  look(range) {
    this.zoom = range;
    this.draw();
  }

  draw() {
    const width = Math.max(320, this.figure.clientWidth || 900), height = this.height;
    const lines = this.lines().filter((line) => !state.hidden.has(line.label));
    const longest = Math.max(0, ...lines.map((line) => line.label.length));
    const inside = width < 620 || !this.withEnds;
    const box = { left: 62, right: width - (inside ? 12 : Math.min(250, 18 + longest * 7.4)), top: 12, bottom: height - 42 };
    const [fullLow, fullHigh] = extent(lines.flatMap((line) => line.x));
    const [low, high] = this.zoom || [fullLow, fullHigh];
    const seen = [];
    const take = (xs, ...rows) => xs.forEach((at, i) => at >= low && at <= high && rows.forEach((row) => seen.push(row[i])));
    for (const line of lines) {
      take(line.x, line.low, line.high, line.mean);
      if (state.seeds && this.withSeeds) line.seeds.forEach(([xs, ys]) => take(xs, ys));
    }
    const [bottom, top] = extent(seen.filter((value) => value !== null));
    const x = (value) => box.left + ((value - low) / (high - low)) * (box.right - box.left);
    const y = (value) => box.bottom - ((value - bottom) / (top - bottom)) * (box.bottom - box.top);
    Object.assign(this, { box, x, y, low, high, shown: lines });
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const id = `clip-${charts.indexOf(this)}`;
    const clip = element("clipPath", { id });
    clip.append(element("rect", { x: box.left, y: box.top, width: box.right - box.left, height: box.bottom - box.top }));
    const frame = element("g"), drawn = element("g", { "clip-path": `url(#${id})` });
    for (const tick of ticks(bottom, top, 5)) {
      frame.append(element("line", { class: "grid", x1: box.left, x2: box.right, y1: y(tick), y2: y(tick) }));
      frame.append(element("text", { x: box.left - 8, y: y(tick) + 4, "text-anchor": "end" }, said(tick)));
    }
    for (const tick of ticks(low, high, Math.max(3, Math.round(width / 150)))) {
      frame.append(element("text", { x: x(tick), y: box.bottom + 18, "text-anchor": "middle" }, said(tick)));
    }
    frame.append(element("line", { class: "axis-line", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
    frame.append(element("text", { x: (box.left + box.right) / 2, y: height - 6, "text-anchor": "middle" }, this.xName()));
    for (const line of lines) {
      const series = element("g", { class: "series", "data-label": line.label });
      if (line.low.every((value) => value !== null)) {
        series.append(element("path", { d: band(line, x, y), fill: line.colour, opacity: 0.16 }));
      }
      if (state.seeds && this.withSeeds) {
        for (const [xs, ys] of line.seeds) {
          series.append(element("path", { d: path(xs, ys, x, y), fill: "none", stroke: line.colour, "stroke-width": 0.8, opacity: 0.55 }));
        }
      }
      series.append(element("path", { d: path(line.x, line.mean, x, y), fill: "none", stroke: line.colour, "stroke-width": 2.2, "stroke-dasharray": line.dash, "stroke-linejoin": "round" }));
      drawn.append(series);
    }
    const ends = element("g");
    const last = lines.filter((line) => line.x.length);
    if (!inside) {
      const wanted = last.map((line) => {
        const at = valueAt(line, Math.min(high, line.x[line.x.length - 1]));
        return Math.min(Math.max(y(at === undefined ? line.mean[0] : at), box.top), box.bottom);
      });
      spreadOut(wanted, 15, box.top + 4, box.bottom).forEach((place, i) => {
        ends.append(element("line", { x1: box.right + 1, y1: wanted[i], x2: box.right + 10, y2: place, stroke: last[i].colour }));
        ends.append(element("text", { class: "end", x: box.right + 13, y: place + 4 }, last[i].label));
        ends.lastChild.style.fill = `color-mix(in srgb, ${last[i].colour} 78%, var(--ink))`;
      });
    }
    this.cross = element("line", { class: "cross", y1: box.top, y2: box.bottom, visibility: "hidden" });
    this.select = element("rect", { class: "select", y: box.top, height: box.bottom - box.top, width: 0 });
    this.svg.replaceChildren(clip, frame, drawn, ends, this.cross, this.select);
    this.back.hidden = !this.zoom;
  }

  at(event) {
    const area = this.svg.getBoundingClientRect();
    const width = this.svg.viewBox.baseVal.width;
    const place = ((event.clientX - area.left) / area.width) * width;
    const inside = Math.min(Math.max(place, this.box.left), this.box.right);
    return { place: inside, value: this.low + ((inside - this.box.left) / (this.box.right - this.box.left)) * (this.high - this.low) };
  }

  press(event) {
    this.start = this.at(event);
    this.svg.setPointerCapture(event.pointerId);
  }

  move(event) {
    const now = this.at(event);
    if (this.start) {
      this.select.setAttribute("x", Math.min(now.place, this.start.place));
      this.select.setAttribute("width", Math.abs(now.place - this.start.place));
      return;
    }
    this.cross.setAttribute("x1", now.place);
    this.cross.setAttribute("x2", now.place);
    this.cross.setAttribute("visibility", "visible");
    const rows = this.shown.map((line) => [line, valueAt(line, now.value)]).filter(([, value]) => value !== undefined);
    rows.sort((a, b) => b[1] - a[1]);
    this.tip.replaceChildren(html("div", `${said(now.value)} ${this.xName()}`));
    for (const [line, value] of rows) {
      const row = html("div"), dot = html("i");
      dot.style.background = line.colour;
      row.append(dot, html("span", line.label), html("b", said(value)));
      this.tip.append(row);
    }
    this.tip.hidden = rows.length === 0;
    const area = this.figure.getBoundingClientRect();
    const left = event.clientX - area.left;
    this.tip.style.top = `${event.clientY - area.top + 12}px`;
    this.tip.style.left = left > area.width / 2 ? `${left - this.tip.offsetWidth - 14}px` : `${left + 14}px`;
  }

  release(event) {
    const end = this.at(event), start = this.start;
    this.start = null;
    if (start && Math.abs(end.place - start.place) > 6) {
      this.look([Math.min(start.value, end.value), Math.max(start.value, end.value)]);
    } else {
      this.select.setAttribute("width", 0);
    }
  }

  leave() {
    this.tip.hidden = true;
    if (this.cross) this.cross.setAttribute("visibility", "hidden");
  }
}

// Predicted against realised, a dot a state.
class Dots {
  constructor(figure, task, what) {
    Object.assign(this, { figure, task, what });
    this.svg = element("svg", { class: "chart", role: "img" });
    figure.prepend(this.svg);
    charts.push(this);
  }

  draw() {
    const series = data.critics.filter((one) => one.env === this.task && one[this.what] && !state.hidden.has(one.label));
    const realised = this.what === "mean" ? "return_mean" : "return_deviation";
    const [low, high] = extent(series.flatMap((one) => [...one[this.what], ...one[realised]]));
    const width = 380, height = 330, box = { left: 58, right: width - 12, top: 10, bottom: height - 30 };
    const x = (value) => box.left + ((value - low) / (high - low)) * (box.right - box.left);
    const y = (value) => box.bottom - ((value - low) / (high - low)) * (box.bottom - box.top);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const frame = element("g"), drawn = element("g");
    for (const tick of ticks(low, high, 4)) {
      frame.append(element("line", { class: "grid", x1: box.left, x2: box.right, y1: y(tick), y2: y(tick) }));
      frame.append(element("text", { x: box.left - 8, y: y(tick) + 4, "text-anchor": "end" }, said(tick)));
      frame.append(element("text", { x: x(tick), y: box.bottom + 18, "text-anchor": "middle" }, said(tick)));
    }
    if (series.length) frame.append(element("line", { class: "same", x1: x(low), y1: y(low), x2: x(high), y2: y(high) }));
    else frame.append(element("text", { x: (box.left + box.right) / 2, y: (box.top + box.bottom) / 2, "text-anchor": "middle" }, "no critic here learns it"));
    for (const one of series) {
      const { colour, dash } = styleOf(one.label); // the further groups of an algorithm are rings
      const group = element("g", { class: "series", "data-label": one.label, fill: dash ? "none" : colour, stroke: dash ? colour : "none" });
      one[this.what].forEach((value, i) => group.append(element("circle", { cx: x(one[realised][i]).toFixed(1), cy: y(value).toFixed(1), r: 2.6, opacity: 0.6 })));
      drawn.append(group);
    }
    this.svg.replaceChildren(frame, drawn);
  }
}

function styleOf(label) {
  return data.styles.find((style) => style.label === label);
}

function redraw() {
  for (const chart of charts) chart.draw();
}

function pressed(button, value) {
  button.setAttribute("aria-pressed", String(value));
}

for (const style of data.styles) {
  const button = html("button"), sample = element("svg", { viewBox: "0 0 22 8" });
  sample.append(element("line", { x1: 0, x2: 22, y1: 4, y2: 4, stroke: style.colour, "stroke-width": 3, "stroke-dasharray": style.dash }));
  button.append(sample, html("span", style.label));
  button.title = "click to hide or show";
  pressed(button, true);
  button.addEventListener("click", () => {
    const hide = !state.hidden.has(style.label);
    if (hide) state.hidden.add(style.label);
    else state.hidden.delete(style.label);
    pressed(button, !hide);
    redraw();
  });
  document.getElementById("legend").append(button);
}

const axes = document.getElementById("axes");
for (const [key, name] of Object.entries(data.axes)) {
  const button = html("button", name);
  pressed(button, key === state.by);
  button.addEventListener("click", () => {
    state.by = key;
    for (const other of axes.children) pressed(other, other === button);
    for (const chart of charts) chart.zoom = null;
    redraw();
  });
  axes.append(button);
}

const seeds = document.getElementById("seeds");
seeds.addEventListener("click", () => {
  state.seeds = !state.seeds;
  pressed(seeds, state.seeds);
  redraw();
});

for (const figure of document.querySelectorAll("[data-curves]")) {
  const task = data.tasks[Number(figure.dataset.curves)];
  figure.dataset.label = `Learning curves of ${task.env}`;
  new Chart(figure, {
    lines: () => task.curves[state.by].map((line) => ({ ...line, ...styleOf(line.label) })),
    xName: () => data.axes[state.by],
  });
}
for (const figure of document.querySelectorAll("[data-profile]")) {
  figure.dataset.label = "Performance profile";
  new Chart(figure, {
    lines: () => data.profile.map((line) => ({ ...line, ...styleOf(line.label) })),
    xName: () => data.profileAxis,
    seeds: false,
    ends: false,
  });
}
for (const figure of document.querySelectorAll("[data-dots]")) new Dots(figure, figure.dataset.task, figure.dataset.dots);

if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
  for (const film of document.querySelectorAll("video")) film.removeAttribute("autoplay"), film.pause();
}
addEventListener("resize", redraw);
redraw();
