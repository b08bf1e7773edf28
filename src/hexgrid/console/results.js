// The ranked list: one row a document, and what moved since full width.

import { element, moveByArrows } from "./dom.js";

const MOVE_MS = 260;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

/** Draws into `list` and tells `onChoose(index)` when another document is looked at. */
export class Ranking {
  #list;
  #onChoose;
  #rows = new Map();
  #chosen = null;

  constructor(list, onChoose) {
    this.#list = list;
    this.#onChoose = onChoose;
  }

  get isEmpty() {
    return this.#rows.size === 0;
  }

  /** `now` and `before` are of ranking.js, `before` null where nothing is compared; `cut` are booleans. */
  draw(documents, now, before, cut) {
    const places = this.#places();
    const focused = this.#list.contains(document.activeElement);
    this.#rows.clear();
    for (const index of now.order)
      this.#rows.set(index, this.#row(index, documents[index], now, before, cut));
    const rows = [...this.#rows.values()];
    this.#list.replaceChildren(...rows);
    const buttons = rows.map((row) => row.querySelector("button"));
    const order = [...now.order];
    const keys = { next: "ArrowDown", previous: "ArrowUp" };
    moveByArrows(this.#list, buttons, (_, place) => this.choose(order[place]), keys);
    const kept = this.#chosen !== null && this.#rows.has(this.#chosen);
    this.choose(kept ? this.#chosen : order[0]);
    if (focused)
      this.#rows.get(this.#chosen).querySelector("button").focus({ preventScroll: true });
    if (!calm.matches) this.#glide(places);
  }

  choose(index) {
    this.#chosen = index;
    for (const [each, row] of this.#rows) {
      const button = row.querySelector("button");
      button.tabIndex = each === index ? 0 : -1;
      if (each === index) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
    this.#onChoose(index);
  }

  #row(index, text, now, before, cut) {
    const similarity = now.similarities[index];
    const bar = element("span", { class: "share", "aria-hidden": "true" });
    bar.style.setProperty("--share", String(Math.max(0, Math.min(1, similarity))));
    return element(
      "li",
      {},
      element(
        "button",
        { type: "button", click: () => this.choose(index) },
        element(
          "span",
          { class: "rank" },
          element("span", { class: "unseen" }, "Rank "),
          String(now.ranks[index]),
        ),
        change(now.ranks[index], before?.ranks[index]),
        element(
          "span",
          { class: "number" },
          element("span", { class: "unseen" }, "similarity "),
          signed(similarity),
          before ? element("small", {}, difference(similarity - before.similarities[index])) : null,
        ),
        element(
          "span",
          { class: "text" },
          cut[index] ? element("b", { class: "cut" }, "cut") : null,
          text,
        ),
        bar,
      ),
    );
  }

  #places() {
    return new Map([...this.#rows].map(([index, row]) => [index, row.getBoundingClientRect().top]));
  }

  /** Each row comes from where it was, so that the eye can follow what moved. */
  #glide(places) {
    for (const [index, row] of this.#rows) {
      const by = (places.get(index) ?? NaN) - row.getBoundingClientRect().top;
      if (by)
        row.animate([{ transform: `translateY(${by}px)` }, { transform: "none" }], {
          duration: MOVE_MS,
          easing: "ease-out",
        });
    }
  }
}

/** The minus sign, which is as wide as the digits are. */
export const signed = (number) => number.toFixed(4).replace("-", "\u2212");

const difference = (number) =>
  `${number < -0.00005 ? "\u2212" : "+"}${Math.abs(number).toFixed(4)}`;

function change(rank, before) {
  if (before === undefined) return element("span", { class: "change" });
  const by = before - rank;
  if (by === 0)
    return element(
      "span",
      { class: "change" },
      "=",
      element("span", { class: "unseen" }, " unmoved, "),
    );
  const [name, arrow] = by > 0 ? ["up", "\u25b2"] : ["down", "\u25bc"];
  return element(
    "span",
    { class: `change ${name}` },
    element("span", { "aria-hidden": "true" }, `${arrow}${Math.abs(by)}`),
    element("span", { class: "unseen" }, ` ${name} by ${Math.abs(by)} `),
  );
}
