"use strict";
// The marks of a chart around its lines: bands of thresholds, alerts, missing updates, values that are not finite.

const KINDS = ["NaN", "+∞", "−∞"];
const LANE = 20; // pixels above the plot for the marks of alerts and of values that are not finite
const NAN = 0, ABOVE = 1;
const SIGNS = { ">": ">", ">=": "≥", "<": "<", "<=": "≤" };

/** Return a colour of the page in its current scheme: light, dark or printed. */
function colour(/** @type {string} */ name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** Whether the page is being printed. */
const isPrinting = () => document.documentElement.classList.contains("printing");

class Marks {
  /** Its chart's plot, lines, alerts, bands and page are read at each call. */
  constructor(/** @type {Chart} */ chart) {
    this.chart = chart;
  }

  get plot() {
    return /** @type {uPlot} */ (this.chart.plot);
  }

  /** Return the position of an update, in pixels of the canvas. */
  across(/** @type {number} */ update) {
    return this.plot.valToPos(this.chart.page.axis.place(update), "x", true);
  }

  /** Draw a dotted line where the run was resumed. */
  drawAttempts() {
    const { ctx, bbox } = this.plot, ratio = devicePixelRatio;
    const [min, max] = this.chart.page.range();
    ctx.font = `${11 * ratio}px system-ui, sans-serif`;
    ctx.lineWidth = 1.5 * ratio;
    ctx.strokeStyle = colour("soft");
    for (const [, update] of this.chart.page.attempts) {
      if (update <= min || update > max) continue;
      const at = this.across(update - 0.5);
      ctx.setLineDash([2 * ratio, 3 * ratio]);
      ctx.beginPath();
      ctx.moveTo(at, bbox.top);
      ctx.lineTo(at, bbox.top + bbox.height);
      ctx.stroke();
      ctx.setLineDash([]);
      const isRight = at < bbox.left + 0.8 * bbox.width;
      this.write("resumed", at + (isRight ? 4 : -4) * ratio, bbox.top + 9 * ratio, isRight ? "left" : "right", colour("soft"));
      ctx.lineWidth = 1.5 * ratio;
      ctx.strokeStyle = colour("soft");
    }
  }

  /** Draw what lies under the lines: missing updates, bands of warning and critical, a line at each bound. */
  drawBands() {
    const { ctx, bbox } = this.plot;
    this.drawRanges(this.chart.page.missing, colour("band-gap"), null);
    const { min, max } = this.plot.scales.y;
    if (typeof min !== "number" || typeof max !== "number") return;
    const where = (/** @type {number} */ value) => this.plot.valToPos(Math.min(Math.max(value, min), max), "y", true);
    ctx.save();
    for (const [level, comparison, bound] of this.chart.spec.bands) {
      const isUpper = comparison[0] === ">";
      if (isUpper ? bound >= max : bound <= min) continue;
      const worse = this.chart.spec.bands.find(([other, sign]) => level === "warning" && other === "critical" && sign[0] === comparison[0]);
      const from = where(bound);
      const to = where(worse ? worse[2] : isUpper ? max : min);
      ctx.fillStyle = colour(`band-${level}`);
      ctx.fillRect(bbox.left, Math.min(from, to), bbox.width, Math.abs(to - from));
      if (bound < min || bound > max) continue;
      ctx.strokeStyle = colour(level);
      ctx.setLineDash(level === "critical" ? [] : [5 * devicePixelRatio, 4 * devicePixelRatio]);
      ctx.lineWidth = devicePixelRatio;
      ctx.beginPath();
      ctx.moveTo(bbox.left, from);
      ctx.lineTo(bbox.left + bbox.width, from);
      ctx.stroke();
    }
    ctx.restore();
  }

  /** Label each bound in view on its bad side; labels of close bounds go side by side. */
  drawBounds() {
    const { ctx, bbox } = this.plot, ratio = devicePixelRatio;
    const { min, max } = this.plot.scales.y;
    if (typeof min !== "number" || typeof max !== "number") return;
    /** @type {{ height: number, left: number }[]} */
    const placed = [];
    for (const [level, comparison, bound] of this.chart.spec.bands) {
      if (bound < min || bound > max) continue;
      const edge = this.plot.valToPos(comparison[0] === ">" ? max : min, "y", true);
      if (Math.abs(this.plot.valToPos(bound, "y", true) - edge) < 4 * ratio) continue; // its bad side is out of view
      const text = `${level} ${SIGNS[comparison]} ${bound}`;
      const below = this.plot.valToPos(bound, "y", true) + (comparison[0] === ">" ? -9 : 9) * ratio;
      const height = Math.min(Math.max(below, bbox.top + 7 * ratio), bbox.top + bbox.height - 7 * ratio);
      ctx.font = `${11 * ratio}px system-ui, sans-serif`;
      let right = bbox.left + bbox.width - 4 * ratio;
      const width = ctx.measureText(text).width;
      for (const other of placed) if (Math.abs(other.height - height) < 13 * ratio) right = Math.min(right, other.left - 10 * ratio);
      if (right - width < bbox.left + 0.4 * bbox.width) continue; // no room; the text below the chart names it, too
      placed.push({ height, left: right - width });
      this.write(text, right, height, "right", colour(level));
    }
  }

  /** Write text on the plot with an outline, so that it is legible on any background. */
  write(/** @type {string} */ text, /** @type {number} */ left, /** @type {number} */ top, /** @type {CanvasTextAlign} */ align, /** @type {string} */ fill) {
    const { ctx } = this.plot;
    ctx.textAlign = align;
    ctx.textBaseline = "middle";
    ctx.lineJoin = "round";
    ctx.lineWidth = 4 * devicePixelRatio;
    ctx.strokeStyle = colour("card");
    ctx.strokeText(text, left, top);
    ctx.fillStyle = fill;
    ctx.fillText(text, left, top);
  }

  /** Draw everything that lies over the lines. */
  drawMarks() {
    const { ctx, bbox } = this.plot;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left - 8 * devicePixelRatio, 0, bbox.width + 16 * devicePixelRatio, bbox.top + bbox.height);
    ctx.clip();
    this.drawAttempts();
    for (const line of this.chart.lines) this.drawRanges(line.nonfinite, colour("band-critical"), colour("critical"));
    this.drawBounds();
    this.drawAlerts();
    ctx.restore();
  }

  /** Draw missing updates (grey) or values that are not finite (red, hatched, labelled), at least a pixel wide. */
  drawRanges(/** @type {Span[]} */ list, /** @type {string} */ fill, /** @type {string | null} */ sign) {
    const { ctx, bbox } = this.plot, ratio = devicePixelRatio;
    const [min, max] = this.chart.page.range();
    const named = KINDS.map(() => -Infinity);
    let done = -Infinity;
    for (let at = firstRange(list, min); at < list.length && list[at][0] <= max; at++) {
      const [first, last, kind] = list[at];
      const left = Math.max(bbox.left, this.across(first - 0.5));
      const right = Math.min(bbox.left + bbox.width, this.across(last + 0.5));
      if (right <= done) continue; // on the same pixel as the one before
      const from = Math.max(left, done), width = Math.max(right - from, 1.5 * ratio);
      done = from + width;
      ctx.fillStyle = fill;
      ctx.fillRect(from, bbox.top, width, bbox.height);
      if (!sign && width > 70 * ratio) {
        ctx.font = `${11 * ratio}px system-ui, sans-serif`;
        this.write("missing", from + width / 2, bbox.top + bbox.height - 9 * ratio, "center", colour("soft"));
      }
      if (!sign) continue;
      this.hatch(from, width, sign);
      const middle = (from + Math.min(done, bbox.left + bbox.width)) / 2;
      if (middle - named[kind] < 60 * ratio) continue;
      named[kind] = middle;
      const edge = 16 * ratio, half = bbox.height / 2;
      const height = bbox.top + half - (kind === NAN ? 0 : (half - 9 * ratio) * (kind === ABOVE ? 1 : -1));
      ctx.font = `bold ${12 * ratio}px system-ui, sans-serif`;
      this.write(KINDS[kind], Math.min(Math.max(middle, bbox.left + edge), bbox.left + bbox.width - edge), height, "center", sign);
    }
  }

  hatch(/** @type {number} */ left, /** @type {number} */ width, /** @type {string} */ stroke) {
    const { ctx, bbox } = this.plot, ratio = devicePixelRatio;
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, bbox.top, width, bbox.height);
    ctx.clip();
    ctx.strokeStyle = stroke;
    ctx.globalAlpha = 0.35;
    ctx.lineWidth = ratio;
    ctx.beginPath();
    if (width < 6 * ratio) {
      ctx.globalAlpha = 0.9;
      ctx.moveTo(left + width / 2, bbox.top);
      ctx.lineTo(left + width / 2, bbox.top + bbox.height);
    } else {
      for (let at = left - bbox.height; at < left + width; at += 9 * ratio) {
        ctx.moveTo(at, bbox.top + bbox.height);
        ctx.lineTo(at + bbox.height, bbox.top);
      }
    }
    ctx.stroke();
    ctx.restore();
  }

  /** Draw each alert above the plot: a bar as long as it lasted, and a shape where it was raised. */
  drawAlerts() {
    const { ctx, bbox } = this.plot, ratio = devicePixelRatio;
    const [min, max] = this.chart.page.range();
    const severity = (/** @type {AlertSpec} */ alert) => Number(alert.level === "critical");
    for (const alert of [...this.chart.alerts].sort((a, b) => severity(a) - severity(b))) {
      const until = alert.until ?? max;
      if (until < min || alert.since > max) continue;
      const place = (/** @type {number} */ update) => this.across(Math.min(Math.max(update, min), max));
      const height = bbox.top - (alert.level === "critical" ? 15 : 5) * ratio;
      ctx.fillStyle = ctx.strokeStyle = colour(alert.level);
      ctx.fillRect(place(alert.since), height - ratio, Math.max(place(until) - place(alert.since), 2 * ratio), 2 * ratio);
      if (alert.update < min || alert.update > max) continue;
      const at = place(alert.update), size = 5 * ratio;
      ctx.beginPath();
      const corners = alert.level === "critical" ? 8 : 3;
      const turn = alert.level === "critical" ? Math.PI / 8 : -Math.PI / 2;
      for (let corner = 0; corner < corners; corner++) {
        const angle = turn + (2 * Math.PI * corner) / corners;
        ctx.lineTo(at + size * Math.cos(angle), height + size * Math.sin(angle));
      }
      ctx.fill();
    }
  }
}
