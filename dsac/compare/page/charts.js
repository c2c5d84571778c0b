"use strict";
// Charts of the report, in SVG. Text only ever enters the page as text; colours are classes of the style sheet.
const SVG = "http://www.w3.org/2000/svg";

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

function styled([colour, dash]) {
  return `c${colour} d${dash}`;
}

// A piece of a line as it is drawn, for a legend.
function sample() {
  const made = element("svg", { class: "sample", viewBox: "0 0 24 8", "aria-hidden": "true" });
  made.append(element("line", { class: "mean", x1: 0, x2: 24, y1: 4, y2: 4 }));
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

function range(values) {
  const [low, high] = values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
  return low < high ? [low, high] : [low - 1, high + 1];
}

// With a little room on both sides.
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

// Curves with intervals. lines() gives {label, style, told, x, mean, low, high, seeds}; what is not told is a faint line.
class Chart {
  constructor(figure, { label, lines, xName, seeds, height = () => 350 }) {
    Object.assign(this, { figure, lines, xName, seeds, height, zoom: null, lit: null });
    this.svg = element("svg", { class: "chart", role: "img", "aria-label": label });
    this.clip = `clip-${Chart.count++}`;
    this.tip = html("div", "", "tip");
    this.tip.hidden = true;
    this.back = html("button", "whole range", "back");
    this.back.hidden = true;
    this.back.addEventListener("click", () => this.look(null));
    figure.append(this.svg, this.tip, this.back);
    this.svg.addEventListener("pointerdown", (event) => this.press(event));
    this.svg.addEventListener("pointermove", (event) => this.move(event));
    this.svg.addEventListener("pointerup", (event) => this.release(event));
    this.svg.addEventListener("pointercancel", () => this.leave());
    this.svg.addEventListener("pointerleave", () => this.leave());
    this.svg.addEventListener("dblclick", () => this.look(null));
  }

  look(range) {
    this.zoom = range;
    this.draw();
  }

  // Let one line stand out; none for null.
  light(label) {
    this.lit = label;
    this.svg.classList.toggle("apart", label !== null);
    for (const series of this.svg.querySelectorAll(".series, .context")) {
      series.classList.toggle("lit", series.dataset.label === label);
    }
  }

  draw() {
    const width = Math.max(260, this.figure.clientWidth), height = width < 500 ? 290 : this.height();
    const lines = this.lines().filter((line) => line.x.length), told = lines.filter((line) => line.told);
    const box = { left: 52, right: width - 14, top: 10, bottom: height - 42 };
    const [fullLow, fullHigh] = range(told.flatMap((line) => [line.x[0], line.x[line.x.length - 1]]));
    const [low, high] = this.zoom || [fullLow, fullHigh];
    const seen = [];
    const take = (xs, ...rows) => xs.forEach((at, i) => at >= low && at <= high && rows.forEach((row) => seen.push(row[i])));
    for (const line of told) {
      take(line.x, line.low, line.high, line.mean);
      if (this.seeds()) line.seeds.forEach(([xs, ys]) => take(xs, ys));
    }
    const [bottom, top] = extent(seen.filter((value) => value !== null));
    const x = (value) => box.left + ((value - low) / (high - low)) * (box.right - box.left);
    const y = (value) => box.bottom - ((value - bottom) / (top - bottom)) * (box.bottom - box.top);
    Object.assign(this, { box, low, high, shown: told });
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const clip = element("clipPath", { id: this.clip });
    clip.append(element("rect", { x: box.left, y: box.top, width: box.right - box.left, height: box.bottom - box.top }));
    const frame = element("g"), drawn = element("g", { "clip-path": `url(#${this.clip})` });
    for (const tick of ticks(bottom, top, 5)) {
      frame.append(element("line", { class: "grid", x1: box.left, x2: box.right, y1: y(tick), y2: y(tick) }));
      frame.append(element("text", { x: box.left - 8, y: y(tick) + 4, "text-anchor": "end" }, said(tick)));
    }
    for (const tick of ticks(low, high, Math.max(3, Math.round(width / 130)))) {
      const text = said(tick);
      frame.append(element("text", { x: Math.min(x(tick), width - text.length * 3.8), y: box.bottom + 18, "text-anchor": "middle" }, text));
    }
    frame.append(element("line", { class: "axis-line", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
    frame.append(element("text", { x: (box.left + box.right) / 2, y: height - 6, "text-anchor": "middle" }, this.xName()));
    for (const line of lines.filter((line) => !line.told)) {
      drawn.append(element("path", { class: "context", "data-label": line.label, d: path(line.x, line.mean, x, y) }));
    }
    for (const line of told.toReversed()) { // the best on top
      const series = element("g", { class: `series ${styled(line.style)}`, "data-label": line.label });
      if (line.low.every((value) => value !== null)) series.append(element("path", { class: "band", d: band(line, x, y) }));
      if (this.seeds()) {
        for (const [xs, ys] of line.seeds) series.append(element("path", { class: "seed", d: path(xs, ys, x, y) }));
      }
      series.append(element("path", { class: "mean", d: path(line.x, line.mean, x, y) }));
      drawn.append(series);
    }
    this.cross = element("line", { class: "cross", y1: box.top, y2: box.bottom, visibility: "hidden" });
    this.select = element("rect", { class: "select", y: box.top, height: box.bottom - box.top, width: 0 });
    this.svg.replaceChildren(clip, frame, drawn, this.cross, this.select);
    this.light(this.lit);
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
      const row = html("div", "", styled(line.style));
      row.append(html("i"), html("span", line.label), html("b", said(value)));
      this.tip.append(row);
    }
    this.tip.hidden = rows.length === 0;
    const area = this.figure.getBoundingClientRect();
    const left = event.clientX - area.left;
    this.tip.style.top = `${event.clientY - area.top + 12}px`;
const beside = left > area.width / 2 ? left - this.tip.offsetWidth - 14 : left + 14;
    this.tip.style.left = `${Math.max(0, Math.min(beside, area.width - this.tip.offsetWidth))}px`;
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
    this.start = null;
    if (this.select) this.select.setAttribute("width", 0);
    this.tip.hidden = true;
    if (this.cross) this.cross.setAttribute("visibility", "hidden");
  }
}

// Predicted against realised, a dot a state.
class Dots {
  constructor(figure, { label, series, what }) {
    Object.assign(this, { figure, series: series.filter((one) => one[what]), what });
    this.svg = element("svg", { class: "chart", role: "img", "aria-label": label });
    figure.prepend(this.svg);
  }

  draw() {
    const { series } = this;
    const realised = this.what === "mean" ? "return_mean" : "return_deviation";
    const [low, high] = extent(series.flatMap((one) => [...one[this.what], ...one[realised]]));
    const width = Math.max(260, this.figure.clientWidth), height = 330, box = { left: 58, right: width - 12, top: 10, bottom: height - 30 };
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
      // the further groups of an algorithm are rings
      const group = element("g", { class: `series ${styled(one.style)} ${one.style[1] ? "ring" : "filled"}`, "data-label": one.label });
      one[this.what].forEach((value, i) => group.append(element("circle", { cx: x(one[realised][i]).toFixed(1), cy: y(value).toFixed(1), r: 2.6, opacity: 0.6 })));
      drawn.append(group);
    }
    this.svg.replaceChildren(frame, drawn);
  }
}
Chart.count = 0;
