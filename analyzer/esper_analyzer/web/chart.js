"use strict";
// One chart: a metric's lines, its scales, its cursor, and the table in its place.

const say = (value) => (value === null || value === undefined ? "—" : String(value));
const span = (first, last) => (first === last ? `update ${first}` : `updates ${first} to ${last}`);

class Chart {
  /**
   * @param section element with a plot, a readout and a log button
   * @param spec what the data says of this chart
   * @param page who holds what all charts share: view, missing, alerts
   */
  constructor(section, spec, page) {
    this.section = section;
    this.marks = new Marks(this);
    this.spec = spec;
    this.page = page;
    this.box = section.querySelector(".plot");
    this.readout = section.querySelector(".readout");
    this.lines = spec.lines.map((line) => ({
      rank: line.rank,
      updates: sums(line.updates),
      values: line.values,
      nonfinite: ranges(line.nonfinite, 3),
      stretches: sums(line.stretches),
      means: line.means,
    }));
    this.data = this.join();
    this.alerts = page.alerts.filter((alert) => spec.main || alert.chart === spec.id);
    const finite = this.lines.flatMap((line) => line.values.filter((value) => value !== null));
    const extremes = finite.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
    this.smallest = finite.length ? extremes[0] : null;
    const largest = Math.max(Math.abs(extremes[0]), Math.abs(extremes[1]));
    this.isLog = (this.smallest > 0 && (spec.log || extremes[1] > 30 * spec.median)) || (finite.length > 0 && largest > 1e100);
    this.isEmpty = !finite.length;
    const sizes = finite.map(Math.abs).filter((size) => size > 0).sort((a, b) => a - b);
    this.linearUpTo = sizes.length ? Math.max(sizes[sizes.length >> 4], largest * 1e-12) : 1; // of a symmetric log scale
    this.prepare();
    this.draw();
  }

  /** One column of updates and one of values for each line; an update that a line lacks does not break it. */
  join() {
    const points = this.lines.map((line) => this.complete(line));
    if (this.page.width > 1) points.push(...this.lines.map((line) => this.means(line)));
    if (points.length === 1) return points[0];
    return uPlot.join(points, points.map(() => [0, 2])).map((column) => Array.from(column));
  }

  /** A line's points, with one at each end of the run, so that the axis covers all of it. */
  complete(line) {
    const updates = line.updates.slice(), values = line.values.slice();
    if (updates[0] !== this.page.first) { updates.unshift(this.page.first); values.unshift(null); }
    if (updates[updates.length - 1] !== this.page.last) { updates.push(this.page.last); values.push(null); }
    return [updates, values];
  }

  /** The mean of each stretch, at its middle; the line breaks where stretches hold no value. */
  means(line) {
    const updates = [], values = [];
    line.stretches.forEach((stretch, at) => {
      const middle = this.page.first + Math.floor((stretch + 0.5) * this.page.width);
      if (at > 0 && stretch > line.stretches[at - 1] + 1) {
        updates.push(middle - this.page.width);
        values.push(null);
      }
      updates.push(Math.min(middle, this.page.last));
      values.push(line.means[at]);
    });
    return [updates, values];
  }

  prepare() {
    const { section, box } = this;
    box.hidden = false;
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-roledescription", "chart");
    box.setAttribute("aria-label", `${this.spec.title}, ${span(this.page.first, this.page.last)}`);
    box.setAttribute("aria-describedby", "help");
    box.addEventListener("keydown", (event) => this.page.key(event, this));
    this.logButton = section.querySelector(".log");
    this.logButton.hidden = this.isEmpty;
    this.logButton.addEventListener("click", () => this.toggleLog());
    this.table = section.querySelector(".values");
    this.table.hidden = false;
    this.table.addEventListener("toggle", () => this.fillTable());
    new ResizeObserver(() => this.resize()).observe(box);
  }

  toggleLog() {
    if (this.isEmpty) return;
    this.isLog = !this.isLog;
    this.draw();
  }

  /** Draw the chart anew: when its scale changes, or the colours of the page do. */
  draw() {
    const left = this.plot ? this.plot.cursor.left : -10;
    if (this.plot) this.plot.destroy();
    this.logButton.setAttribute("aria-pressed", String(this.isLog));
    this.plot = new uPlot(this.options(), this.data, this.box);
    this.plot.root.setAttribute("aria-hidden", "true");
    if (left >= 0) this.plot.setCursor({ left, top: 10 }, false);
  }

  resize() {
    const width = this.box.clientWidth;
    if (width && this.plot && Math.abs(width - this.plot.width) > 1) this.plot.setSize({ width, height: this.height() });
  }

  height() {
    return this.spec.main ? 270 : 190;
  }

  options() {
    const axis = {
      stroke: colour("soft"),
      grid: { stroke: colour("line"), width: 1 },
      ticks: { stroke: colour("line"), width: 1, size: 5 },
      font: "12px system-ui, sans-serif",
    };
    const distribution = !this.isLog ? 1 : this.smallest > 0 ? 3 : 4;
    const widen = {
      1: (low, high) => uPlot.rangeNum(low, high, 0.08, false).map((bound) => (low >= 0 ? Math.max(bound, 0) : bound)),
      3: (low, high) => uPlot.rangeLog(low, high, 10, false),
      4: (low, high) => uPlot.rangeAsinh(low, high, 10, false),
    }[distribution];
    const empty = distribution === 3 ? [0.1, 1] : [0, 1];
    return {
      width: Math.max(this.box.clientWidth, 120),
      height: this.height(),
      padding: [LANE + 4, 12, 0, 0],
      legend: { show: false },
      cursor: {
        drag: { x: true, y: false, dist: 4, setScale: false },
        bind: { dblclick: () => () => this.page.act("all") },
        points: { size: 8, width: 2 },
        dataIdx: (plot, series, index) => this.nearestPoint(series, index),
        sync: {
          key: "updates",
          setSeries: false,
          scales: ["x", null],
          filters: { pub: (type) => type === "mousemove" || type === "mouseleave" },
        },
      },
      scales: {
        x: { time: false, range: () => this.page.range() },
        y: { distr: distribution, asinh: this.linearUpTo, range: (plot, low, high) => (low === null || low === undefined ? empty : widen(low, this.withBound(high)).map((bound, at) => (Number.isFinite(bound) ? bound : [low, high][at]))) }, // near the largest float, widening fails
      },
      axes: [
        { ...axis, size: 28, space: 30 + 8 * String(this.page.last).length, incrs: [1, 2, 5].flatMap((n) => [...Array(16).keys()].map((e) => n * 10 ** e)).sort((a, b) => a - b) },
        { ...axis, size: 62, values: (plot, splits) => splits.map((value) => (value === null ? "" : this.tick(value))) },
      ],
      series: [{}, ...this.lines.map((line, position) => this.series(position)), ...this.meanSeries()],
      hooks: {
        drawClear: [() => this.marks.drawBands()],
        draw: [() => this.marks.drawMarks()],
        setSelect: [() => this.selected()],
        setCursor: [() => this.read()],
      },
    };
  }

  /** The top of the value loss's scale: not far below its first bound, the bound is shown. */
  withBound(high) {
    if (!this.spec.main) return high;
    const above = this.spec.bands.filter(([, comparison, bound]) => comparison[0] === ">" && bound > high && bound < 4 * high);
    return above.length ? 1.05 * Math.min(...above.map((band) => band[2])) : high;
  }

  series(position) {
    const solid = colour(`line-${position % 8}`), stroke = this.page.width > 1 ? `${solid}70` : solid;
    return {
      stroke,
      width: 1.6,
      spanGaps: false,
      points: { show: (plot, index, first, last) => last - first < plot.width / 8, size: 6, stroke, fill: stroke, filter: (plot, index, show) => (show ? null : this.alone(plot, index)) },
    };
  }

  /** Where a line is drawn through extremes, a second one shows the means. */
  meanSeries() {
    if (this.page.width === 1) return [];
    return this.lines.map((line, position) => ({ stroke: colour(`mean-${position % 8}`), width: 1.6, points: { size: 6, show: false, filter: (plot, index) => this.alone(plot, index) } }));
  }

  /** Points with no line on either side of them, which would not be seen. */
  alone(plot, index) {
    const values = plot.data[index], last = values.length - 1;
    const [low, high] = plot.series[0].idxs;
    const found = [];
    const next = (at, step) => {
      for (at += step; at >= 0 && at <= last; at += step) if (values[at] !== undefined) return values[at];
      return null;
    };
    for (let at = low; at <= high; at++) {
      if (values[at] !== null && values[at] !== undefined && next(at, -1) === null && next(at, 1) === null) found.push(at);
    }
    return found.length ? found : null;
  }

  tick(value) {
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential().replace("e+", "e");
    return String(+value.toPrecision(6));
  }

  // ------------------------------------------------------------------ reading values

  /** A stretch was dragged over: it comes into view, in every chart. */
  selected() {
    const { left, width } = this.plot.select;
    if (width < 4) return;
    this.plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.page.look(this.plot.posToVal(left, "x"), this.plot.posToVal(left + width, "x"));
  }

  /** The point of a line that the cursor stands for: the nearest that has a value. */
  nearestPoint(series, index) {
    const values = this.data[series];
    if (series === 0 || (values[index] !== null && values[index] !== undefined)) return index;
    if (values[index] === null) return index;
    for (let step = 1; step < values.length; step++) {
      if (values[index - step] !== undefined) return index - step;
      if (values[index + step] !== undefined) return index + step;
    }
    return index;
  }

  /** What the chart shows at an update, in words and exact. */
  describe(update) {
    const parts = this.lines.map((line) => {
      const named = line.rank === null || this.lines.length === 1 ? "" : `rank ${line.rank}: `;
      const found = line.nonfinite[firstRange(line.nonfinite, update)];
      if (found && found[0] <= update) return `${named}${KINDS[found[2]]} (${span(found[0], found[1])})`;
      const [updates, values] = this.known(line);
      if (!updates.length) return `${named}—`;
      const at = nearest(updates, update);
      const mean = line.stretches.length ? `, mean ${line.means[nearest(line.stretches, Math.floor((update - this.page.first) / this.page.width))]}` : "";
      return `${named}${values[at]} (update ${updates[at]})${mean}`;
    });
    const gap = this.page.missing[firstRange(this.page.missing, update)];
    if (gap && gap[0] <= update) return `${span(gap[0], gap[1])} missing`;
    return parts.join(" · ");
  }

  /** Updates and values of a line, without its breaks. */
  known(line) {
    if (!line.known) {
      const kept = line.values.map((value, at) => at).filter((at) => line.values[at] !== null);
      line.known = [kept.map((at) => line.updates[at]), kept.map((at) => line.values[at])];
    }
    return line.known;
  }

  read() {
    const { left } = this.plot.cursor;
    if (left === null || left === undefined || left < 0) return;
    this.page.at = Math.round(this.plot.posToVal(left, "x"));
    this.readout.textContent = this.describe(this.page.at);
  }

  /** Put the cursor, of every chart, at an update. */
  point(update) {
    const left = this.plot.valToPos(update, "x");
    this.plot.setCursor({ left, top: this.plot.over.clientHeight / 2 }, true, true);
  }

  /** The next update with a point or another value that is not finite, in a direction. */
  step(update, direction) {
    const all = this.stops();
    const at = nearest(all, update);
    if (direction > 0) return all[Math.min(all[at] > update ? at : at + 1, all.length - 1)];
    return all[Math.max(all[at] < update ? at : at - 1, 0)];
  }

  stops() {
    if (!this.everyStop) {
      const found = new Set();
      for (const line of this.lines) {
        for (const update of line.updates) found.add(update);
        for (const [first, last] of line.nonfinite) found.add(first).add(last);
      }
      this.everyStop = [...found].sort((a, b) => a - b);
    }
    return this.everyStop;
  }

  // ------------------------------------------------------------------ the table in place of the picture

  /** The values in view as a table: each of them, or the extremes of up to 100 stretches. */
  fillTable() {
    if (!this.table.open) return;
    const [min, max] = this.page.range();
    const table = document.createElement("table");
    for (const line of this.lines) {
      const named = line.rank === null || this.lines.length === 1 ? "" : `rank ${line.rank}: `;
      const [updates, values] = this.known(line);
      const points = updates.map((update, at) => [update, values[at]]).filter(([update]) => update >= min && update <= max);
      const bad = line.nonfinite.filter(([first, last]) => last >= min && first <= max);
      const size = Math.max(1, Math.ceil(points.length / 100));
      table.append(row("th", [`${named}updates`, size > 1 ? "smallest" : "value", ...(size > 1 ? ["largest"] : [])]));
      const rows = [];
      for (let at = 0; at < points.length; at += size) {
        const part = points.slice(at, at + size), sizes = part.map((point) => point[1]);
        const cells = size > 1 ? [Math.min(...sizes), Math.max(...sizes)] : sizes;
        rows.push([part[0][0], part[part.length - 1][0], cells.map(say)]);
      }
      for (const [first, last, kind] of bad.slice(0, 100)) rows.push([first, last, [KINDS[kind]]]);
      rows.sort((a, b) => a[0] - b[0]);
      for (const [first, last, cells] of rows) table.append(row("td", [first === last ? first : `${first} to ${last}`, ...cells]));
      if (bad.length > 100) table.append(row("td", [`and ${bad.length - 100} more ranges that are not finite`]));
    }
    this.table.querySelector(".scroll").replaceChildren(table);
  }
}

function row(kind, texts) {
  const line = document.createElement("tr");
  texts.forEach((text, column) => {
    const cell = document.createElement(column === 0 ? "th" : kind);
    cell.textContent = text;
    if (kind === "th") cell.scope = "col"; else if (column === 0) cell.scope = "row";
    line.append(cell);
  });
  return line;
}
