// The console: asks for the vectors that the form describes, and shows what they say.

import { wireAccess, wantKey, accepted } from "./access.js";
import { askJson, base, key } from "./api.js";
import { LANGUAGES, bodies, reference } from "./calls.js";
import { byId, copyButton, counted, element, wireTabs } from "./dom.js";
import { Notice } from "./failures.js";
import { LiveFigures } from "./figures.js";
import * as form from "./form.js";
import { VectorMap } from "./map.js";
import { kendall, kept, ranked } from "./ranking.js";
import { Ranking } from "./results.js";
import { TokenView } from "./tokens.js";

const EMBEDDINGS = "v1/embeddings";
const TYPING_MS = 350;
const MOST_COUNTED = 256;
const COUNTED_AT_ONCE = 8;

const notice = new Notice(byId("failure"), () => begin());
const live = new LiveFigures(byId("figures"));
const map = new VectorMap(byId("panel-map"), (index) => list.choose(index));
const tokens = new TokenView(byId("panel-tokens"), (index) => list.choose(index));
const list = new Ranking(byId("ranking"), (index) => {
  map.choose(index);
  tokens.show(index + 1);
});
let running = new AbortController();
let hasRun = false;
let typing = 0;

/** Connect to the server, and rank again where there was a ranking or an attempt at one. */
async function begin() {
  notice.clear();
  try {
    await form.loadModels();
  } catch (error) {
    live.stop();
    told(error);
    return;
  }
  accepted();
  live.watch(form.modelNames(), byId("model").value);
  showCode();
  if (hasRun) await run();
}

function told(error, about = {}) {
  if (error.status === 401) {
    live.stop();
    wantKey(error.message);
  } else notice.tell(error, { ...about, cut: cutAfter });
}

/** Rank what the form says. */
async function run({ quietly = false } = {}) {
  const settings = form.settings({ quietly });
  if (settings === null) return;
  hasRun = true;
  running.abort();
  running = new AbortController();
  const { signal } = running;
  busy(true);
  try {
    const started = performance.now();
    const now = await vectors(settings, signal);
    const milliseconds = performance.now() - started;
    const [before, cut] = await Promise.all([
      comparison(settings, signal),
      cutOnes(settings, now, signal),
    ]);
    notice.clear();
    show(settings, now, before, cut, milliseconds);
  } catch (error) {
    if (error.name === "AbortError") return; // another run has begun
    byId("summary").textContent = list.isEmpty
      ? "Nothing was ranked."
      : "The ranking below is the one before.";
    told(error, { part: error.part });
  }
  busy(false);
}

/** Of the query and the documents, with how many inputs were cut. */
async function vectors(settings, signal) {
  const sent = bodies(settings);
  const parts = ["query", "documents"].map(async (part) => {
    try {
      const { json, headers } = await askJson(EMBEDDINGS, { body: sent[part], signal });
      return {
        rows: json.data.map((item) => item.embedding),
        usage: json.usage.prompt_tokens,
        cut: Number(headers.get("x-hexgrid-truncated") ?? 0),
      };
    } catch (error) {
      throw Object.assign(error, { part });
    }
  });
  const [query, documents] = await Promise.all(parts);
  return {
    query: query.rows[0],
    documents: documents.rows,
    numCut: [query.cut, documents.cut],
    tokens: query.usage + documents.usage,
  };
}

/** The ranking at full width and without a cut; null where that is what was asked for. */
async function comparison(settings, signal) {
  if (settings.dimensions === null && settings.truncate === null) return null;
  const whole = reference(settings);
  try {
    const { query, documents } = await vectors(whole, signal);
    return { ...ranked(query, documents), what: "full width, nothing cut" };
  } catch (error) {
    // A text may be too long to be computed whole; what it is compared with is cut likewise, then.
    if (error.status !== 400 || settings.truncate === null) throw error;
    if (settings.dimensions === null) return null;
    const { query, documents } = await vectors({ ...settings, dimensions: null }, signal);
    return { ...ranked(query, documents), what: "full width, cut likewise" };
  }
}

/**
 * Which documents were cut; null where that is not found out. The answer says how many, so that
 * tokens are counted only where a doubt is left, and only of texts that have bytes enough: no token
 * has less than one.
 */
async function cutOnes({ model, documents, truncate }, { numCut }, signal) {
  const count = numCut[1];
  if (count === 0 || count === documents.length) return documents.map(() => count > 0);
  const bytes = documents.map((document) => new TextEncoder().encode(document).length);
  const doubtful = documents
    .map((_, index) => index)
    .filter((index) => bytes[index] + 1 > truncate);
  if (doubtful.length > MOST_COUNTED) return null;
  const cut = documents.map(() => false);
  try {
    for (let i = 0; i < doubtful.length; i += COUNTED_AT_ONCE) {
      const some = doubtful.slice(i, i + COUNTED_AT_ONCE).map(async (index) => {
        const { json } = await askJson("tokenize", {
          body: { model, prompt: documents[index] },
          signal,
        });
        cut[index] = json.count > truncate;
      });
      await Promise.all(some);
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return null; // the ranking is there all the same
  }
  return cut;
}

function show(settings, now, before, cut, milliseconds) {
  const order = ranked(now.query, now.documents);
  map.draw(now.query, now.documents, settings.documents, order);
  tokens.update(settings);
  list.draw(settings.documents, order, before, cut ?? []);
  byId("summary").replaceChildren(...summary(settings, now, order, before, milliseconds));
  if (cut === null)
    byId("summary").append(
      element(
        "span",
        { class: "against" },
        "Which documents were cut is not shown: their tokens were not counted.",
      ),
    );
  showCode();
}

function summary(settings, now, order, before, milliseconds) {
  const width = now.query.length;
  const parts = [
    element("span", {}, `${counted(settings.documents.length, "document")} ranked`),
    element("span", {}, counted(width, "dimension")),
    element("span", {}, counted(now.tokens, "token")),
    element("span", {}, `${milliseconds.toFixed(0)} ms`),
  ];
  const [query, documents] = now.numCut;
  if (query) parts.push(element("span", { class: "cut" }, "query cut"));
  if (documents)
    parts.push(element("span", { class: "cut" }, `${counted(documents, "document")} cut`));
  if (before) {
    const top = Math.min(3, settings.documents.length);
    const tau = kendall(before.ranks, order.ranks).toFixed(2).replace("-", "\u2212");
    parts.push(
      element(
        "span",
        { class: "against" },
        `against ${before.what}: Kendall \u03c4 ${tau}, ${kept(before, order, top)} of the top ${top} kept`,
      ),
    );
  }
  return parts;
}

function busy(is) {
  byId("results").setAttribute("aria-busy", String(is));
  byId("run").textContent = is ? "Ranking\u2026" : "Rank";
}

function cutAfter(limit) {
  byId("truncate").value = String(limit);
  run();
}

const language = element(
  "select",
  { id: "language", change: showCode },
  ...Object.keys(LANGUAGES).map((name) => element("option", {}, name)),
);
const code = element("pre", { class: "code", tabindex: "0", "aria-label": "Code of these calls" });

/** The code of what would be sent now. */
function showCode() {
  const settings = form.settings({ quietly: true });
  code.textContent = settings
    ? LANGUAGES[language.value](bodies(settings), base(), key.get() !== "")
    : "Write a query and a document first.";
}

function wire() {
  byId("panel-code").append(
    element(
      "div",
      { class: "split" },
      element("label", { for: "language" }, "Language"),
      language,
      copyButton(() => code.textContent),
    ),
    code,
  );
  wireTabs(document.querySelector("[role=tablist]"), (id) => (tokens.isOpen = id === "tab-tokens"));
  wireAccess(begin);
  const ask = byId("ask");
  ask.addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
  ask.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      ask.requestSubmit();
    }
  });
  ask.addEventListener("input", () => {
    form.showCount();
    form.markPreset();
    showCode();
  });
  ask.addEventListener("change", changed);
  // A number that is being written: what it makes of the ranking is seen at once.
  for (const id of ["dimensions", "truncate"]) {
    byId(id).addEventListener("input", () => {
      clearTimeout(typing);
      if (hasRun) typing = setTimeout(() => run({ quietly: true }), TYPING_MS);
    });
  }
}

function changed({ target }) {
  if (target.id === "model") {
    form.showModel();
    live.watch(form.modelNames(), target.value);
  }
  form.showInstruction();
  form.showCount();
  form.markPreset();
  showCode();
  if (!hasRun || ["query", "documents", "instruction"].includes(target.id)) return;
  clearTimeout(typing);
  run({ quietly: true });
}

wire();
form.showInstruction();
form.showCount();
begin();
