"use strict";
// The data of the page: how to unpack it and how to search sorted updates and ranges.

/** Unpack the data of the page: JSON, deflated, in Base64. */
async function unpack() {
  const packed = Uint8Array.from(atob(document.getElementById("data").textContent), (char) => char.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

/** Undo `coded`: return numbers from the differences between neighbours. */
function sums(differences) {
  let total = 0;
  return differences.map((difference) => (total += difference));
}

/** Undo `coded_ranges`: return [first, last, kind] from a flat list with `size` numbers for each range. */
function ranges(numbers, size) {
  const found = [];
  for (let at = 0, end = 0; at < numbers.length; at += size) {
    const first = end + numbers[at];
    end = first + numbers[at + 1];
    found.push([first, end, size > 2 ? numbers[at + 2] : null]);
  }
  return found;
}

/** Return the position of the first range that ends at or after `update`. */
function firstRange(list, update) {
  let low = 0, high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle][1] < update) low = middle + 1; else high = middle;
  }
  return low;
}

/** Return the position of the value in the sorted list that is nearest to `update`. */
function nearest(list, update) {
  let low = 0, high = list.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle] < update) low = middle + 1; else high = middle;
  }
  return low > 0 && update - list[low - 1] <= list[low] - update ? low - 1 : low;
}
