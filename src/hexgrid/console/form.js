// The form: what it says as settings, and what is wrong with it.

import { askJson } from "./api.js";
import { byId, counted, element, grouped } from "./dom.js";

const PRESETS = [32, 64, 128, 256, 512, 1024];
let models = [];

/** The models that this key may use, into the form. */
export async function loadModels() {
  const { json } = await askJson("v1/models");
  models = json.data;
  const select = byId("model");
  const chosen = select.value;
  select.replaceChildren(...models.map(({ id }) => element("option", { value: id }, id)));
  if (models.some(({ id }) => id === chosen)) select.value = chosen;
  showModel();
}

export const modelNames = () => models.map(({ id }) => id);
export const chosenModel = () => models.find(({ id }) => id === byId("model").value) ?? null;

/** What the chosen model can do, where it matters. */
export function showModel() {
  const model = chosenModel();
  if (!model) {
    byId("model-hint").textContent = "This key opens no model.";
    return;
  }
  const width = model.embedding_dimension;
  byId("model-hint").textContent =
    `${grouped(width)} dimensions, inputs of up to ${counted(model.max_model_len, "token")}`;
  byId("dimensions").max = String(width);
  byId("truncate").max = String(model.max_model_len);
  byId("presets").replaceChildren(
    ...PRESETS.filter((value) => value < width).map((value) => preset(value, String(value))),
    preset("", "full"),
  );
  markPreset();
}

function preset(value, label) {
  return element(
    "button",
    { type: "button", "data-value": String(value), click: () => choose(value) },
    label,
  );
}

function choose(value) {
  const field = byId("dimensions");
  field.value = String(value);
  field.dispatchEvent(new Event("change", { bubbles: true }));
}

/** The preset that the field agrees with is the pressed one. */
export function markPreset() {
  for (const button of byId("presets").children) {
    button.setAttribute("aria-pressed", String(button.dataset.value === byId("dimensions").value));
  }
}

/** The documents as they are parted: empty ones are none. */
export function documents() {
  const blank = document.querySelector("input[name=parted]:checked").value === "blank";
  const text = byId("documents").value.replaceAll("\r\n", "\n");
  return text
    .split(blank ? /\n[ \t]*\n/ : "\n")
    .map((part) => part.trim())
    .filter(Boolean);
}

export function showCount() {
  byId("documents-count").textContent = counted(documents().length, "document");
}

/** Show or hide the field of one's own instruction. */
export function showInstruction() {
  byId("instruction").hidden = byId("prompt").value !== "custom";
}

/** The settings, or null after saying beside each field what is missing. */
export function settings({ quietly = false } = {}) {
  const found = {
    model: byId("model").value,
    query: byId("query").value.trim(),
    documents: documents(),
    prompt: byId("prompt").value,
    instruction: byId("instruction").value,
    dimensions: number("dimensions"),
    truncate: number("truncate"),
    side: byId("side").value,
  };
  const wrong = {
    query: found.query ? "" : "Write a query: it is what the documents are compared with.",
    documents: found.documents.length ? "" : "Write at least one document.",
  };
  const missing = Object.keys(wrong).filter((id) => wrong[id]);
  if (!quietly) {
    for (const [id, words] of Object.entries(wrong)) tellWrong(id, words);
    if (missing.length) byId(missing[0]).focus();
  }
  return missing.length ? null : found;
}

/** Empty is the default. What is no whole number stays for the server to refuse, in its own words. */
function number(id) {
  const field = byId(id);
  if (field.validity.badInput) return NaN;
  return field.value === "" ? null : Number(field.value);
}

function tellWrong(id, words) {
  const told = byId(`${id}-error`);
  told.textContent = words;
  told.hidden = !words;
  if (words) byId(id).setAttribute("aria-invalid", "true");
  else byId(id).removeAttribute("aria-invalid");
}
