// One text as the model reads it: /tokenize with its pieces, and which of them a cut leaves out.

import { askJson } from "./api.js";
import { counted, element, grouped } from "./dom.js";
import { keptTokens, readable, visible } from "./pieces.js";

// A page of more elements than this would be slow, and nobody reads them.
const MOST_SHOWN = 2000;

/** Draws into `panel`; texts are fetched when they are looked at. */
export class TokenView {
  #panel;
  #texts = [];
  #settings = null;
  #shown = 0;
  #isOpen = false;
  #abort = new AbortController();
  #choice = element("select", {
    id: "token-text",
    change: () => this.#choose(Number(this.#choice.value)),
  });
  #showIds = element("input", {
    type: "checkbox",
    id: "token-ids",
    change: () => this.#body.classList.toggle("with-ids", this.#showIds.checked),
  });
  #told = element("p", { class: "hint", role: "status" });
  #body = element("ol", { class: "tokens", "aria-label": "Tokens in their order" });
  #onChoose;

  constructor(panel, onChoose) {
    this.#panel = panel;
    this.#onChoose = onChoose;
    this.clear();
  }

  clear() {
    this.#texts = [];
    this.#panel.replaceChildren(
      element(
        "p",
        { class: "hint" },
        "The tokens of the query and of each document, once they are ranked.",
      ),
    );
  }

  /** The query is the first text; `settings` are those that were sent. */
  update(settings) {
    this.#settings = settings;
    const prompt = settings.prompt === "custom" ? `Instruct: ${settings.instruction}\nQuery:` : "";
    this.#texts = [prompt + settings.query, ...settings.documents];
    this.#choice.replaceChildren(
      ...this.#texts.map((text, i) =>
        element("option", { value: i }, i ? `${i}  ${text.slice(0, 60)}` : "Query"),
      ),
    );
    this.#panel.replaceChildren(
      element(
        "div",
        { class: "split" },
        element("label", { for: "token-text" }, "Text"),
        this.#choice,
      ),
      element(
        "div",
        { class: "split" },
        this.#told,
        element("label", { class: "inline" }, this.#showIds, " ids"),
      ),
      this.#body,
    );
    this.show(Math.min(this.#shown, settings.documents.length));
  }

  /** Look at this text: 0 is the query, documents follow. */
  show(number) {
    this.#shown = number;
    this.#choice.value = String(number);
    if (this.#isOpen && this.#texts.length) this.#fetch();
  }

  /** Whether anybody sees the panel; nothing is fetched while nobody does. */
  set isOpen(value) {
    this.#isOpen = value;
    if (value && this.#texts.length) this.#fetch();
  }

  #choose(number) {
    this.show(number);
    if (number > 0) this.#onChoose(number - 1);
  }

  async #fetch() {
    this.#abort.abort();
    this.#abort = new AbortController();
    const [number, settings] = [this.#shown, this.#settings];
    const body = { model: settings.model, prompt: this.#texts[number], return_token_strs: true };
    try {
      const { json } = await askJson("tokenize", { body, signal: this.#abort.signal });
      this.#draw(json, number, settings);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.#body.replaceChildren();
      this.#told.textContent = `No tokens: ${error.message}`;
    }
  }

  #draw({ tokens, token_strs: pieces }, number, settings) {
    const kept = keptTokens(tokens.length, settings.truncate, settings.side);
    const shown = pieces.slice(0, MOST_SHOWN);
    this.#body.replaceChildren(...shown.map((piece, i) => token(piece, tokens[i], kept[i])));
    const told = [counted(tokens.length, "token")];
    const out = kept.filter((is) => !is).length;
    if (out) told.push(`${grouped(out)} cut off`);
    if (pieces.length > MOST_SHOWN) told.push(`the first ${grouped(MOST_SHOWN)} are shown`);
    if (number === 0 && settings.prompt === "own")
      told.push("without the model's own instruction, which the server puts in front");
    this.#told.textContent = told.join(", ");
  }
}

function token(piece, id, isKept) {
  const { text, kind } = readable(piece);
  return element(
    "li",
    { class: isKept ? kind : `${kind} out`, title: `id ${id}${isKept ? "" : ", cut off"}` },
    element("span", {}, kind === "text" ? visible(text) : text),
    element("small", {}, String(id)),
    isKept ? null : element("span", { class: "unseen" }, " cut off"),
  );
}
