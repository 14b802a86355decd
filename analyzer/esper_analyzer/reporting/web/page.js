"use strict";
// A page with charts: unpacks the data, creates the charts and links them to one view, one cursor and one tool bar.

const KEPT = ["by", "smooth", "off", "seeds"]; // choices in the address, besides the updates

class Page {
  constructor(/** @type {PageData} */ data) {
    this.origin = this.first = data.first; // the update with which the stretches begin, and the first place on the axis
    this.end = this.last = data.last;
    this.width = data.width;
    this.missing = ranges(data.missing, 2); // in every rank
    this.missingOf = data.missing_of.map((list) => ranges(list, 2)); // by line, where there is more than one
    this.alerts = data.alerts;
    this.attempts = data.attempts;
    this.run = data.run;
    this.axes = new Map([null, ...data.axes].map((spec) => [spec ? spec.name : "", new Axis(spec)]));
    this.axis = this.axes.get("") ?? new Axis(null);
    this.usual = ""; // the axis at first
    this.unit = 1; // to which the ends of the view are rounded
    this.smoothing = 0;
    /** @type {Set<number>} */
    this.hidden = new Set(); // positions of hidden lines, the same in every chart
    /** @type {Set<number>} */
    this.usuallyHidden = new Set(); // those at first
    this.specs = new Map(data.charts.map((spec) => [spec.id, spec]));
    /** @type {Map<string, Chart>} */
    this.charts = new Map();
    this.view = [this.first, this.last];
    this.at = this.last;
    /** @type {number | null} */
    this.alert = null; // position of the alert that was chosen last
    this.keeping = 0; // the timer of `keep`
  }

  start() {
    document.documentElement.classList.toggle("touch", navigator.maxTouchPoints > 0);
    const toolbar = the(".toolbar", HTMLElement);
    toolbar.hidden = the("#help", HTMLElement).hidden = false;
    the("#needs-script", HTMLElement).hidden = true;
    for (const button of every("button", HTMLElement, toolbar)) {
      button.addEventListener("click", () => this.act(button.dataset.do));
    }
    for (const end of every("#from, #to", HTMLInputElement)) end.addEventListener("change", () => this.typed());
    for (const axis of every("#axis", HTMLSelectElement)) axis.addEventListener("change", () => this.change(axis.value, this.smoothing));
    const smoothing = the("#smoothing", HTMLInputElement);
    smoothing.addEventListener("input", () => this.change(this.axis.name, Number(smoothing.value)));
    for (const button of every(".key button", HTMLElement)) button.addEventListener("click", () => this.toggle(Number(button.dataset.line)));
    addEventListener("hashchange", () => this.restore());
    this.restore();
    for (const section of every("#charts > .charts .chart", HTMLElement)) this.make(section);
    for (const other of every("#other", HTMLDetailsElement)) other.addEventListener("toggle", () => this.open(other));
    for (const link of every("a[href^='#chart-']", HTMLAnchorElement)) {
      link.addEventListener("click", () => this.follow(link.hash, link.dataset));
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
    addEventListener("beforeprint", () => this.print(true));
    addEventListener("afterprint", () => this.print(false));
    this.show();
    this.follow(location.hash);
    if (document.querySelector(".key")) this.read();
  }

  redraw() {
    this.charts.forEach((chart) => chart.draw());
  }

  /** Bring the readouts up to date. */
  read() {
    this.charts.forEach((chart) => (chart.readout.textContent = chart.describe(this.at)));
  }

  // ------------------------------------------------------------------ axis, smoothing and lines shown, and their copy in the address

  change(/** @type {string} */ axis, /** @type {number} */ smoothing) {
    this.axis = this.axes.get(axis) ?? this.axis;
    this.smoothing = Math.min(Math.max(smoothing || 0, 0), 0.99);
    this.redraw();
    this.show();
  }

  /** Show or hide a rank's lines. */
  toggle(/** @type {number} */ position) {
    if (!this.hidden.delete(position)) this.hidden.add(position);
    this.redraw();
    this.paint();
    this.read();
    this.keep();
  }

  /** Bring the legend up to date. */
  paint() {
    for (const button of every(".key button", HTMLElement)) {
      button.setAttribute("aria-pressed", String(!this.hidden.has(Number(button.dataset.line))));
    }
  }

  /** How many lines can be switched. */
  switched() {
    return every(".key button", HTMLElement).length;
  }

  /** Restore the view from the address, if it has one. */
  restore() {
    const named = new URLSearchParams(location.hash.slice(1)), found = /^([\d.]+)-([\d.]+)$/.exec(named.get("updates") ?? "");
    if (!found && !KEPT.some((name) => named.has(name))) return;
    const off = named.get("off");
    this.hidden = off === null ? new Set(this.usuallyHidden) : positionsIn(off, this.switched());
    this.paint();
    const by = named.get("by") ?? this.usual;
    this.change(by === "updates" ? "" : by, Number(named.get("smooth")));
    if (found) this.look(Number(found[1]), Number(found[2])); else this.look(this.first, this.last);
  }

  /** Store the view in the address once it stops changing. The initial view is not stored. */
  keep() {
    clearTimeout(this.keeping);
    this.keeping = setTimeout(() => {
      const named = this.choices();
      const hash = String(named) || (location.hash.startsWith("#chart-") ? location.hash.slice(1) : "");
      if (hash !== location.hash.slice(1)) history.replaceState(null, "", `#${hash}`);
    }, 300);
  }

  /** Return what of the view is not as at first, by its names in the address. */
  choices() {
    const named = new URLSearchParams();
    if (this.view[0] !== this.first || this.view[1] !== this.last) named.set("updates", this.view.join("-"));
    if (this.axis.name !== this.usual) named.set("by", this.axis.name || "updates");
    if (this.smoothing) named.set("smooth", String(this.smoothing));
    const off = positions(this.hidden);
    if (off !== positions(this.usuallyHidden)) named.set("off", off);
    return named;
  }

  make(/** @type {HTMLElement} */ section) {
    if (!this.charts.has(section.id)) this.charts.set(section.id, new Chart(section, this.spec(section), this).start());
  }

  /** Return the data of the chart that belongs into this section. */
  spec(/** @type {HTMLElement} */ section) {
    return /** @type {ChartSpec} */ (this.specs.get(section.id));
  }

  open(/** @type {HTMLDetailsElement} */ other) {
    if (other.open) for (const section of every(".chart", HTMLElement, other)) this.make(section);
  }

  /** Follow a link to a chart, opening the other metrics if needed. It may name an alert to zoom to, or updates. */
  follow(/** @type {string} */ hash, /** @type {DOMStringMap} */ { alert, first, last } = {}) {
    const section = document.getElementById(hash.slice(1));
    if (!section || !section.classList.contains("chart")) return;
    for (const other of every("#other", HTMLDetailsElement)) {
      if (!other.contains(section) || other.open) continue;
      other.open = true;
      this.open(other);
    }
    setTimeout(() => the(".plot", HTMLElement, section).focus({ preventScroll: true })); // after the browser has scrolled there
    if (alert) this.zoomTo(Number(alert), this.charts.get(section.id));
    if (first && last) this.look(Number(first), Number(last));
  }

  // ------------------------------------------------------------------ the view that all charts share

  /** Return the view as updates, and as more than one update. */
  range() {
    const [min, max] = this.view;
    return min === max ? [min - this.unit / 2, max + this.unit / 2] : [min, max];
  }

  /** Return the view as places on the current axis. @returns {[min: number, max: number]} */
  placed() {
    const [min, max] = this.range().map((update) => this.axis.place(update));
    return max > min ? [min, max] : [min - 0.5, max + 0.5];
  }

  /** Show these updates, rounded and kept within the run. */
  look(/** @type {number} */ min, /** @type {number} */ max) {
    const smallest = Math.min(2 * this.unit, this.last - this.first);
    let first = this.rounded(min), last = this.rounded(max);
    if (last - first < smallest) last = first + smallest;
    const length = Math.min(last - first, this.last - this.first);
    first = Math.min(Math.max(first, this.first), this.last - length);
    this.view = [first, first + length];
    this.show();
  }

  /** Return the nearest place that a view may end at. */
  rounded(/** @type {number} */ place) {
    return this.unit === 1 ? Math.round(place) : Number((Math.round(place / this.unit) * this.unit).toPrecision(12));
  }

  /** Return what the axis counts, for tables. */
  unitName() {
    return "updates";
  }

  show() {
    const [min, max] = this.placed();
    the("#from", HTMLInputElement).value = String(this.view[0]);
    the("#to", HTMLInputElement).value = String(this.view[1]);
    this.charts.forEach((chart) => chart.show(min, max));
    for (const axis of every("#axis", HTMLSelectElement)) axis.value = this.axis.name;
    the("#smoothing", HTMLInputElement).value = String(this.smoothing);
    the("#smoothed", HTMLElement).textContent = String(this.smoothing);
    this.keep();
  }

  /** Zoom around an update, or around the middle of the view. */
  zoom(/** @type {number} */ factor, /** @type {number | undefined} */ centre) {
    const [min, max] = this.view;
    const around = Math.min(Math.max(centre ?? (min + max) / 2, min), max);
    this.look(around - (around - min) * factor, around + (max - around) * factor);
  }

  pan(/** @type {number} */ share) {
    const [min, max] = this.view, step = Math.max(this.unit, this.rounded(Math.abs(max - min) * Math.abs(share))) * Math.sign(share);
    this.look(min + step, max + step);
  }

  typed() {
    const read = (/** @type {string} */ id, /** @type {number} */ otherwise) => {
      const text = the(id, HTMLInputElement).value.trim();
      return text !== "" && Number.isFinite(Number(text)) ? Number(text) : otherwise;
    };
    this.look(read("#from", this.first), read("#to", this.last));
  }

  /** Zoom to an alert, and put the cursor there; that of the first chart if none is given. */
  zoomTo(/** @type {number} */ position, /** @type {Chart | undefined} */ chart) {
    const alert = this.alerts[position];
    this.alert = position;
    const length = Math.max((alert.until ?? alert.update) - alert.since, 20);
    this.look(alert.since - length, (alert.until ?? alert.update) + length);
    (chart ?? [...this.charts.values()][0]).point(alert.update);
    const until = alert.lasts ? "ongoing" : "over";
    this.announce(`Alert ${position + 1} of ${this.alerts.length}: ${alert.level}, ${alert.metric}, ${alert.times}, ${until}`);
  }

  nextAlert(/** @type {1 | -1} */ direction, /** @type {Chart | undefined} */ chart) {
    const count = this.alerts.length;
    if (!count) return;
    const position = this.alert === null ? (direction > 0 ? 0 : count - 1) : (this.alert + direction + count) % count;
    this.zoomTo(position, chart);
  }

  /** Do what a button of the tool bar or a key says, around the cursor of a chart if one is given. */
  act(/** @type {string | undefined} */ what, /** @type {Chart | undefined} */ chart = undefined) {
    /** @type {Record<string, () => void>} */
    const actions = {
      in: () => this.zoom(0.5, chart && this.at),
      out: () => this.zoom(2, chart && this.at),
      all: () => this.look(this.first, this.last),
      earlier: () => this.pan(-0.25),
      later: () => this.pan(0.25),
      previous: () => this.nextAlert(-1, chart),
      next: () => this.nextAlert(1, chart),
    };
    actions[what ?? ""]?.();
  }

  // ------------------------------------------------------------------ keys on a chart

  key(/** @type {KeyboardEvent} */ event, /** @type {Chart} */ chart) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const cursor = (/** @type {number} */ update) => {
      const [min, max] = this.view;
      if (update < min || update > max) this.look(min + update - (update < min ? min : max), max + update - (update < min ? min : max));
      chart.point(update);
      this.announce(chart.describe(update));
    };
    /** @type {Record<string, () => void>} */
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

  announce(/** @type {string} */ text) {
    the("#announce", HTMLElement).textContent = text;
  }

  /** Print on paper: in light colours, two charts side by side. */
  print(/** @type {boolean} */ begins) {
    document.documentElement.classList.toggle("printing", begins);
    this.redraw();
  }
}

/**
 * Unpack the data and start the page; without charts there is nothing to start.
 * @param {new (data: any) => Page} Kind
 */
async function begin(Kind) {
  if (!document.querySelector(".toolbar")) return;
  new Kind(await unpack()).start();
  document.documentElement.dataset.ready = "yes";
}
