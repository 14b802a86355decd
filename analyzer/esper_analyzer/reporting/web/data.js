"use strict";
// The data of the page: how to unpack it, to search sorted updates and ranges, and to find the elements of the page.

/** Unpack the data of the page: JSON, deflated, in Base64. */
async function unpack() {
  const packed = Uint8Array.from(atob(the("#data", HTMLElement).textContent), (char) => char.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

/**
 * Return the first element that a selector finds. The templates have one; it is an error if they have none.
 * @template {Element} T
 * @param {string} selector
 * @param {new () => T} kind
 * @param {ParentNode} within
 */
function the(selector, kind, within = document) {
  const found = within.querySelector(selector);
  if (found instanceof kind) return found;
  throw new Error(`the page has no ${selector}`);
}

/**
 * Return every element of this kind that a selector finds.
 * @template {Element} T
 * @param {string} selector
 * @param {new () => T} kind
 * @param {ParentNode} within
 */
function every(selector, kind, within = document) {
  return /** @type {T[]} */ ([...within.querySelectorAll(selector)].filter((found) => found instanceof kind));
}

/** Undo `coded`: return numbers from the differences between neighbours. */
function sums(/** @type {number[]} */ differences) {
  let total = 0;
  return differences.map((difference) => (total += difference));
}

/** Undo `coded_ranges`: return [first, last, kind] from a flat list with `size` numbers for each range. */
function ranges(/** @type {number[]} */ numbers, /** @type {2 | 3} */ size) {
  /** @type {Span[]} */
  const found = [];
  for (let at = 0, end = 0; at < numbers.length; at += size) {
    const first = end + numbers[at];
    end = first + numbers[at + 1];
    found.push([first, end, size > 2 ? numbers[at + 2] : NAN]);
  }
  return found;
}

/** Return the position of the first range that ends at or after `update`. */
function firstRange(/** @type {Span[]} */ list, /** @type {number} */ update) {
  let low = 0, high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle][1] < update) low = middle + 1; else high = middle;
  }
  return low;
}

/** Return the position of the value in the sorted list that is nearest to `update`. */
function nearest(/** @type {number[]} */ list, /** @type {number} */ update) {
  let low = 0, high = list.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle] < update) low = middle + 1; else high = middle;
  }
  return low > 0 && update - list[low - 1] <= list[low] - update ? low - 1 : low;
}

/** Return a number as people read it: five digits, or all of a large number before the point. Tables have every digit. */
function short(/** @type {number} */ value) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e9)) return value.toExponential(4).replace(/\.?0*e\+?/, "e");
  return String(size >= 1e4 ? Math.round(value) : Number(value.toPrecision(5)));
}

/** Write positions compactly for the address: 0, 1, 2, 5 becomes "0-2.5". */
function positions(/** @type {Iterable<number>} */ numbers) {
  /** @type {[number, number][]} */
  const runs = [];
  for (const number of [...numbers].sort((a, b) => a - b)) {
    const before = runs[runs.length - 1];
    if (before && before[1] === number - 1) before[1] = number; else runs.push([number, number]);
  }
  return runs.map(([first, last]) => (first === last ? first : `${first}-${last}`)).join(".");
}

/** Undo `positions`, for positions below `count`. What is not one is left out. */
function positionsIn(/** @type {string} */ text, /** @type {number} */ count) {
  /** @type {Set<number>} */
  const found = new Set();
  for (const part of text.split(".")) {
    const [, first, last] = /^(\d{1,6})(?:-(\d{1,6}))?$/.exec(part) ?? [];
    if (first === undefined) continue;
    for (let at = Number(first); at <= Math.min(Number(last ?? first), count - 1); at++) found.add(at);
  }
  return found;
}
