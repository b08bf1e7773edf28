// /metrics -> the figures that are shown: the arithmetic of `hexgrid top`. Plain data, no page.

const SAMPLE = /^(\w+)(?:\{(.*)\})? (\S+)$/;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** An answer of /metrics at a moment in seconds; samples of other servers' pages simply do not match. */
export function parsed(text, at) {
  const samples = new Map();
  for (const line of text.split("\n")) {
    const found = SAMPLE.exec(line);
    if (line.startsWith("#") || !found) continue;
    const labels = {};
    for (const [, name, value] of (found[2] ?? "").matchAll(LABEL)) labels[name] = unescaped(value);
    if (!samples.has(found[1])) samples.set(found[1], []);
    samples.get(found[1]).push({ labels, value: Number(found[3]) });
  }
  return { at, samples };
}

const unescaped = (value) =>
  value.replace(/\\(.)/g, (_, letter) => (letter === "n" ? "\n" : letter));

/** The sum of a metric's samples that have these labels; null where there are none. */
export function total(reading, name, labels = {}) {
  const wanted = Object.entries(labels);
  const values = (reading.samples.get(`hexgrid_${name}`) ?? [])
    .filter((sample) => wanted.every(([label, value]) => sample.labels[label] === value))
    .map((sample) => sample.value);
  return values.length ? values.reduce((sum, value) => sum + value, 0) : null;
}

/** By how much a counter grew; one that fell belongs to a server that was started anew. */
function increase(before, after, name, labels) {
  const now = total(after, name, labels) ?? 0;
  const then = total(before, name, labels) ?? 0;
  return now >= then ? now - then : now;
}

export const rate = (before, after, name, labels) =>
  after.at > before.at ? increase(before, after, name, labels) / (after.at - before.at) : 0;

/** What /metrics calls the model of a served name; null where the two cannot be brought together. */
export function metricName(reading, names, chosen) {
  const known = (reading.samples.get("hexgrid_queue_tokens") ?? []).map((s) => s.labels.model_name);
  // Aliases follow the name that is measured: /v1/models lists the names of a model one after another.
  const place = names.indexOf(chosen);
  for (let i = place; i >= 0; i--) if (known.includes(names[i])) return names[i];
  return known.length === 1 ? known[0] : null;
}

/** The figures of a model: what is so at the second reading, and what happened since the first. */
export function figures(before, after, model) {
  const of = { model_name: model };
  const grown = (name, labels = of) => increase(before, after, name, labels);
  const hits = grown("result_cache_hits_total");
  const asked = hits + grown("result_cache_misses_total") + grown("joined_inputs_total");
  const answered = grown("request_duration_seconds_count");
  return {
    ready: total(after, "model_ready", of) === 1,
    queueInputs: total(after, "queue_sequences", of),
    queueTokens: total(after, "queue_tokens", of),
    queueMost: total(after, "queue_max_tokens", of),
    inFlight: total(after, "http_requests_in_flight"),
    requestsPerSecond: rate(before, after, "request_duration_seconds_count", of),
    cacheShare: asked ? hits / asked : null,
    meanMilliseconds: answered ? (1000 * grown("request_duration_seconds_sum")) / answered : null,
  };
}
