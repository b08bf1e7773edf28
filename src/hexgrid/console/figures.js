// The strip of live figures: looks at /metrics every two seconds while somebody sees the page.

import { Failure, ask } from "./api.js";
import { counted, element, grouped, svg } from "./dom.js";
import { figures, metricName, parsed, rate } from "./readings.js";

const EVERY = 2000;
// Of that many readings the line is drawn, and the shares and means are of their time: a minute.
const MOST_READINGS = 31;
const [LINE_WIDTH, LINE_HEIGHT] = [90, 22];

export class LiveFigures {
  #strip;
  #names = [];
  #model = null;
  #readings = [];
  #timer = 0;
  #abort = new AbortController();
  #isOn = true;
  #isRefused = false; // paused by us, not by the user
  #isLimited = false;
  #button = element("button", { type: "button", click: () => this.#toggle() }, "Pause");
  #list = element("dl");
  #told = element("p", { class: "hint" });

  constructor(strip) {
    this.#strip = strip;
    strip.append(this.#list, this.#told, this.#button);
    document.addEventListener("visibilitychange", () => this.#next(0));
    this.stop();
  }

  /** Look at this model of those; from now on, with whatever key there is. */
  watch(names, model) {
    if (model !== this.#model) this.#readings = [];
    [this.#names, this.#model] = [names, model];
    if (this.#isRefused) this.#resume();
    this.#strip.hidden = false;
    this.#next(0);
  }

  /** There is nothing to look at: no key, or no server. */
  stop() {
    this.#model = null;
    this.#readings = [];
    this.#strip.hidden = true;
    this.#next(0);
  }

  #toggle() {
    if (this.#isOn) {
      this.#isOn = false;
      this.#button.textContent = "Go on";
    } else {
      this.#resume();
    }
    this.#next(0);
  }

  #next(milliseconds) {
    clearTimeout(this.#timer);
    this.#abort.abort();
    if (this.#isOn && this.#model !== null && !document.hidden) {
      this.#timer = setTimeout(() => this.#look(), milliseconds);
    }
  }

  async #look() {
    this.#abort = new AbortController();
    try {
      const answer = await ask("metrics", { signal: this.#abort.signal });
      const reading = parsed(await answer.text(), performance.now() / 1000);
      const last = this.#readings.at(-1);
      if (last && last.at > reading.at) this.#readings = [];
      this.#readings = [...this.#readings, reading].slice(-MOST_READINGS);
      this.#draw();
      if (!this.#isLimited && answer.headers.has("x-ratelimit-limit-requests")) {
        // Each look counts against what this key may ask.
        this.#isLimited = true;
        this.#pause(
          `Paused: this key may ask ${answer.headers.get("x-ratelimit-limit-requests")} times a minute, and each look is one.`,
        );
      } else {
        this.#next(EVERY);
      }
    } catch (error) {
      if (error.name !== "AbortError") this.#refused(error);
    }
  }

  #refused(error) {
    this.#list.replaceChildren();
    const status = error instanceof Failure ? error.status : 0;
    if (status === 401 || status === 403 || status === 404 || status === 405) {
      this.#pause(
        `No figures: /metrics is refused here (${status}). A proxy in front may keep it for itself; everything else works.`,
      );
      return;
    }
    this.#told.textContent =
      status === 429
        ? "No figures: asked too often. Looking again."
        : "No figures: /metrics does not answer. Looking again.";
    this.#readings = [];
    this.#next(status === 429 ? 1000 * (error.retryAfter ?? 10) : EVERY);
  }

  #resume() {
    this.#isOn = true;
    this.#isRefused = false;
    this.#readings = [];
    this.#told.textContent = "";
    this.#button.textContent = "Pause";
  }

  #pause(why) {
    this.#isOn = false;
    this.#isRefused = true;
    this.#button.textContent = "Go on";
    this.#told.textContent = why;
  }

  #draw() {
    const [first, last] = [this.#readings[0], this.#readings.at(-1)];
    const model = metricName(last, this.#names, this.#model);
    if (model === null) {
      this.#list.replaceChildren();
      this.#told.textContent = "No figures of this model in /metrics.";
      return;
    }
    const now = figures(first, last, model);
    const speeds = this.#speeds(model);
    const share =
      now.queueMost && now.queueTokens
        ? `, ${((100 * now.queueTokens) / now.queueMost).toFixed(0)} % full`
        : "";
    this.#told.textContent = "";
    this.#list.replaceChildren(
      ...figure("Engine", now.ready ? "ready" : "not ready", { state: now.ready ? "good" : "bad" }),
      ...figure("Queue", `${counted(now.queueTokens ?? 0, "token")}${share}`),
      ...figure("In flight", grouped(Math.max(0, (now.inFlight ?? 1) - 1))),
      ...figure("Tokens/s", speeds.length ? grouped(speeds.at(-1)) : "\u2013", {
        line: sparkline(speeds),
      }),
      ...figure("Requests/s", speeds.length ? now.requestsPerSecond.toFixed(1) : "\u2013"),
      ...figure(
        "Mean time",
        now.meanMilliseconds === null
          ? "\u2013"
          : `${now.meanMilliseconds.toFixed(now.meanMilliseconds < 10 ? 1 : 0)} ms`,
      ),
      ...figure(
        "Cache hits",
        now.cacheShare === null ? "\u2013" : `${(100 * now.cacheShare).toFixed(0)} %`,
      ),
    );
  }

  #speeds(model) {
    const pairs = this.#readings.slice(1).map((after, i) => [this.#readings[i], after]);
    return pairs.map(([before, after]) =>
      rate(before, after, "prompt_tokens_total", { model_name: model }),
    );
  }
}

function figure(name, value, { state = "", line = null } = {}) {
  return [
    element(
      "div",
      { class: `figure ${state}` },
      element("dt", {}, name),
      element("dd", {}, value, line),
    ),
  ];
}

function sparkline(values) {
  const most = Math.max(...values, 1);
  const points = values.map((value, i) => {
    // The newest is at the right; what is not known yet is left out.
    const x = LINE_WIDTH - ((values.length - 1 - i) / (MOST_READINGS - 2)) * LINE_WIDTH;
    return `${x.toFixed(1)},${(LINE_HEIGHT - 1 - (value / most) * (LINE_HEIGHT - 2)).toFixed(1)}`;
  });
  return svg(
    "svg",
    { class: "line", viewBox: `0 0 ${LINE_WIDTH} ${LINE_HEIGHT}`, "aria-hidden": "true" },
    svg("line", { x1: 0, x2: LINE_WIDTH, y1: LINE_HEIGHT - 0.5, y2: LINE_HEIGHT - 0.5 }),
    svg("polyline", { points: points.join(" ") }),
  );
}
