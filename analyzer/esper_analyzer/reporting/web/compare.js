"use strict";
// The comparison: the page of several runs, with a legend that switches them and bands of seed groups.

/** An axis on which every line has been placed already: it only writes its labels. */
class SharedAxis extends Axis {
  constructor(/** @type {string} */ name) {
    super(null);
    this.name = name;
  }
}

/** @type {Record<string, [plural: string, singular: string]>} */
const COUNTS = { "": ["Updates", "update"], env_steps: ["Steps", "step"], seconds: ["Seconds", "s"] };

const BANDS = new Map([["mean", "mean"], ["median", "median"], ["runs", ""]]); // by their names in the address

class ComparePage extends Page {
  constructor(/** @type {CompareData} */ data) {
    super({ ...data, missing: [], missing_of: [], alerts: [], attempts: [], axes: [] });
    this.specs.forEach((spec) => (spec.bands = []));
    this.runs = data.runs;
    this.groups = data.groups;
    this.places = new Map(data.axes.map((axis) => [axis.name, axis.runs.map((run) => run && { updates: sums(run.updates), values: run.values })]));
    this.axes = new Map(["", ...this.places.keys()].map((name) => [name, /** @type {Axis} */ (new SharedAxis(name))]));
    this.colours = 0; // how many there are, for groups and for runs of no group
    this.observer = new IntersectionObserver((entries) => entries.forEach((entry) => this.see(/** @type {HTMLElement} */ (entry.target), entry.isIntersecting)), { rootMargin: "300px" });
    this.usual = this.axes.has(data.by) ? data.by : "";
    this.band = this.usualBand = this.groups.length ? "mean" : "";
    const alone = this.runs.filter((run) => run.group === null);
    this.colours = this.groups.length + alone.length;
    this.runs.forEach((run) => (run.colour = run.group ?? this.groups.length + alone.indexOf(run)));
    this.usuallyHidden = new Set([...this.runs.keys()].filter((number) => this.runs[number].short));
    this.hidden = new Set(this.usuallyHidden);
    this.axis = this.axes.get(this.usual) ?? this.axis;
    this.reach();
  }

  start() {
    this.list();
    for (const band of every("#band", HTMLSelectElement)) band.addEventListener("change", () => this.gather(band.value));
    super.start();
    this.read();
  }

  /** The charts that there are so far. */
  get overlays() {
    return /** @type {Map<string, OverlayChart>} */ (this.charts);
  }

  // ------------------------------------------------------------------ axis

  /** Return the function that places updates of a run on the axis; null for a run that is not on it. */
  placing(/** @type {number} */ run) {
    if (this.axis.name === "") return (/** @type {number} */ update) => update;
    const known = this.places.get(this.axis.name)?.[run];
    return known ? (/** @type {number} */ update) => between(known.updates, known.values, update) : null;
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

  change(/** @type {string} */ name, /** @type {number} */ smoothing) {
    const axis = this.axes.get(name) ?? this.axis;
    if (axis !== this.axis) {
      this.axis = axis;
      this.reach();
      this.overlays.forEach((chart) => chart.moved());
    }
    super.change(name, smoothing);
    this.read();
  }

  show() {
    super.show();
    the("#unit", HTMLElement).textContent = COUNTS[this.axis.name][0];
  }

  unitName() {
    return COUNTS[this.axis.name][0].toLowerCase();
  }

  /** Return a place on the axis in words. */
  named(/** @type {number} */ place) {
    const number = place.toLocaleString("en").replaceAll(",", "\u202f");
    return this.axis.name === "seconds" ? `${number} s` : `${COUNTS[this.axis.name][1]} ${number}`;
  }

  /** Make the first chart at once, and every other one when it comes into view. */
  make(/** @type {HTMLElement} */ section) {
    if (!this.charts.size) this.create(section).see(true);
    this.observer.observe(section);
  }

  create(/** @type {HTMLElement} */ section) {
    const chart = new OverlayChart(section, this.spec(section), this).start();
    this.charts.set(section.id, chart);
    chart.readout.textContent = chart.describe(this.at);
    return chart;
  }

  see(/** @type {HTMLElement} */ section, /** @type {boolean} */ isSeen) {
    const chart = this.overlays.get(section.id) ?? (isSeen ? this.create(section) : null);
    if (chart) chart.see(isSeen);
  }

  /** Print every chart, also those that nobody has seen yet. */
  print(/** @type {boolean} */ begins) {
    for (const section of every(".chart", HTMLElement)) if (begins && !this.charts.has(section.id)) this.create(section);
    super.print(begins);
  }

  // ------------------------------------------------------------------ runs and groups

  colour(/** @type {number} */ run, alpha = 1) {
    return runColour(this.runs[run].colour, this.colours, alpha);
  }

  /** Whether a band stands for this run. */
  isGrouped(/** @type {number} */ run) {
    return this.band !== "" && this.runs[run].group !== null && !this.runs[run].short;
  }

  gather(/** @type {string} */ band) {
    this.band = band;
    this.redraw();
    this.read();
    this.keep();
  }

  restore() {
    const seeds = new URLSearchParams(location.hash.slice(1)).get("seeds") ?? "";
    this.band = this.groups.length ? (BANDS.get(seeds) ?? this.usualBand) : "";
    for (const band of every("#band", HTMLSelectElement)) band.value = this.band;
    super.restore();
  }

  choices() {
    const named = super.choices();
    const seeds = [...BANDS].find(([, band]) => band === this.band);
    if (seeds && this.band !== this.usualBand) named.set("seeds", seeds[0]);
    return named;
  }

  switched() {
    return this.runs.length;
  }

  redraw() {
    this.paint();
    super.redraw();
  }

  /** Make the legend: a button for each group and for each run, the best first. */
  list() {
    const legend = the(".legend", HTMLElement);
    legend.hidden = false;
    const button = (/** @type {string} */ text, /** @type {"run" | "group"} */ name, /** @type {number} */ value) => {
      const made = Object.assign(document.createElement("button"), { type: "button", textContent: text });
      made.dataset[name] = String(value);
      return made;
    };
    const groups = this.groups.map((group, number) => button(group.title, "group", number));
    const runs = this.runs.map((run, number) => button(run.short ? `${run.name} (short)` : run.name, "run", number));
    the(".groups", HTMLElement, legend).append(...groups);
    the(".runs", HTMLElement, legend).append(...runs);
    legend.addEventListener("click", (event) => {
      const pressed = event.target instanceof Element && event.target.closest("button");
      if (pressed) this.press(pressed.dataset, event.shiftKey);
    });
    this.paint();
  }

  /** Switch a run, a group or all runs; with Shift a run or a group is shown alone. */
  press(/** @type {DOMStringMap} */ { run, group, all }, /** @type {boolean} */ isAlone) {
    const numbers = [...this.runs.keys()];
    const meant = numbers.filter((number) => all !== undefined || String(number) === run || (group !== undefined && this.runs[number].group === Number(group)));
    const isShown = all !== undefined ? all === "yes" : isAlone || meant.some((number) => this.hidden.has(number));
    if (isAlone) numbers.forEach((number) => this.hidden.add(number));
    meant.forEach((number) => (isShown ? this.hidden.delete(number) : this.hidden.add(number)));
    this.redraw();
    this.show();
    this.read();
    this.announce(`${numbers.length - this.hidden.size} of ${numbers.length} runs are shown`);
  }

  /** Bring the legend up to date: which runs are shown, and their colours. */
  paint() {
    for (const button of every(".legend [data-run], .legend [data-group]", HTMLElement)) {
      const { run, group } = button.dataset;
      const members = run !== undefined ? [Number(run)] : [...this.runs.keys()].filter((number) => this.runs[number].group === Number(group));
      button.setAttribute("aria-pressed", String(members.some((number) => !this.hidden.has(number))));
      button.style.setProperty("--swatch", run !== undefined ? this.colour(Number(run)) : runColour(Number(group), this.colours));
    }
  }
}

begin(ComparePage);
