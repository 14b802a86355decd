"use strict";
// The horizontal axis of the charts (updates, environment steps or time), and the smoothing of lines.

const STEPS = [1, 2, 5].flatMap((n) => [...Array(16).keys()].map((e) => n * 10 ** e)).sort((a, b) => a - b);
const HOUR = 3600, DAY = 24 * HOUR;
const PERIODS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 5 * DAY, 10 * DAY, 50 * DAY, 100 * DAY];

/** Interpolate linearly between the points (from, to), `from` ascending, and extrapolate beyond both ends. */
function between(/** @type {number[]} */ from, /** @type {number[]} */ to, /** @type {number} */ at) {
  let low = 0, high = from.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (from[middle] <= at) low = middle; else high = middle;
  }
  const length = from[high] - from[low];
  return length > 0 ? to[low] + ((at - from[low]) / length) * (to[high] - to[low]) : to[low];
}

/** The axis of updates, or another one, with the places of updates on it in its own unit. */
class Axis {
  constructor(/** @type {AxisSpec | null} */ spec) {
    this.name = spec ? spec.name : "";
    this.points = spec ? { updates: sums(spec.updates), values: spec.values } : null;
  }

  place(/** @type {number} */ update) {
    return this.points ? between(this.points.updates, this.points.values, update) : update;
  }

  update(/** @type {number} */ place) {
    return this.points ? between(this.points.values, this.points.updates, place) : place;
  }

  get steps() {
    return this.name === "seconds" ? PERIODS : STEPS;
  }

  /** Format a place for its label below the chart, given the distance to the next label. */
  tick(/** @type {number} */ value, /** @type {number} */ distance) {
    if (this.name === "") return value.toLocaleString("en").replaceAll(",", "\u202f");
    if (this.name === "seconds") {
      if (value === 0) return "0";
      if (distance < 60) return `${+value.toFixed(3)} s`;
      if (distance < HOUR) return `${Math.round(value / 6) / 10} min`;
      return distance < DAY ? `${Math.round(value / 360) / 10} h` : `${Math.round(value / 8640) / 10} d`;
    }
    if (Math.abs(value) >= 1e9) return `${+(value / 1e9).toPrecision(6)}G`;
    if (Math.abs(value) >= 1e6) return `${+(value / 1e6).toPrecision(6)}M`;
    return Math.abs(value) >= 1e4 ? `${+(value / 1e3).toPrecision(6)}k` : String(value);
  }
}

/** Exponential moving average with the bias to 0 removed, as in TensorBoard; `weight` is that of the past. Keeps null. */
function smooth(/** @type {Column} */ values, /** @type {number} */ weight) {
  let mean = 0, share = 0;
  return values.map((value) => {
    if (value === null || value === undefined) return value;
    mean = weight * mean + (1 - weight) * value;
    share = weight * share + (1 - weight);
    return mean / share;
  });
}
