// Elements, and the few behaviours that both pages share. Text is only ever set as text.

const SVG = "http://www.w3.org/2000/svg";

/** The element with this id; it is part of the page. */
export const byId = (id) => document.getElementById(id);

/** A new element. Attributes that are null or false are left out, functions listen to events. */
export function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same within an <svg>. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== null && value !== false)
      node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** A button that copies what `text()` gives at that moment, and says so. */
export function copyButton(text, label = "Copy") {
  const told = element("span", { role: "status", class: "told" });
  const button = element("button", { type: "button", click: copy }, label);
  let timer = 0;
  async function copy() {
    told.textContent = (await copied(text()))
      ? "Copied"
      : "Not allowed here: select the text instead";
    clearTimeout(timer);
    timer = setTimeout(() => (told.textContent = ""), 4000);
  }
  return element("span", { class: "copy" }, told, button);
}

async function copied(text) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      return false;
    }
  }
  // Over plain http from another machine there is no clipboard but the old way.
  const area = element("textarea", { class: "away", "aria-hidden": "true" });
  const focused = document.activeElement;
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return done;
}

/** Tabs as the ARIA practices have them: one stop, arrows, Home and End. */
export function wireTabs(list, onShow = () => {}) {
  const tabs = [...list.querySelectorAll("[role=tab]")];
  function show(chosen) {
    for (const tab of tabs) {
      tab.setAttribute("aria-selected", String(tab === chosen));
      tab.tabIndex = tab === chosen ? 0 : -1;
      byId(tab.getAttribute("aria-controls")).hidden = tab !== chosen;
    }
    onShow(chosen.id);
  }
  for (const tab of tabs) tab.addEventListener("click", () => show(tab));
  moveByArrows(list, tabs, show, { next: "ArrowRight", previous: "ArrowLeft" });
  return (id) => show(byId(id));
}

/** Arrow keys, Home and End move the focus among `stops`, in their order, and tell `onMove`. */
export function moveByArrows(container, stops, onMove, { next, previous }) {
  container.onkeydown = (event) => {
    const here = stops.indexOf(document.activeElement);
    const last = stops.length - 1;
    const to = {
      [next]: Math.min(here + 1, last),
      [previous]: Math.max(here - 1, 0),
      Home: 0,
      End: last,
    }[event.key];
    if (here < 0 || to === undefined) return;
    event.preventDefault();
    stops[to].focus();
    onMove(stops[to], to);
  };
}

/** 1234567 -> "1,234,567", the same whatever the browser's language. */
export const grouped = (number) => Math.round(number).toLocaleString("en-US");

/** "1 document", "2 documents". */
export const counted = (number, noun) => `${grouped(number)} ${noun}${number === 1 ? "" : "s"}`;
