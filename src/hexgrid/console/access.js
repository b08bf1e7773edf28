// The key: asked for when the server wants one, kept in this tab, forgotten at a click. Both pages have it.

import { key } from "./api.js";
import { byId, element } from "./dom.js";

let onChange = () => {};
let wanted = false;

/** Draw what is there; `changed` is called when there is another key, or none. */
export function wireAccess(changed) {
  onChange = changed;
  draw();
}

/** Ask for a key, because the server answered 401 to the one that there is, or to none. */
export function wantKey(message) {
  wanted = true;
  const tried = key.get() !== "";
  key.forget();
  draw();
  open(tried ? `That key was refused. ${message}` : "This server wants an API key.");
}

/** The server answers: nothing is asked for. */
export function accepted() {
  wanted = false;
  byId("access-form").hidden = true;
  draw();
}

function draw() {
  const place = byId("access");
  const hadFocus = place.contains(document.activeElement);
  const has = key.get() !== "";
  const label = has ? "Key in use" : "No key";
  place.replaceChildren(
    element("span", { class: has ? "state has" : "state" }, label),
    has
      ? element("button", { type: "button", click: forget }, "Forget key")
      : element("button", { type: "button", click: () => open("") }, "Enter key"),
  );
  // Drawn anew when the server has answered, which may be while the button has the focus.
  if (hadFocus) place.querySelector("button").focus();
}

function forget() {
  key.forget();
  draw();
  byId("access").querySelector("button").focus();
  onChange();
}

function open(reason) {
  const place = byId("access-form");
  const field = element("input", {
    id: "key",
    type: "password",
    autocomplete: "off",
    spellcheck: "false",
    "aria-describedby": "key-reason key-hint",
  });
  const form = element(
    "form",
    { class: "key", submit: (event) => use(event, field) },
    element("p", { id: "key-reason", role: "alert" }, reason),
    element("label", { for: "key" }, "API key"),
    field,
    element("button", { class: "primary" }, "Use key"),
    wanted ? null : element("button", { type: "button", click: close }, "Cancel"),
    element(
      "p",
      { id: "key-hint", class: "hint" },
      "Kept in this tab until it is closed, and sent to this server only, in a header.",
    ),
  );
  place.replaceChildren(form);
  place.hidden = false;
  field.focus();
}

function close() {
  byId("access-form").hidden = true;
  byId("access").querySelector("button").focus();
}

function use(event, field) {
  event.preventDefault();
  const value = field.value.trim();
  if (!value) {
    byId("key-reason").textContent = "Enter a key first.";
    field.focus();
    return;
  }
  key.set(value);
  draw();
  close();
  onChange();
}
