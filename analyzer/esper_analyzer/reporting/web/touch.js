"use strict";
// Touch on a chart: one finger moved sideways reads values, two zoom and pan. Moving up and down scrolls the page.

class Touch {
  constructor(chart) {
    this.chart = chart;
    this.fingers = new Map();
  }

  /** Listen on the plot; each drawing creates a new one. */
  attach(over) {
    this.fingers.clear();
    over.addEventListener("pointerdown", (event) => this.down(event, over));
    over.addEventListener("pointermove", (event) => this.move(event, over));
    for (const type of ["pointerup", "pointercancel"]) over.addEventListener(type, (event) => this.up(event));
  }

  down(event, over) {
    if (event.pointerType !== "touch") return;
    const left = event.clientX - over.getBoundingClientRect().left;
    this.fingers.set(event.pointerId, left);
    this.touched = [...this.fingers.values()].map((at) => this.chart.plot.posToVal(at, "x")); // places that stay under the fingers
  }

  move(event, over) {
    if (!this.fingers.has(event.pointerId)) return;
    this.fingers.set(event.pointerId, event.clientX - over.getBoundingClientRect().left);
    const { page, plot } = this.chart;
    const [left, right] = this.fingers.values();
    if (right === undefined) {
      plot.setCursor({ left: Math.min(Math.max(left, 0), over.clientWidth), top: over.clientHeight / 2 }, true, true);
    } else if (this.fingers.size === 2 && Math.abs(right - left) > 8) {
      const [from, to] = this.touched;
      const scale = (to - from) / (right - left);
      if (scale <= 0) return;
      const begin = from - left * scale;
      page.look(page.axis.update(begin), page.axis.update(begin + over.clientWidth * scale));
    }
  }

  up(event) {
    if (this.fingers.delete(event.pointerId)) this.touched = [];
  }
}
