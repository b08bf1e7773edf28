// The two directions in which vectors differ most. Plain numbers, no page.

const MOST_ROUNDS = 200;
const SETTLED = 1e-9;

/**
 * Points [x, y] of each vector on the first two principal components, and the share of the whole
 * variance that each component holds. By orthogonal iteration on X'X, which is never formed: a round
 * costs 8 N D multiplications. The start is fixed, and each component points to where its largest
 * entry is positive, so that the same vectors give the same map.
 */
export function project(vectors) {
  const count = vectors.length;
  const width = vectors[0].length;
  const rows = centred(vectors, count, width);
  const total = rows.reduce((sum, row) => sum + inner(row, row), 0);
  if (total < 1e-12) return { points: rows.map(() => [0, 0]), shares: [0, 0] };
  let axes = orthonormal([start(width, 1), start(width, 2)]);
  for (let round = 0, before = -1; round < MOST_ROUNDS; round++) {
    axes = orthonormal(axes.map((axis) => timesSquare(rows, axis, width)));
    const held = axes.reduce((sum, axis) => sum + variance(rows, axis), 0) / total;
    if (Math.abs(held - before) < SETTLED) break;
    before = held;
  }
  axes = turned(rows, axes);
  return {
    points: rows.map((row) => axes.map((axis) => inner(row, axis))),
    shares: axes.map((axis) => variance(rows, axis) / total),
  };
}

function centred(vectors, count, width) {
  const mean = new Float64Array(width);
  for (const vector of vectors) for (let i = 0; i < width; i++) mean[i] += vector[i] / count;
  return vectors.map((vector) => Float64Array.from(vector, (value, i) => value - mean[i]));
}

function inner(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

const variance = (rows, axis) => rows.reduce((sum, row) => sum + inner(row, axis) ** 2, 0);

/** Numbers without a pattern, the same each time. */
function start(width, seed) {
  return Float64Array.from({ length: width }, (_, i) => Math.sin((i + 1) * 12.9898 * seed));
}

function timesSquare(rows, axis, width) {
  const result = new Float64Array(width);
  for (const row of rows) {
    const along = inner(row, axis);
    for (let i = 0; i < width; i++) result[i] += along * row[i];
  }
  return result;
}

function orthonormal([first, second]) {
  const x = unit(first);
  const along = inner(second, x);
  return [x, unit(second.map((value, i) => value - along * x[i]))];
}

function unit(vector) {
  const length = Math.sqrt(inner(vector, vector));
  return length < 1e-12 ? vector.map(() => 0) : vector.map((value) => value / length);
}

/** Within their plane, turned so that the first axis holds the most, and signed. */
function turned(rows, [first, second]) {
  let [aa, ab, bb] = [0, 0, 0];
  for (const row of rows) {
    const [a, b] = [inner(row, first), inner(row, second)];
    aa += a * a;
    ab += a * b;
    bb += b * b;
  }
  const angle = Math.atan2(2 * ab, aa - bb) / 2;
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  return [
    first.map((value, i) => cos * value + sin * second[i]),
    first.map((value, i) => cos * second[i] - sin * value),
  ].map(signed);
}

function signed(axis) {
  const largest = axis.reduce(
    (best, value) => (Math.abs(value) > Math.abs(best) + 1e-9 ? value : best),
    0,
  );
  return largest < 0 ? axis.map((value) => -value) : axis;
}
