// The vectors as points on a plane. Whatever can be read here stands in the list, too.

import { counted, element, svg } from "./dom.js";
import { project } from "./pca.js";

const [WIDTH, HEIGHT, MARGIN] = [420, 340, 26];
// More numbers than this would lie on each other.
const MOST_NUMBERS = 60;

/** Draws into `panel`; `onChoose(index)` is told of a click on a point. */
export class VectorMap {
  #panel;
  #onChoose;
  #points = [];

  constructor(panel, onChoose) {
    this.#panel = panel;
    this.#onChoose = onChoose;
    this.clear();
  }

  clear() {
    this.#points = [];
    this.#panel.replaceChildren(
      element(
        "p",
        { class: "hint" },
        "The query and the documents as points, once they are ranked.",
      ),
    );
  }

  draw(query, documents, texts, ranking) {
    const { points, shares } = project([query, ...documents]);
    const place = scaled(points);
    const [asked, ...others] = points.map(place);
    this.#points = others.map(([x, y], index) =>
      this.#point(x, y, index, texts[index], ranking.ranks[index], others.length),
    );
    // The best ones lie on top.
    const drawn = [...ranking.order].reverse().map((index) => this.#points[index]);
    const diamond = svg(
      "g",
      { class: "query", transform: `translate(${asked[0]} ${asked[1]})` },
      svg("path", { d: "M0-9 9 0 0 9-9 0Z" }),
      svg("title", {}, "Query"),
    );
    const [x, y] = shares.map((share) => `${(100 * share).toFixed(0)} %`);
    const both = (100 * (shares[0] + shares[1])).toFixed(0);
    this.#panel.replaceChildren(
      svg(
        "svg",
        {
          viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
          class: "map",
          role: "img",
          "aria-label": `Map of the query and ${counted(documents.length, "document")}. Nearest to the query by similarity: document ${ranking.order[0] + 1}.`,
        },
        svg("rect", { x: 0.5, y: 0.5, width: WIDTH - 1, height: HEIGHT - 1, class: "frame" }),
        svg(
          "text",
          { x: WIDTH - 8, y: HEIGHT - 8, class: "axis", "text-anchor": "end" },
          `PC1 ${x}`,
        ),
        svg("text", { x: 8, y: 16, class: "axis" }, `PC2 ${y}`),
        ...drawn,
        diamond,
      ),
      element(
        "p",
        { class: "hint legend" },
        element("span", { class: "key query" }, "query"),
        element("span", { class: "key" }, "document, by rank"),
        `The two main directions hold ${both} % of the spread; the rest is not seen here.`,
      ),
    );
  }

  choose(index) {
    this.#points.forEach((point, each) => point.classList.toggle("chosen", each === index));
    // On top of all others.
    const point = this.#points[index];
    point?.parentNode?.append(point);
  }

  #point(x, y, index, text, rank, count) {
    const short = text.length > 120 ? `${text.slice(0, 120)}\u2026` : text;
    return svg(
      "g",
      {
        class: rank <= 3 ? "point best" : "point",
        transform: `translate(${x} ${y})`,
        click: () => this.#onChoose(index),
      },
      svg("circle", { r: count > MOST_NUMBERS ? 4 : 9 }),
      count > MOST_NUMBERS
        ? null
        : svg("text", { "text-anchor": "middle", dy: "0.35em" }, String(rank)),
      svg("title", {}, `${rank}. ${short}`),
    );
  }
}

/** The same scale on both axes, so that distances can be compared. */
function scaled(points) {
  const spans = [0, 1].map((axis) => {
    const values = points.map((point) => point[axis]);
    return [Math.min(...values), Math.max(...values)];
  });
  const scale = Math.min(
    (WIDTH - 2 * MARGIN) / Math.max(spans[0][1] - spans[0][0], 1e-6),
    (HEIGHT - 2 * MARGIN) / Math.max(spans[1][1] - spans[1][0], 1e-6),
  );
  const middle = spans.map(([low, high]) => (low + high) / 2);
  return ([x, y]) => [
    Number((WIDTH / 2 + (x - middle[0]) * scale).toFixed(2)),
    Number((HEIGHT / 2 - (y - middle[1]) * scale).toFixed(2)),
  ];
}
