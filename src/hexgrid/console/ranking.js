// Vectors -> order, and how one order differs from another. Plain numbers, no page.

/** Vectors have length 1, so this is their cosine. */
export function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

/** For each document its similarity and its rank from 1; equal ones stand in their own order. */
export function ranked(query, documents) {
  const similarities = documents.map((document) => dot(query, document));
  const order = similarities.map((_, index) => index);
  order.sort((a, b) => similarities[b] - similarities[a] || a - b);
  const ranks = [];
  order.forEach((index, place) => (ranks[index] = place + 1));
  return { similarities, ranks, order };
}

/** Kendall's tau between two lists of ranks without ties: 1 is the same order, -1 its reverse. */
export function kendall(before, after) {
  const places = [];
  before.forEach((rank, index) => (places[rank - 1] = after[index]));
  const pairs = (places.length * (places.length - 1)) / 2;
  return pairs === 0 ? 1 : 1 - (2 * inversions(places)) / pairs;
}

/** Pairs that stand in the wrong order, by merging: 2,000 documents have two million pairs. */
function inversions(values) {
  if (values.length < 2) return 0;
  const middle = values.length >> 1;
  const left = values.slice(0, middle);
  const right = values.slice(middle);
  let count = inversions(left) + inversions(right);
  for (let i = 0, j = 0, k = 0; k < values.length; k++) {
    if (j >= right.length || (i < left.length && left[i] <= right[j])) {
      values[k] = left[i++];
    } else {
      count += left.length - i;
      values[k] = right[j++];
    }
  }
  return count;
}

/** How many of the first `count` documents of one order are among the first of another. */
export function kept(before, after, count) {
  const first = new Set(before.order.slice(0, count));
  return after.order.slice(0, count).filter((index) => first.has(index)).length;
}
