// What can be done on the page: choose views, axes and groups, sort tables, light up a line.
const data = JSON.parse(document.getElementById("data").textContent);
const state = { by: data.by, seeds: false };
const ROWS = 10; // of a table; the others on demand
const charts = [];

function pressed(buttons, chosen) {
  for (const button of buttons) button.setAttribute("aria-pressed", String(button === chosen));
}

function redraw() {
  for (const chart of charts) chart.draw();
}

// A task: curves beside final scores, whose rows are the legend, and the table.
class Task {
  constructor(section) {
    this.task = data.tasks[Number(section.dataset.task)];
    this.section = section;
    this.rows = [...section.querySelectorAll(".sorts tbody tr")];
    this.told = this.task.views.map((view) => new Set(view.told));
    this.every = false;
    this.chart = new Chart(section.querySelector("[data-curves]"), {
      label: `Learning curves of ${this.task.env}`,
      lines: () => this.lines(),
      xName: () => data.axes[state.by],
      seeds: () => state.seeds,
      height: () => Math.min(Math.max(section.querySelector(".finals").clientHeight - 30, 330), 480),
    });
    charts.push(this.chart);
    this.buttons = [...section.querySelectorAll(".views button")];
    this.buttons.forEach((button, view) => button.addEventListener("click", () => this.look(view)));
    this.all = section.querySelector(".all");
    this.all.addEventListener("click", () => {
      this.every = true;
      this.cut();
    });
    section.querySelectorAll(".sorts th").forEach((head, column) => {
      head.firstElementChild.addEventListener("click", () => this.sort(head, column));
      if (head.textContent === "final") this.sort(head, column);
    });
    this.look(0);
  }

  lines() {
    const view = this.task.views[this.view], told = this.told[this.view];
    return view.listed.map((index) => {
      const { curves, style } = this.task.groups[index];
      return { ...curves[state.by], style, label: view.called[index], told: told.has(index) };
    });
  }

  look(view) {
    this.view = view;
    pressed(this.buttons, this.buttons[view]);
    for (const line of this.section.querySelectorAll(".sentence")) line.hidden = Number(line.dataset.view) !== view;
    this.chart.zoom = null;
    this.list();
    this.cut();
    this.colour();
  }

  // The curves, and a dot in the table for each that is in colour.
  colour() {
    const told = this.told[this.view];
    for (const row of this.rows) {
      const index = Number(row.dataset.group);
      row.firstElementChild.className = told.has(index) ? styled(this.task.groups[index].style) : "";
    }
    this.chart.draw();
  }

  // Final scores: a row a group.
  list() {
    const view = this.task.views[this.view], told = this.told[this.view];
    const groups = view.listed.map((index) => this.task.groups[index]);
    const [low, high] = extent(groups.flatMap((group) => [...group.final, ...group.seeds]).filter((value) => value !== null));
    const place = (value) => `${((value - low) / (high - low)) * 100}%`;
    const marks = ticks(low, high, this.section.clientWidth < 500 ? 2 : 4);
    const put = (name, value, className) => {
      const made = html(name, "", className);
      made.style.left = place(value);
      return made;
    };
    const items = view.listed.map((index) => {
      const group = this.task.groups[index], [mean, from, to] = group.final;
      const button = html("button", "", `row ${styled(group.style)}`), name = html("span", `${view.called[index]} `, "name");
      name.append(html("small", group.seeds.length === 1 ? "1 seed" : `${group.seeds.length} seeds`));
      if (group.failed) name.append(" ", html("small", `${group.failed} failed`, "failed"));
      const track = html("span", "", "track");
      track.append(...marks.map((mark) => put("i", mark, "tick")));
      if (from !== null) {
        const interval = put("i", from, "interval");
        interval.style.width = `${((to - from) / (high - low)) * 100}%`;
        track.append(interval);
      }
      if (group.seeds.length > 1) track.append(...group.seeds.map((seed) => put("i", seed, "one")));
      track.append(put("i", mean, "point"));
      button.append(sample(), name, track, html("span", said(mean), "value"));
      button.title = from === null ? "one seed" : `95% interval ${said(from)} to ${said(to)}`;
      button.setAttribute("aria-pressed", String(told.has(index)));
      button.addEventListener("click", () => {
        if (!told.delete(index)) told.add(index);
        button.setAttribute("aria-pressed", String(told.has(index)));
        this.colour();
      });
      for (const event of ["pointerenter", "focus"]) button.addEventListener(event, () => this.chart.light(view.called[index]));
      for (const event of ["pointerleave", "blur"]) button.addEventListener(event, () => this.chart.light(null));
      const item = html("li");
      item.append(button);
      return item;
    });
    this.section.querySelector(".finals ol").replaceChildren(...items);
    this.section.querySelector(".scale div").replaceChildren(
      ...marks.map((mark) => Object.assign(put("span", mark), { textContent: said(mark) })),
    );
    const left = this.rows.filter((row) => this.holds(row)).length - items.length;
    const hint = told.size < items.length ? "Click a row to draw its curve in colour. " : "";
    this.section.querySelector(".more").textContent = `${hint}${left > 0 ? `${left} more are in the table.` : ""}`;
  }

  holds(row) {
    const { kind } = this.task.views[this.view];
    return kind < 0 || Number(row.dataset.kind) === kind;
  }

  // The rows of the view, at first the top ones.
  cut() {
    const there = this.rows.filter((row) => this.holds(row));
    for (const row of this.rows) row.hidden = true;
    for (const row of this.every ? there : there.slice(0, ROWS)) row.hidden = false;
    this.all.hidden = this.every || there.length <= ROWS;
    this.all.textContent = `all ${there.length} rows`;
  }

  // Numbers begin with the largest, names with the first; what is no number stands last.
  sort(head, column) {
    const before = head.getAttribute("aria-sort");
    const value = (row) => row.children[column].dataset.value;
    const numeric = this.rows.some((row) => Number.isFinite(Number(value(row))));
    const rising = before ? before === "descending" : !numeric;
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const sign = rising ? 1 : -1;
    const compare = (a, b) => {
      if (!numeric) return sign * a.localeCompare(b);
      const [one, two] = [Number(a), Number(b)];
      if (Number.isFinite(one) && Number.isFinite(two)) return sign * (one - two);
      return Number.isFinite(two) - Number.isFinite(one);
    };
    this.rows.sort((a, b) => compare(value(a), value(b)));
    this.rows[0].parentElement.append(...this.rows);
    if (this.view !== undefined) this.cut();
  }
}

function legend(figure, lines) {
  const key = html("ul", "", "key");
  for (const line of lines) {
    const item = html("li", "", styled(line.style));
    item.append(sample(), html("span", line.label));
    key.append(item);
  }
  figure.append(key);
}

for (const section of document.querySelectorAll(".task")) new Task(section);

for (const figure of document.querySelectorAll("[data-profile]")) {
  charts.push(new Chart(figure, {
    label: "Performance profile",
    lines: () => data.profile.map((line) => ({ ...line, told: true })),
    xName: () => data.profileAxis,
    seeds: () => false,
  }));
  legend(figure, data.profile);
}
for (const figure of document.querySelectorAll("[data-dots]")) {
  const series = data.critics.filter((one) => one.env === figure.dataset.env);
  charts.push(new Dots(figure, { label: figure.querySelector("figcaption").textContent, series, what: figure.dataset.dots }));
  if (figure.dataset.dots === "mean") legend(figure, series);
}

const axes = document.querySelectorAll("[data-axis]");
for (const button of axes) {
  button.addEventListener("click", () => {
    state.by = button.dataset.axis;
    pressed(axes, button);
    for (const chart of charts) chart.zoom = null;
    redraw();
  });
}
document.getElementById("seeds").addEventListener("click", (event) => {
  state.seeds = !state.seeds;
  event.currentTarget.setAttribute("aria-pressed", String(state.seeds));
  redraw();
});

if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
  for (const film of document.querySelectorAll("video")) film.removeAttribute("autoplay"), film.pause();
}
for (const folded of document.querySelectorAll("details")) folded.addEventListener("toggle", redraw); // now it has a width
addEventListener("resize", redraw);
redraw();
