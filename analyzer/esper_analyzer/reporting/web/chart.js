"use strict";
// One chart: the lines of a metric, their scales and the cursor.

const span = (/** @type {number} */ first, /** @type {number} */ last) => (first === last ? `update ${first}` : `updates ${first} to ${last}`);
const PAPER = { width: 322, height: 132 }; // of a printed plot, in pixels; two are side by side on A4 and on Letter

/**
 * @template {Line} [L=Line] a line of this chart
 * @template {Page} [P=Page] the page, which has what all charts share: view, missing updates, alerts
 */
class Chart {
  /**
   * @param {HTMLElement} section element with a plot, a readout and a log button
   * @param {ChartSpec} spec the data of this chart
   * @param {P} page
   */
  constructor(section, spec, page) {
    this.section = section;
    this.marks = this.newMarks();
    this.fingers = new Fingers(this);
    this.spec = spec;
    this.page = page;
    this.box = the(".plot", HTMLElement, section);
    this.readout = the(".readout", HTMLElement, section);
    this.logButton = the(".log", HTMLButtonElement, section);
    /** @type {uPlot | null} */
    this.drawing = null;
    /** @type {Column[]} */
    this.data = [];
    /** @type {number[] | null} */
    this.everyStop = null;
    this.lines = spec.lines.map((line) => this.unpacked(line));
    this.alerts = page.alerts.filter((alert) => alert.drawn && (spec.main || alert.chart === spec.id));
    const finite = this.lines.flatMap((line) => line.values.filter((value) => value !== null));
    const low = finite.reduce((one, other) => Math.min(one, other), Infinity), high = finite.reduce((one, other) => Math.max(one, other), -Infinity);
    this.smallest = low; // ∞ without values
    const largest = Math.max(Math.abs(low), Math.abs(high));
    this.isLog = (finite.length > 0 && low > 0 && (spec.log || high > 30 * (spec.median ?? 0))) || (finite.length > 0 && largest > 1e100);
    this.isEmpty = !finite.length;
    const sizes = finite.map(Math.abs).filter((size) => size > 0).sort((a, b) => a - b);
    this.linearUpTo = sizes.length ? Math.max(sizes[sizes.length >> 4], largest * 1e-12) : 1; // of a symmetric log scale
    this.values = this.newValues();
  }

  /** Make the chart usable, and draw it. */
  start() {
    this.prepare();
    this.draw();
    return this;
  }

  /** The library's chart; only there once it is drawn. */
  get plot() {
    return /** @type {uPlot} */ (this.drawing);
  }

  newValues() {
    return new Values(this);
  }

  newMarks() {
    return new Marks(this);
  }

  /** Return a line from the data of the page. */
  unpacked(/** @type {PackedLine} */ line) {
    return /** @type {L} */ ({
      rank: line.rank,
      updates: sums(line.updates),
      values: line.values,
      nonfinite: ranges(line.nonfinite, 3),
      stretches: sums(line.stretches),
      means: line.means,
      known: null,
    });
  }

  /** Return the name of a line among several; an empty text for the only one. */
  nameOf(/** @type {L} */ line) {
    return line.rank === null || this.lines.length === 1 ? "" : `rank ${line.rank}`;
  }

  isHidden(/** @type {number} */ position) {
    return this.page.hidden.has(position);
  }

  /** Return a column of updates and a column of values for each line. An update without a value does not break a line. */
  join() {
    const points = this.lines.map((line) => this.complete(line));
    if (this.hasMeans()) points.push(...this.lines.map((line) => this.means(line)));
    const [updates, ...columns] = joined(points);
    return [updates.map((update) => this.page.axis.place(update)), ...columns];
  }

  /** Return a line's points plus one at each end of the run, so that the axis covers all of it. */
  /** @returns {Table} */
  complete(/** @type {L} */ line) {
    const updates = line.updates.slice(), values = /** @type {Column} */ (line.values.slice());
    if (updates[0] !== this.page.first) { updates.unshift(this.page.first); values.unshift(null); }
    if (updates[updates.length - 1] !== this.page.last) { updates.push(this.page.last); values.push(null); }
    return [updates, values];
  }

  /** Whether each line has a second one, of means or smoothed values. */
  hasMeans() {
    return this.page.width > 1 || this.page.smoothing > 0;
  }

  /** Return the mean of each stretch at its middle, or each value, smoothed if chosen. The line breaks at missing values. */
  /** @returns {Table} */
  means(/** @type {L} */ line) {
    const [updates, values] = line.stretches.length || this.page.width > 1 ? this.ofStretches(line) : this.complete(line);
    return [updates, this.page.smoothing > 0 ? smooth(values, this.page.smoothing) : values];
  }

  /** @returns {Table} */
  ofStretches(/** @type {Line} */ line) {
    /** @type {number[]} */
    const updates = [];
    /** @type {Column} */
    const values = [];
    line.stretches.forEach((stretch, at) => {
      const middle = this.page.origin + Math.floor((stretch + 0.5) * this.page.width);
      if (at > 0 && stretch > line.stretches[at - 1] + 1) {
        updates.push(middle - this.page.width);
        values.push(null);
      }
      updates.push(Math.min(middle, this.page.end));
      values.push(line.means[at]);
    });
    return [updates, values];
  }

  prepare() {
    const { box } = this;
    box.hidden = false;
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-roledescription", "chart");
    box.setAttribute("aria-label", this.summary());
    box.setAttribute("aria-describedby", "help");
    box.addEventListener("keydown", (event) => this.page.key(event, this));
    this.logButton.hidden = this.isEmpty;
    this.logButton.addEventListener("click", () => this.toggleLog());
    this.values.start();
    new ResizeObserver(() => this.resize()).observe(box);
  }

  toggleLog() {
    if (this.isEmpty) return;
    this.isLog = !this.isLog;
    this.draw();
  }

  /** Redraw the chart after a change of its scale, its lines, the axis or the colours of the page. */
  draw() {
    const left = this.drawing?.cursor.left ?? -10;
    this.drawing?.destroy();
    this.logButton.setAttribute("aria-pressed", String(this.isLog));
    this.data = this.join();
    this.drawing = new uPlot(this.options(), /** @type {uPlot.AlignedData} */ (this.data), this.box);
    this.plot.root.setAttribute("aria-hidden", "true");
    this.fingers.attach(this.plot.over);
    if (left >= 0) this.plot.setCursor({ left, top: 10 }, false);
  }

  /** Show the part of the axis between these places. */
  show(/** @type {number} */ min, /** @type {number} */ max) {
    this.plot.batch(() => this.plot.setScale("x", { min, max }));
    this.values.fill();
  }

  resize() {
    const width = this.box.clientWidth;
    if (width && this.drawing && !isPrinting() && Math.abs(width - this.plot.width) > 1) this.plot.setSize(this.size());
  }

  /** Return the size of the plot in pixels. */
  size() {
    if (isPrinting()) return PAPER;
    return { width: Math.max(this.box.clientWidth, 120), height: this.spec.main ? 270 : 190 };
  }

  /** @returns {uPlot.Options} */
  options() {
    const axis = {
      stroke: colour("soft"),
      grid: { stroke: colour("line"), width: 1 },
      ticks: { stroke: colour("line"), width: 1, size: 5 },
      font: "12px system-ui, sans-serif",
    };
    const coarse = { filter: (/** @type {uPlot} */ _, /** @type {number[]} */ splits) => splits.map((value) => (this.isFine(value) ? null : value)) };
    const distribution = !this.isLog ? 1 : this.smallest > 0 ? 3 : 4;
    return {
      ...this.size(),
      padding: [LANE + 4, 20, 0, 0],
      legend: { show: false },
      cursor: {
        drag: { x: true, y: false, dist: 4, setScale: false },
        bind: { dblclick: () => () => (this.page.act("all"), null) },
        points: { size: 8, width: 2 },
        dataIdx: (_, series, index) => this.nearestPoint(series, index),
        sync: {
          key: "updates",
          setSeries: false,
          scales: ["x", null],
          filters: { pub: (/** @type {string} */ type) => type === "mousemove" || type === "mouseleave" },
        },
      },
      scales: {
        x: { time: false, range: () => this.page.placed() },
        y: { distr: distribution, asinh: this.linearUpTo, range: (_, low, high) => this.widened(low, high, distribution) },
      },
      axes: [
        { ...axis, size: 28, space: 30 + 8 * String(this.page.last).length, incrs: this.page.axis.steps, values: (_plot, splits, _index, _space, distance) => splits.map((value) => this.page.axis.tick(value, distance)) },
        { ...axis, grid: { ...axis.grid, ...coarse }, ticks: { ...axis.ticks, ...coarse }, size: 62, values: (_, splits) => splits.map((value) => (value === null ? "" : this.tick(value))) },
      ],
      series: [{}, ...this.lines.map((_, position) => this.series(position)), ...this.meanSeries()],
      hooks: {
        drawClear: [() => this.marks.drawBands()],
        draw: [() => this.marks.drawMarks()],
        setSelect: [() => this.selected()],
        setCursor: [() => this.read()],
      },
    };
  }

  /** Return the ends of the scale for these extremes. Without values they are null. */
  widened(/** @type {number | null} */ low, /** @type {number | null} */ high, /** @type {1 | 3 | 4} */ distribution) {
    /** @type {uPlot.Range.MinMax} */
    const empty = [distribution === 3 ? 0.1 : 0, 1];
    if (typeof low !== "number" || typeof high !== "number") return empty;
    const top = this.withBound(high);
    const ends = distribution === 3 ? uPlot.rangeLog(low, top, 10, false) : distribution === 4 ? uPlot.rangeAsinh(low, top, 10, false) : uPlot.rangeNum(low, top, 0.08, false);
    const [from, to] = distribution === 1 && low >= 0 ? ends.map((end) => Math.max(end ?? 0, 0)) : ends;
    return /** @type {uPlot.Range.MinMax} */ ([Number.isFinite(from) ? from : low, Number.isFinite(to) ? to : high]); // near the largest float, widening fails
  }

  /** Raise the top of the value loss's scale to its first bound, if the bound is close. */
  withBound(/** @type {number} */ high) {
    if (!this.spec.main) return high;
    const above = this.spec.bands.filter(([, comparison, bound]) => comparison[0] === ">" && bound > high && bound < 4 * high);
    return above.length ? 1.05 * Math.min(...above.map((band) => band[2])) : high;
  }

  /** @returns {uPlot.Series} */
  series(/** @type {number} */ position) {
    const solid = colour(`line-${position % 8}`), stroke = this.hasMeans() ? `${solid}70` : solid;
    return {
      show: !this.isHidden(position),
      stroke,
      width: 1.6,
      spanGaps: false,
      points: { show: (plot, _, first, last) => last - first < plot.width / 8, size: 6, stroke, fill: stroke, filter: (plot, index, show) => (show ? null : this.alone(plot, index)) },
    };
  }

  /** Return the second line for each line that shows extremes or is smoothed. */
  /** @returns {uPlot.Series[]} */
  meanSeries() {
    if (!this.hasMeans()) return [];
    return this.lines.map((_, position) => ({ show: !this.isHidden(position), stroke: colour(`mean-${position % 8}`), width: 1.6, points: { size: 6, show: false, filter: (plot, index) => this.alone(plot, index) } }));
  }

  /** Return the points without neighbours, which would be invisible as a line. */
  alone(/** @type {uPlot} */ plot, /** @type {number} */ index) {
    const values = plot.data[index], last = values.length - 1;
    const [low, high] = plot.series[0].idxs ?? [0, last];
    /** @type {number[]} */
    const found = [];
    const next = (/** @type {number} */ at, /** @type {number} */ step) => {
      for (at += step; at >= 0 && at <= last; at += step) if (values[at] !== undefined) return values[at];
      return null;
    };
    for (let at = low; at <= high; at++) {
      if (values[at] !== null && values[at] !== undefined && next(at, -1) === null && next(at, 1) === null) found.push(at);
    }
    return found.length ? found : null;
  }

  /** Whether a value is a grid line between two powers of ten; these crowd a log scale. */
  isFine(/** @type {number} */ value) {
    if (!this.isLog || !value) return false;
    return Math.abs(Math.log10(Math.abs(value)) - Math.round(Math.log10(Math.abs(value)))) > 1e-6;
  }

  tick(/** @type {number} */ value) {
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential().replace("e+", "e");
    return String(+value.toPrecision(6));
  }

  // ------------------------------------------------------------------ reading values

  /** Zoom every chart to the stretch that was dragged over. */
  selected() {
    const { left, width } = this.plot.select;
    if (width < 4) return;
    this.plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    const at = (/** @type {number} */ place) => this.page.axis.update(this.plot.posToVal(place, "x"));
    this.page.look(at(left), at(left + width));
  }

  /** Return the point of a line at the cursor: the nearest one with a value. */
  nearestPoint(/** @type {number} */ series, /** @type {number} */ index) {
    const values = this.data[series];
    if (series === 0 || (values[index] !== null && values[index] !== undefined)) return index;
    if (values[index] === null) return index;
    for (let step = 1; step < values.length; step++) {
      if (values[index - step] !== undefined) return index - step;
      if (values[index + step] !== undefined) return index + step;
    }
    return index;
  }

  /** Describe in words, with rounded values, what the chart shows at an update. */
  describe(/** @type {number} */ update) {
    const shown = this.lines.filter((_, position) => !this.isHidden(position));
    const isOne = this.lines.length === 1;
    const parts = shown.map((line) => {
      const named = line.rank === null || isOne ? "" : `rank ${line.rank}: `;
      const own = this.page.missingOf[this.lines.indexOf(line)] ?? [], gap = own[firstRange(own, update)];
      if (gap && gap[0] <= update) return `${named}missing`;
      const found = line.nonfinite[firstRange(line.nonfinite, update)];
      if (found && found[0] <= update) return `${named}${KINDS[found[2]]} (${span(found[0], found[1])})`;
      const [updates, values] = this.known(line);
      if (!updates.length) return `${named}—`;
      const at = nearest(updates, update);
      const mean = line.stretches.length ? `, mean ${short(line.means[nearest(line.stretches, Math.floor((update - this.page.origin) / this.page.width))])}` : "";
      const smoothed = this.page.smoothing > 0 && isOne ? `, smoothed ${short(this.smoothedAt(line, update))}` : "";
      if (isOne || updates[at] !== update) return `${named}${short(values[at])} (update ${updates[at]})${mean}${smoothed}`;
      return `${named}${short(values[at])}`;
    });
    const gap = this.page.missing[firstRange(this.page.missing, update)];
    if (gap && gap[0] <= update) return `${span(gap[0], gap[1])} missing`;
    return (isOne ? "" : `update ${update}: `) + parts.join(" · ");
  }

  /** Return the value of the smoothed line nearest to an update. */
  smoothedAt(/** @type {L} */ line, /** @type {number} */ update) {
    const [updates, values] = measured(this.means(line));
    return values[nearest(updates, update)];
  }

  /** Summarize the chart for screen readers: last value, extremes, values that are not finite, alerts. */
  summary() {
    const { first, last } = this.page;
    const points = this.lines.flatMap((line) => {
      const [updates, values] = this.known(line);
      return updates.map((update, at) => ({ update, value: values[at] }));
    });
    const parts = [`${this.spec.title}, ${span(first, last)}`];
    if (points.length) {
      const low = points.reduce((one, other) => (other.value < one.value ? other : one));
      const high = points.reduce((one, other) => (other.value > one.value ? other : one));
      parts.push(`at the end ${this.describe(last)}`, `lowest ${short(low.value)} at update ${low.update}`, `highest ${short(high.value)} at update ${high.update}`);
    }
    const level = this.section.querySelector(".chart-head .level"), bad = this.section.querySelector(".nonfinite");
    if (level) parts.push(level.textContent);
    if (bad) parts.push(bad.textContent);
    const own = this.page.alerts.filter((alert) => alert.drawn && alert.chart === this.spec.id), lasting = own.filter((alert) => alert.lasts);
    if (own.length) parts.push(`${own.length} alert${own.length > 1 ? "s" : ""}`);
    if (lasting.length) parts.push(`${lasting.length} ongoing, since update ${Math.min(...lasting.map((alert) => alert.since))}`);
    return parts.join("; ");
  }

  /** Return the updates and values of a line without its breaks. */
  known(/** @type {Line} */ line) {
    return (line.known ??= measured([line.updates, line.values]));
  }

  read() {
    const { left } = this.plot.cursor;
    if (left === null || left === undefined || left < 0) return;
    this.page.at = Math.min(Math.max(this.page.rounded(this.page.axis.update(this.plot.posToVal(left, "x"))), this.page.first), this.page.last);
    this.readout.textContent = this.describe(this.page.at);
  }

  /** Move the cursor of every chart to an update. */
  point(/** @type {number} */ update) {
    this.moveCursor(this.plot.valToPos(this.page.axis.place(update), "x"));
  }

  /** Move the cursor of every chart to so many pixels from the left of the plot. */
  moveCursor(/** @type {number} */ left) {
    const move = /** @type {(to: { left: number, top: number }, fires: boolean, isPublished: boolean) => void} */ (this.plot.setCursor); // the library's types lack the last
    move({ left, top: this.plot.over.clientHeight / 2 }, true, true);
  }

  /** Return the next update, in a direction, with a value or the end of a range that is not finite. */
  step(/** @type {number} */ update, /** @type {number} */ direction) {
    const all = this.stops();
    const at = nearest(all, update);
    if (direction > 0) return all[Math.min(all[at] > update ? at : at + 1, all.length - 1)];
    return all[Math.max(all[at] < update ? at : at - 1, 0)];
  }

  stops() {
    if (!this.everyStop) {
      /** @type {Set<number>} */
      const found = new Set();
      for (const line of this.lines) {
        for (const update of line.updates) found.add(update);
        for (const [first, last] of line.nonfinite) found.add(first).add(last);
      }
      this.everyStop = [...found].sort((a, b) => a - b);
    }
    return this.everyStop;
  }
}

/** Put tables together: one column of all places, and the column of values of each. */
function joined(/** @type {Table[]} */ tables) {
  const [places, ...columns] = tables.length === 1 ? tables[0] : uPlot.join(/** @type {uPlot.AlignedData[]} */ (tables), tables.map(() => [0, 2]));
  return /** @type {[number[], ...Column[]]} */ ([Array.from(places), ...columns.map((column) => Array.from(column))]);
}

/** Return the places and values of a table where it has values. @returns {[places: number[], values: number[]]} */
function measured(/** @type {Table} */ [places, values]) {
  /** @type {[number[], number[]]} */
  const found = [[], []];
  values.forEach((value, at) => {
    if (typeof value !== "number") return;
    found[0].push(places[at]);
    found[1].push(value);
  });
  return found;
}
