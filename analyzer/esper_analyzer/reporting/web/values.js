"use strict";
// The values of a chart as a table and as files to save.

const say = (/** @type {number | null | undefined} */ value) => (value === null || value === undefined ? "—" : String(value));

class Values {
  /** Its chart's lines and page are read at each call. */
  constructor(/** @type {Chart} */ chart) {
    this.chart = chart;
    this.details = the(".values", HTMLDetailsElement, chart.section);
  }

  /** Show the table's disclosure, and listen. */
  start() {
    this.details.hidden = false;
    this.details.addEventListener("toggle", () => this.fill());
    the("[data-save=csv]", HTMLElement, this.details).addEventListener("click", () => this.saveCsv());
    the("[data-save=png]", HTMLElement, this.details).addEventListener("click", () => this.savePicture());
  }

  /** Return the points of a line in view, and its ranges that are not finite. */
  inView(/** @type {Line} */ line) {
    const [min, max] = this.chart.page.range();
    const [updates, values] = this.chart.known(line);
    const points = updates.map((update, at) => ({ update, value: values[at] })).filter(({ update }) => update >= min && update <= max);
    return { points, bad: line.nonfinite.filter(([first, last]) => last >= min && first <= max) };
  }

  /** Fill the table with the values in view: each value, or the extremes of up to 100 stretches. */
  fill() {
    if (!this.details.open) return;
    const table = document.createElement("table");
    for (const line of this.shown()) {
      const name = this.chart.nameOf(line), named = name ? `${name}: ` : "";
      const { points, bad } = this.inView(line);
      const size = Math.max(1, Math.ceil(points.length / 100));
      table.append(row("th", [`${named}${this.chart.page.unitName()}`, size > 1 ? "smallest" : "value", ...(size > 1 ? ["largest"] : [])]));
      /** @type {[first: number, last: number, cells: string[]][]} */
      const rows = [];
      for (let at = 0; at < points.length; at += size) {
        const part = points.slice(at, at + size), sizes = part.map((point) => point.value);
        const cells = size > 1 ? [Math.min(...sizes), Math.max(...sizes)] : sizes;
        rows.push([part[0].update, part[part.length - 1].update, cells.map(say)]);
      }
      for (const [first, last, kind] of bad.slice(0, 100)) rows.push([first, last, [KINDS[kind]]]);
      rows.sort((a, b) => a[0] - b[0]);
      for (const [first, last, cells] of rows) table.append(row("td", [first === last ? String(first) : `${first} to ${last}`, ...cells]));
      if (bad.length > 100) table.append(row("td", [`and ${bad.length - 100} more ranges that are not finite`]));
    }
    the(".scroll", HTMLElement, this.details).replaceChildren(table);
  }

  /** Return the lines that are not hidden. */
  shown() {
    return this.chart.lines.filter((_, position) => !this.chart.isHidden(position));
  }

  /** Return the first line of the CSV file. */
  head() {
    return "rank,first_update,last_update,value";
  }

  /** Return what names a line in the CSV file. */
  key(/** @type {Line} */ line) {
    return String(line.rank ?? "");
  }

  /** Save all values in view exactly, in the order of updates; values that are not finite as ranges. */
  saveCsv() {
    const lines = [this.head()];
    for (const line of this.shown()) {
      const { points, bad } = this.inView(line);
      /** @type {[first: number, last: number, value: number | string][]} */
      const rows = points.map(({ update, value }) => [update, update, Object.is(value, -0) ? "-0" : value]);
      for (const [first, last, kind] of bad) rows.push([first, last, ["NaN", "Infinity", "-Infinity"][kind]]);
      rows.sort((a, b) => a[0] - b[0]);
      for (const cells of rows) lines.push([this.key(line), ...cells].join(","));
    }
    this.save(new Blob([`${lines.join("\n")}\n`], { type: "text/csv" }), "csv");
  }

  /** Save the chart as it is on the screen, with its title. */
  savePicture() {
    const { chart } = this, from = chart.plot.ctx.canvas, ratio = devicePixelRatio, head = 28 * ratio;
    const canvas = Object.assign(document.createElement("canvas"), { width: from.width, height: from.height + head });
    const ctx = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    ctx.fillStyle = colour("card");
    ctx.fillRect(0, 0, canvas.width, canvas.height);
    ctx.fillStyle = colour("ink");
    ctx.font = `bold ${14 * ratio}px system-ui, sans-serif`;
    ctx.textBaseline = "middle";
    ctx.fillText(`${chart.page.run}: ${chart.spec.title}`, 12 * ratio, head / 2 + 2 * ratio, canvas.width - 24 * ratio);
    ctx.drawImage(from, 0, head);
    canvas.toBlob((blob) => blob && this.save(blob, "png"), "image/png");
  }

  save(/** @type {Blob} */ blob, /** @type {string} */ kind) {
    const name = `${this.chart.page.run}-${this.chart.spec.name}`.replace(/[^\w.-]+/g, "_").slice(0, 100);
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: `${name}.${kind}` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }
}

/** Return a row of a table; its first cell is a head. */
function row(/** @type {"th" | "td"} */ kind, /** @type {string[]} */ texts) {
  const line = document.createElement("tr");
  texts.forEach((text, column) => {
    const cell = document.createElement(column === 0 ? "th" : kind);
    cell.textContent = text;
    if (kind === "th") cell.scope = "col"; else if (column === 0) cell.scope = "row";
    line.append(cell);
  });
  return line;
}
