"use strict";
// Touch on a chart: one finger moved sideways reads values, two zoom and pan. Moving up and down scrolls the page.

class Fingers {
  constructor(/** @type {Chart} */ chart) {
    this.chart = chart;
    /** @type {Map<number, number>} */
    this.fingers = new Map(); // pixels from the left of the plot, by the id of the finger
    /** @type {number[]} */
    this.touched = []; // places on the axis that stay under the fingers
  }

  /** Listen on the plot; each drawing creates a new one. */
  attach(/** @type {HTMLElement} */ over) {
    this.fingers.clear();
    over.addEventListener("pointerdown", (event) => this.down(event, over));
    over.addEventListener("pointermove", (event) => this.move(event, over));
    over.addEventListener("pointerup", (event) => this.up(event));
    over.addEventListener("pointercancel", (event) => this.up(event));
  }

  down(/** @type {PointerEvent} */ event, /** @type {HTMLElement} */ over) {
    if (event.pointerType !== "touch") return;
    const left = event.clientX - over.getBoundingClientRect().left;
    this.fingers.set(event.pointerId, left);
    this.touched = [...this.fingers.values()].map((at) => this.chart.plot.posToVal(at, "x"));
  }

  move(/** @type {PointerEvent} */ event, /** @type {HTMLElement} */ over) {
    if (!this.fingers.has(event.pointerId)) return;
    this.fingers.set(event.pointerId, event.clientX - over.getBoundingClientRect().left);
    const { page } = this.chart;
    const [left, right] = this.fingers.values();
    if (right === undefined) {
      this.chart.moveCursor(Math.min(Math.max(left, 0), over.clientWidth));
    } else if (this.fingers.size === 2 && Math.abs(right - left) > 8) {
      const [from, to] = this.touched;
      const scale = (to - from) / (right - left);
      if (scale <= 0) return;
      const begin = from - left * scale;
      page.look(page.axis.update(begin), page.axis.update(begin + over.clientWidth * scale));
    }
  }

  up(/** @type {PointerEvent} */ event) {
    if (this.fingers.delete(event.pointerId)) this.touched = [];
  }
}
