// A Failure -> words that help, and what can be done about it. The server's own message is always shown, too.

import { Failure, ask } from "./api.js";
import { element } from "./dom.js";

const TOO_LONG = /maximum context length is (\d+) tokens/;
const INPUT = /\binput (\d+)\b/i;
const LOOK_EVERY = 2000;

const BY_STATUS = {
  0: [
    "The server does not answer",
    "It may have been stopped, be starting, or the way to it is broken. This page looks for it and says when it is back.",
  ],
  401: [
    "This key does not open the server",
    "Enter the key again, or ask whoever runs the server for one that is valid.",
  ],
  403: [
    "This key is not for this model",
    "Choose another model, or use a key that is for this one.",
  ],
  404: [
    "There is no such model or path",
    "The list of models may have changed: load this page again.",
  ],
  408: [
    "The request took too long to arrive",
    "Send fewer or shorter documents, or use a faster connection.",
  ],
  413: ["The request is too large", "Send fewer or shorter documents."],
  429: [
    "The server has too much to do, or the key's limit is used up",
    "Nothing is broken. What you wrote stays here.",
  ],
  500: [
    "The model failed for an input",
    "The others are not affected. If it comes again, the server's log says more.",
  ],
  503: [
    "The server cannot compute at the moment",
    "It may be stopping, or its device is in trouble. Try again in a while.",
  ],
  504: [
    "The answer took longer than the server allows",
    "Send fewer or shorter documents, or wait until there is less to do.",
  ],
};
const ANY = ["The request was refused", "The message tells what to change."];

/**
 * { title, help, document, limit }: `document`, from 0, is there when one is at fault, `limit` when
 * an input was too long.
 */
export function explained(failure, part) {
  const [title, help] = BY_STATUS[failure.status] ?? ANY;
  const tooLong = failure.status === 400 && TOO_LONG.exec(failure.message);
  const place = INPUT.exec(failure.message);
  const document = part === "documents" && place ? Number(place[1]) : null;
  if (!tooLong) return { title, help, document, limit: null };
  const which = document === null ? "The query" : `Document ${document + 1}`;
  return {
    title: `${which} is too long for the model`,
    help: "Part it into several documents, or let the server cut what is too long; cut texts are marked then.",
    document,
    limit: Number(tooLong[1]),
  };
}

/** One place on the page where failures are told; `again` tries once more. */
export class Notice {
  #node;
  #again;
  #timer = 0;

  constructor(node, again) {
    this.#node = node;
    this.#again = again;
  }

  clear() {
    clearTimeout(this.#timer);
    this.#node.hidden = true;
    this.#node.replaceChildren();
  }

  /**
   * Anything but a Failure is a bug of this page, and told as one. `part` is what was asked for,
   * "query" or "documents"; `cut` is called with the limit to have long texts cut.
   */
  tell(error, { part = null, cut } = {}) {
    this.clear();
    if (!(error instanceof Failure)) {
      this.#show(
        "Something in this page went wrong",
        String(error),
        "Load the page again; please report it.",
      );
      return;
    }
    const { title, help, limit } = explained(error, part);
    const actions = [];
    if (limit !== null)
      actions.push(button(`Cut after ${limit.toLocaleString("en-US")} tokens`, () => cut(limit)));
    if (error.status === 429) actions.push(this.#countdown(error.retryAfter ?? 1));
    else if (error.status === 0) actions.push(this.#lookout());
    else if (error.status >= 500 || error.status === 408)
      actions.push(button("Try again", this.#again));
    this.#show(title, error.message, help, ...actions);
  }

  #show(title, message, help, ...actions) {
    this.#node.replaceChildren(
      element("h2", {}, title),
      element("p", { class: "said" }, message),
      element("p", {}, help),
      element("div", { class: "actions" }, ...actions),
    );
    this.#node.hidden = false;
  }

  /** A button that can be pressed when the server has said that it may. */
  #countdown(seconds) {
    const retry = button("", this.#again);
    const until = Date.now() + 1000 * seconds;
    const tick = () => {
      const left = Math.ceil((until - Date.now()) / 1000);
      retry.disabled = left > 0;
      retry.textContent = left > 0 ? `Try again in ${left} s` : "Try again";
      if (left > 0) this.#timer = setTimeout(tick, 250);
    };
    tick();
    return retry;
  }

  /** Looks for the server until it answers; then it can be asked again. */
  #lookout() {
    const state = element("span", { class: "hint" }, "looking for it\u2026");
    const place = element("span", {}, state);
    const look = async () => {
      try {
        await ask("live");
      } catch (error) {
        if (error.status === 0) {
          this.#timer = setTimeout(look, LOOK_EVERY);
          return;
        }
      }
      place.replaceChildren("It is back. ", button("Try again", this.#again));
    };
    this.#timer = setTimeout(look, LOOK_EVERY);
    return place;
  }
}

const button = (label, click) => element("button", { type: "button", click }, label);
