"use strict";
// The comparison: the page of several runs, with a legend that switches them and bands of seed groups.

/** An axis on which every line has been placed already: it only writes its labels. */
class SharedAxis extends Axis {
  constructor(name) {
    super(null);
    this.name = name;
  }
}

const COUNTS = { "": ["Updates", "update"], env_steps: ["Steps", "step"], seconds: ["Seconds", "s"] };

class ComparePage extends Page {
  constructor(data) {
    super({ ...data, missing: [], missing_of: [], alerts: [], attempts: [], axes: [] });
    this.specs.forEach((spec) => (spec.bands = []));
    this.runs = data.runs;
    this.groups = data.groups;
    this.places = new Map(data.axes.map((axis) => [axis.name, axis.runs.map((run) => run && { updates: sums(run.updates), values: run.values })]));
    this.axes = new Map(["", ...this.places.keys()].map((name) => [name, new SharedAxis(name)]));
    this.observer = new IntersectionObserver((entries) => entries.forEach((entry) => this.see(entry.target, entry.isIntersecting)), { rootMargin: "300px" });
    this.usual = this.axes.has(data.by) ? data.by : "";
    this.band = this.groups.length ? "mean" : "";
    const alone = this.runs.filter((run) => run.group === null);
    this.colours = this.groups.length + alone.length;
    this.runs.forEach((run) => (run.colour = run.group ?? this.groups.length + alone.indexOf(run)));
    this.runs.forEach((run, number) => run.short && this.hidden.add(number));
    this.axis = this.axes.get(this.usual);
    this.reach();
  }

  start() {
    this.list();
    const band = document.getElementById("band");
    if (band) band.addEventListener("change", () => this.gather(band.value));
    super.start();
    this.read();
  }

  // ------------------------------------------------------------------ axis

  /** Return the function that places updates of a run on the axis; null for a run that is not on it. */
  placing(run) {
    if (this.axis.name === "") return (update) => update;
    const known = this.places.get(this.axis.name)[run];
    return known && ((update) => between(known.updates, known.values, update));
  }

  /** Find the ends of the axis over all runs, and the unit to which views are rounded. */
  reach() {
    const ends = this.runs.flatMap((run, number) => {
      const at = this.placing(number);
      return at && run.first !== null ? [at(run.first), at(run.last)] : [];
    });
    this.first = ends.reduce((low, end) => Math.min(low, end), Infinity);
    this.last = ends.reduce((high, end) => Math.max(high, end), -Infinity);
    this.unit = this.axis.name === "seconds" ? Math.min(1, 10 ** Math.floor(Math.log10((this.last - this.first || 1) / 1000))) : 1;
    this.view = [this.first, this.last];
    this.at = this.last;
  }

  change(name, smoothing) {
    const axis = this.axes.get(name) ?? this.axis;
    if (axis !== this.axis) {
      this.axis = axis;
      this.reach();
      this.charts.forEach((chart) => chart.moved());
    }
    super.change(name, smoothing);
    this.read();
  }

  show() {
    super.show();
    document.getElementById("unit").textContent = COUNTS[this.axis.name][0];
  }

  unitName() {
    return COUNTS[this.axis.name][0].toLowerCase();
  }

  /** Return a place on the axis in words. */
  named(place) {
    const number = place.toLocaleString("en").replaceAll(",", "\u202f");
    return this.axis.name === "seconds" ? `${number} s` : `${COUNTS[this.axis.name][1]} ${number}`;
  }

  /** Make the first chart at once, and every other one when it comes into view. */
  make(section) {
    if (!this.charts.size) this.create(section).see(true);
    this.observer.observe(section);
  }

  create(section) {
    const chart = new OverlayChart(section, this.specs.get(section.id), this);
    this.charts.set(section.id, chart);
    chart.readout.textContent = chart.describe(this.at);
    return chart;
  }

  see(section, isSeen) {
    const chart = this.charts.get(section.id) ?? (isSeen ? this.create(section) : null);
    if (chart) chart.see(isSeen);
  }

  /** Print every chart, also those that nobody has seen yet. */
  print(begins) {
    for (const section of document.querySelectorAll(".chart")) if (begins && !this.charts.has(section.id)) this.create(section);
    super.print(begins);
  }

  // ------------------------------------------------------------------ runs and groups

  colour(run, alpha = 1) {
    return runColour(this.runs[run].colour, this.colours, alpha);
  }

  /** Whether a band stands for this run. */
  isGrouped(run) {
    return this.band !== "" && this.runs[run].group !== null && !this.runs[run].short;
  }

  gather(band) {
    this.band = band;
    this.redraw();
    this.read();
  }

  redraw() {
    this.paint();
    super.redraw();
  }

  read() {
    this.charts.forEach((chart) => (chart.readout.textContent = chart.describe(this.at)));
  }

  /** Make the legend: a button for each group and for each run, the best first. */
  list() {
    const legend = document.querySelector(".legend");
    legend.hidden = false;
    const button = (text, name, value) => {
      const made = Object.assign(document.createElement("button"), { type: "button", textContent: text });
      made.dataset[name] = value;
      return made;
    };
    const groups = this.groups.map((group, number) => button(group.title, "group", number));
    const runs = this.runs.map((run, number) => button(run.short ? `${run.name} (short)` : run.name, "run", number));
    legend.querySelector(".groups").append(...groups);
    legend.querySelector(".runs").append(...runs);
    legend.addEventListener("click", (event) => {
      const pressed = event.target.closest("button");
      if (pressed) this.press(pressed.dataset, event.shiftKey);
    });
    this.paint();
  }

  /** Switch a run, a group or all runs; with Shift a run or a group is shown alone. */
  press({ run, group, all }, isAlone) {
    const every = [...this.runs.keys()];
    const meant = every.filter((number) => all !== undefined || String(number) === run || (group !== undefined && this.runs[number].group === Number(group)));
    const isShown = all !== undefined ? all === "yes" : isAlone || meant.some((number) => this.hidden.has(number));
    if (isAlone) every.forEach((number) => this.hidden.add(number));
    meant.forEach((number) => (isShown ? this.hidden.delete(number) : this.hidden.add(number)));
    this.redraw();
    this.show();
    this.read();
    this.announce(`${every.length - this.hidden.size} of ${every.length} runs are shown`);
  }

  /** Bring the legend up to date: which runs are shown, and their colours. */
  paint() {
    for (const button of document.querySelectorAll(".legend [data-run], .legend [data-group]")) {
      const { run, group } = button.dataset;
      const members = run !== undefined ? [Number(run)] : [...this.runs.keys()].filter((number) => this.runs[number].group === Number(group));
      button.setAttribute("aria-pressed", String(members.some((number) => !this.hidden.has(number))));
      button.style.setProperty("--swatch", run !== undefined ? this.colour(Number(run)) : runColour(Number(group), this.colours));
    }
  }
}

begin(ComparePage);
