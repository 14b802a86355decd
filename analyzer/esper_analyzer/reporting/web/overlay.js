"use strict";
// One chart with a line for each run, and a centre and a band for each group of seeds.

const CELLS = 6000; // places across the axis, if the lines have more points than that
const GRID = 240; // places at which the runs of a group are put together
const NAMED = 6; // runs that a readout names

/** Return the colour of a run or a group by its number, in the current scheme of the page. */
function runColour(/** @type {number} */ number, /** @type {number} */ count, alpha = 1) {
  if (count <= 8) return colour(`line-${number}`) + Math.round(alpha * 255).toString(16).padStart(2, "0");
  const isDark = matchMedia("(prefers-color-scheme: dark)").matches && !isPrinting();
  const turn = (number * 137.508) % 360; // the golden angle, so that neighbours differ
  const light = (isDark ? 0.74 : 0.5) + [0, 0.08, -0.06][number % 3];
  return `oklch(${light} 0.14 ${turn.toFixed(1)} / ${alpha})`;
}

/** Return the value that lies at this share of the sorted values, between two of them if needed. */
function quantile(/** @type {number[]} */ sorted, /** @type {number} */ share) {
  const at = share * (sorted.length - 1), low = Math.floor(at);
  return sorted[low] + (at - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
}

/** Marks of an overlay: above the plot a cross in the colour of a run wherever it begins not to be finite. */
class OverlayMarks extends Marks {
  constructor(/** @type {OverlayChart} */ chart) {
    super(chart);
    this.overlay = chart;
  }

  drawBands() {}

  drawMarks() {
    const { ctx, bbox } = this.plot, ratio = devicePixelRatio, [min, max] = this.overlay.page.range();
    ctx.save();
    ctx.lineWidth = 2 * ratio;
    this.overlay.lines.forEach((line, position) => {
      if (this.overlay.isHidden(position)) return;
      ctx.strokeStyle = this.overlay.page.colour(line.run);
      let done = -Infinity;
      for (const [first] of line.nonfinite) {
        const at = this.across(first), top = bbox.top - 10 * ratio, size = 4 * ratio;
        if (first < min || first > max || at - done < 3 * size) continue;
        done = at;
        ctx.beginPath();
        for (const slope of [1, -1]) {
          ctx.moveTo(at - size, top - slope * size);
          ctx.lineTo(at + size, top + slope * size);
        }
        ctx.stroke();
      }
    });
    ctx.restore();
  }
}

class OverlayValues extends Values {
  head() {
    return "run,first,last,value";
  }

  key(/** @type {Line} */ line) {
    return `"${this.chart.nameOf(line).replaceAll('"', '""')}"`;
  }
}

/** @extends {Chart<OverlayLine, ComparePage>} */
class OverlayChart extends Chart {
  /** @param {HTMLElement} section @param {ChartSpec} spec @param {ComparePage} page */
  constructor(section, spec, page) {
    super(section, spec, page);
    /** @type {Together[]} */
    this.groups = []; // those with a band
    this.isSeen = false; // in view, or close to it
    this.isStale = false; // to be drawn when it is seen
  }

  newMarks() {
    return new OverlayMarks(this);
  }

  newValues() {
    return new OverlayValues(this);
  }

  unpacked(/** @type {PackedLine} */ packed) {
    const line = super.unpacked(packed), run = packed.run ?? 0;
    const [middles, means] = this.page.width > 1 ? this.ofStretches(line) : [[], []];
    const { first, last } = this.page.runs[run];
    const recorded = { updates: line.updates, values: line.values, nonfinite: line.nonfinite, middles: middles.map((at) => Math.min(Math.max(at, first ?? at), last)), means };
    return this.place({ ...line, run, recorded });
  }

  /** Put a line on the axis of the page: from here on its `updates` are places on it. */
  place(/** @type {OverlayLine} */ line) {
    const { recorded } = line, at = this.page.placing(line.run);
    line.updates = at ? recorded.updates.map(at) : [];
    line.values = at ? recorded.values : [];
    line.nonfinite = at ? recorded.nonfinite.map(([first, last, kind]) => /** @type {Span} */ ([at(first), at(last), kind])) : [];
    line.middles = at ? recorded.middles.map(at) : [];
    line.smoothed = at ? recorded.means : [];
    line.known = null;
    this.everyStop = null;
    return line;
  }

  /** Draw the chart, at once if it is seen or printed, else when it comes into view: there may be fifty lines in each. */
  draw() {
    this.isStale = this.drawing !== null && !this.isSeen && !isPrinting();
    if (!this.isStale) super.draw();
  }

  show(/** @type {number} */ min, /** @type {number} */ max) {
    if (this.isSeen) super.show(min, max); else this.isStale = true;
  }

  /** Note whether the chart is in view or close to it. */
  see(/** @type {boolean} */ isSeen) {
    this.isSeen = isSeen;
    if (isSeen && this.isStale) this.draw();
  }

  moved() {
    this.lines.forEach((line) => this.place(line));
  }

  nameOf(/** @type {OverlayLine} */ line) {
    return this.page.runs[line.run].name;
  }

  isHidden(/** @type {number} */ position) {
    return this.page.hidden.has(this.lines[position].run);
  }

  // ------------------------------------------------------------------ columns and series

  /** Only the first line reaches to both ends of the axis; the others need not. */
  /** @returns {Table} */
  complete(/** @type {OverlayLine} */ line) {
    return line === this.lines[0] ? super.complete(line) : [line.updates, line.values];
  }

  /** @returns {Table} */
  means(/** @type {OverlayLine} */ line) {
    const [places, values] = this.page.width > 1 ? [line.middles, line.smoothed] : [line.updates, line.values];
    return [places, this.page.smoothing > 0 ? smooth(values, this.page.smoothing) : values];
  }

  join() {
    this.groups = this.page.band ? this.page.groups.map((_, number) => this.together(number)) : [];
    const tables = this.lines.map((line) => this.complete(line));
    if (this.hasMeans()) tables.push(...this.lines.map((line) => this.means(line)));
    for (const { places, low, high } of this.groups) tables.push([places, low], [places, high]);
    for (const { places, centre } of this.groups) tables.push([places, centre]); // over every band
    const points = tables.reduce((count, table) => count + table[0].length, 0);
    const kept = points > CELLS ? tables.map((table) => this.snapped(table)) : tables;
    return joined(kept);
  }

  /** Move points to the nearest of `CELLS` places, so that lines share them. None is lost: the next one takes the next place. */
  /** @returns {Table} */
  snapped(/** @type {Table} */ [places, values]) {
    const { first, last } = this.page, cell = (last - first) / CELLS || 1;
    let before = -Infinity;
    return [places.map((place) => first + (before = Math.max(Math.round((place - first) / cell), before + 1)) * cell), values];
  }

  /** Return the centre and the band of a group: at each place, of the runs that are shown and have come so far. */
  together(/** @type {number} */ number) {
    const { first, last, band } = this.page;
    const lines = this.lines.filter((line, position) => this.page.runs[line.run].group === number && !this.isHidden(position) && !this.page.runs[line.run].short);
    const known = lines.map((line) => measured(this.means(line))).filter(([places]) => places.length);
    /** @type {Together} */
    const found = { places: [], centre: [], low: [], high: [] };
    for (let step = 0; step <= GRID; step++) {
      const place = first + ((last - first) * step) / GRID;
      const values = known.filter(([places]) => places[0] <= place && place <= places[places.length - 1]).map((line) => between(...line, place)).sort((a, b) => a - b);
      if (values.length < 2) continue;
      found.places.push(place);
      const isMean = band === "mean";
      found.centre.push(isMean ? values.reduce((sum, value) => sum + value, 0) / values.length : quantile(values, 0.5));
      found.low.push(isMean ? values[0] : quantile(values, 0.25));
      found.high.push(isMean ? values[values.length - 1] : quantile(values, 0.75));
    }
    return found;
  }

  /** @returns {uPlot.Options} */
  options() {
    const options = super.options(), count = this.page.colours;
    const begin = 1 + this.lines.length * (this.hasMeans() ? 2 : 1);
    const unmarked = { points: { show: false } };
    options.bands = this.groups.map((_, number) => ({ series: [begin + 2 * number + 1, begin + 2 * number], fill: runColour(number, count, 0.16) }));
    this.groups.forEach((_, number) => {
      const edge = { ...unmarked, stroke: runColour(number, count, 0.5), width: 0.6 };
      options.series.push(edge, { ...edge });
    });
    this.groups.forEach((_, number) => options.series.push({ ...unmarked, stroke: runColour(number, count), width: 2.5 }));
    options.cursor = { ...options.cursor, points: { show: false } };
    return options;
  }

  series(/** @type {number} */ position) {
    const haze = Math.min(Math.max(1.4 / (this.lines.length - this.page.hidden.size), 0.07), 0.3); // many lines cover less each
    const alpha = this.hasMeans() || this.page.isGrouped(this.lines[position].run) ? haze : 1;
    return this.drawn(super.series(position), position, alpha, 1);
  }

  meanSeries() {
    return super.meanSeries().map((series, position) => this.drawn(series, position, this.page.isGrouped(this.lines[position].run) ? 0.3 : 1, 1.5));
  }

  /** @returns {uPlot.Series} */
  drawn(/** @type {uPlot.Series} */ series, /** @type {number} */ position, /** @type {number} */ alpha, /** @type {number} */ width) {
    const stroke = this.page.colour(this.lines[position].run, alpha);
    return { ...series, stroke, width, points: { ...series.points, show: false, stroke, fill: stroke } };
  }

  // ------------------------------------------------------------------ reading values

  describe(/** @type {number} */ place) {
    const groups = this.groups.map((group, number) => {
      const at = group.places.length ? nearest(group.places, place) : -1;
      return at < 0 ? null : `${this.page.groups[number].name}: ${short(group.centre[at])} [${short(group.low[at])}, ${short(group.high[at])}]`;
    }).filter((text) => text !== null);
    const lines = this.lines.filter((line, position) => !this.isHidden(position) && !this.page.isGrouped(line.run));
    const parts = [...groups, ...lines.slice(0, NAMED).map((line) => `${this.nameOf(line)}: ${this.at(line, place)}`)];
    const more = lines.length > NAMED ? ` · and ${lines.length - NAMED} more` : "";
    return `${this.page.named(place)}: ${parts.slice(0, 2 * NAMED).join(" · ") || "no run is shown"}${more}`;
  }

  /** Return in words what a line has at a place. */
  at(/** @type {OverlayLine} */ line, /** @type {number} */ place) {
    const bad = line.nonfinite[firstRange(line.nonfinite, place)];
    if (bad && bad[0] <= place) return KINDS[bad[2]];
    const [places, values] = this.known(line);
    if (!places.length) return "—";
    const placing = this.page.placing(line.run);
    if (placing && place > placing(this.page.runs[line.run].last)) return "ended";
    if (!this.hasMeans()) return short(values[nearest(places, place)]);
    const [middles, means] = measured(this.means(line));
    return means.length ? short(means[nearest(middles, place)]) : "—";
  }

  summary() {
    return `${this.spec.title}, ${this.lines.length} runs, to ${this.page.named(this.page.last)}`;
  }

  /** Keys move the cursor through the updates of a few short runs, and through a grid otherwise. */
  stops() {
    const all = super.stops();
    if (all.length <= 2 * GRID) return all;
    const { first, last } = this.page;
    return Array.from({ length: GRID + 1 }, (_, step) => this.page.rounded(first + ((last - first) * step) / GRID));
  }
}
