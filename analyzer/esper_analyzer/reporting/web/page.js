"use strict";
// A page with charts: unpacks the data, creates the charts and links them to one view, one cursor and one tool bar.

class Page {
  constructor(data) {
    this.origin = this.first = data.first; // the update with which the stretches begin, and the first place on the axis
    this.end = this.last = data.last;
    this.width = data.width;
    this.missing = ranges(data.missing, 2); // in every rank
    this.missingOf = data.missing_of.map((list) => ranges(list, 2)); // by line, where there is more than one
    this.alerts = data.alerts;
    this.attempts = data.attempts;
    this.run = data.run;
    this.axes = new Map([["", new Axis(null)], ...data.axes.map((spec) => [spec.name, new Axis(spec)])]);
    this.axis = this.axes.get("");
    this.usual = ""; // the axis at first
    this.unit = 1; // to which the ends of the view are rounded
    this.smoothing = 0;
    this.hidden = new Set(); // positions of hidden lines, the same in every chart
    this.specs = new Map(data.charts.map((spec) => [spec.id, spec]));
    this.charts = new Map();
    this.view = [this.first, this.last];
    this.at = this.last;
    this.alert = null;
  }

  start() {
    document.documentElement.classList.toggle("touch", navigator.maxTouchPoints > 0);
    const toolbar = document.querySelector(".toolbar");
    toolbar.hidden = document.getElementById("help").hidden = false;
    document.getElementById("needs-script").hidden = true;
    for (const button of toolbar.querySelectorAll("button")) {
      button.addEventListener("click", () => this.act(button.dataset.do));
    }
    for (const id of ["from", "to"]) document.getElementById(id).addEventListener("change", () => this.typed());
    const axis = document.getElementById("axis"), smoothing = document.getElementById("smoothing");
    if (axis) axis.addEventListener("change", () => this.change(axis.value, this.smoothing));
    smoothing.addEventListener("input", () => this.change(this.axis.name, Number(smoothing.value)));
    for (const button of document.querySelectorAll(".key button")) button.addEventListener("click", () => this.toggle(button));
    addEventListener("hashchange", () => this.restore());
    this.restore();
    document.querySelectorAll("#charts > .charts .chart").forEach((section) => this.make(section));
    const other = document.getElementById("other");
    if (other) other.addEventListener("toggle", () => this.open(other));
    for (const link of document.querySelectorAll("a[href^='#chart-']")) {
      link.addEventListener("click", () => this.follow(link));
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
    addEventListener("beforeprint", () => this.print(true));
    addEventListener("afterprint", () => this.print(false));
    this.show();
    this.follow({ hash: location.hash, dataset: {} });
    if (document.querySelector(".key")) this.charts.forEach((chart) => (chart.readout.textContent = chart.describe(this.last)));
  }

  redraw() {
    this.charts.forEach((chart) => chart.draw());
  }

  // ------------------------------------------------------------------ axis and smoothing, and their copy in the address

  change(axis, smoothing) {
    this.axis = this.axes.get(axis) ?? this.axis;
    this.smoothing = Math.min(Math.max(smoothing || 0, 0), 0.99);
    this.redraw();
    this.show();
  }

  /** Show or hide a rank's lines. */
  toggle(button) {
    const position = Number(button.dataset.line);
    if (!this.hidden.delete(position)) this.hidden.add(position);
    button.setAttribute("aria-pressed", String(!this.hidden.has(position)));
    this.redraw();
  }

  /** Restore the view from the address, if it has one. */
  restore() {
    const named = new URLSearchParams(location.hash.slice(1)), found = /^([\d.]+)-([\d.]+)$/.exec(named.get("updates") ?? "");
    if (!found && !named.has("by") && !named.has("smooth")) return;
    const by = named.get("by") ?? this.usual;
    this.change(by === "updates" ? "" : by, Number(named.get("smooth")));
    this.look(...(found ? [Number(found[1]), Number(found[2])] : [this.first, this.last]));
  }

  /** Store the view in the address once it stops changing. The initial view is not stored. */
  keep() {
    clearTimeout(this.keeping);
    this.keeping = setTimeout(() => {
      const named = new URLSearchParams();
      if (this.view[0] !== this.first || this.view[1] !== this.last) named.set("updates", this.view.join("-"));
      if (this.axis.name !== this.usual) named.set("by", this.axis.name || "updates");
      if (this.smoothing) named.set("smooth", this.smoothing);
      const hash = String(named) || (location.hash.startsWith("#chart-") ? location.hash.slice(1) : "");
      if (hash !== location.hash.slice(1)) history.replaceState(null, "", `#${hash}`);
    }, 300);
  }

  make(section) {
    if (!this.charts.has(section.id)) this.charts.set(section.id, new Chart(section, this.specs.get(section.id), this));
  }

  open(other) {
    if (other.open) other.querySelectorAll(".chart").forEach((section) => this.make(section));
  }

  /** Follow a link to a chart, opening the other metrics if needed. A link from an alert zooms to its updates. */
  follow(link) {
    const section = link.hash && document.getElementById(link.hash.slice(1));
    if (!section || !section.classList.contains("chart")) return;
    const other = section.closest("details#other");
    if (other && !other.open) {
      other.open = true;
      this.open(other);
    }
    setTimeout(() => section.querySelector(".plot").focus({ preventScroll: true })); // after the browser has scrolled there
    if (link.dataset.alert) this.zoomTo(Number(link.dataset.alert), this.charts.get(section.id));
  }

  // ------------------------------------------------------------------ the view that all charts share

  range() {
    const [min, max] = this.view;
    return min === max ? [min - this.unit / 2, max + this.unit / 2] : [min, max];
  }

  /** Return the view as places on the current axis. */
  placed() {
    const [min, max] = this.range().map((update) => this.axis.place(update));
    return max > min ? [min, max] : [min - 0.5, max + 0.5];
  }

  /** Show these updates, rounded and kept within the run. */
  look(min, max) {
    const smallest = Math.min(2 * this.unit, this.last - this.first);
    let first = this.rounded(min), last = this.rounded(max);
    if (last - first < smallest) last = first + smallest;
    const length = Math.min(last - first, this.last - this.first);
    first = Math.min(Math.max(first, this.first), this.last - length);
    this.view = [first, first + length];
    this.show();
  }

  /** Return the nearest place that a view may end at. */
  rounded(place) {
    return this.unit === 1 ? Math.round(place) : Number((Math.round(place / this.unit) * this.unit).toPrecision(12));
  }

  /** Return what the axis counts, for tables. */
  unitName() {
    return "updates";
  }

  show() {
    const [min, max] = this.placed();
    document.getElementById("from").value = this.view[0];
    document.getElementById("to").value = this.view[1];
    this.charts.forEach((chart) => chart.show(min, max));
    if (document.getElementById("axis")) document.getElementById("axis").value = this.axis.name;
    document.getElementById("smoothing").value = this.smoothing;
    document.getElementById("smoothed").textContent = this.smoothing;
    this.keep();
  }

  zoom(factor, centre) {
    const [min, max] = this.view;
    const around = Math.min(Math.max(centre ?? (min + max) / 2, min), max);
    this.look(around - (around - min) * factor, around + (max - around) * factor);
  }

  pan(share) {
    const [min, max] = this.view, step = Math.max(this.unit, this.rounded(Math.abs(max - min) * Math.abs(share))) * Math.sign(share);
    this.look(min + step, max + step);
  }

  typed() {
    const read = (id, otherwise) => {
      const text = document.getElementById(id).value.trim();
      return text !== "" && Number.isFinite(Number(text)) ? Number(text) : otherwise;
    };
    this.look(read("from", this.first), read("to", this.last));
  }

  zoomTo(position, chart) {
    const alert = this.alerts[position];
    this.alert = position;
    const length = Math.max((alert.until ?? alert.update) - alert.since, 20);
    this.look(alert.since - length, (alert.until ?? alert.update) + length);
    (chart ?? this.charts.values().next().value).point(alert.update);
    const until = alert.lasts ? "ongoing" : "over";
    this.announce(`Alert ${position + 1} of ${this.alerts.length}: ${alert.level}, ${alert.metric}, ${alert.times}, ${until}`);
  }

  nextAlert(direction, chart) {
    const count = this.alerts.length;
    if (!count) return;
    const position = this.alert === null ? (direction > 0 ? 0 : count - 1) : (this.alert + direction + count) % count;
    this.zoomTo(position, chart);
  }

  act(what, chart) {
    const actions = {
      in: () => this.zoom(0.5, chart && this.at),
      out: () => this.zoom(2, chart && this.at),
      all: () => this.look(this.first, this.last),
      earlier: () => this.pan(-0.25),
      later: () => this.pan(0.25),
      previous: () => this.nextAlert(-1, chart),
      next: () => this.nextAlert(1, chart),
    };
    actions[what]();
  }

  // ------------------------------------------------------------------ keys on a chart

  key(event, chart) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const cursor = (update) => {
      const [min, max] = this.view;
      if (update < min || update > max) this.look(min + update - (update < min ? min : max), max + update - (update < min ? min : max));
      chart.point(update);
      this.announce(chart.describe(update));
    };
    const actions = {
      ArrowLeft: () => (event.shiftKey ? this.pan(-0.25) : cursor(chart.step(this.at, -1))),
      ArrowRight: () => (event.shiftKey ? this.pan(0.25) : cursor(chart.step(this.at, 1))),
      Home: () => cursor(this.view[0]),
      End: () => cursor(this.view[1]),
      "+": () => this.act("in", chart),
      "=": () => this.act("in", chart),
      "-": () => this.act("out", chart),
      0: () => this.act("all"),
      Escape: () => this.act("all"),
      l: () => chart.toggleLog(),
      n: () => this.act("next", chart),
      p: () => this.act("previous", chart),
    };
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }

  announce(text) {
    document.getElementById("announce").textContent = text;
  }

  /** Print on paper: in light colours, as wide as the page. */
  print(begins) {
    document.documentElement.classList.toggle("printing", begins);
    for (const chart of this.charts.values()) {
      if (begins) chart.plot.setSize({ width: 640, height: chart.height() });
      chart.draw();
      if (begins) chart.plot.setSize({ width: 640, height: chart.height() });
    }
  }
}

/** Unpack the data and start the page; without charts there is nothing to start. */
async function begin(Kind) {
  if (!document.querySelector(".toolbar")) return;
  new Kind(await unpack()).start();
  document.documentElement.dataset.ready = "yes";
}
