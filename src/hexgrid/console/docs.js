// The API reference: /openapi.json of this very server, drawn for people.

import { accepted, wantKey, wireAccess } from "./access.js";
import { askJson, base, key } from "./api.js";
import { byId, copyButton, element } from "./dom.js";
import { Notice } from "./failures.js";
import { alternatives, fields, operations, typeOf } from "./schema.js";

const notice = new Notice(byId("failure"), () => begin());

async function begin() {
  notice.clear();
  try {
    const { json } = await askJson("openapi.json");
    accepted();
    draw(json);
  } catch (error) {
    if (error.status === 401) wantKey(error.message);
    else notice.tell(error);
  }
}

function draw(document) {
  const listed = operations(document);
  const schemas = Object.entries(document.components.schemas);
  byId("contents").replaceChildren(
    element("h2", {}, "Operations"),
    element("ul", {}, ...listed.map(({ method, path, id }) => entry(id, verb(method), path))),
    element("h2", {}, "Schemas"),
    element("ul", {}, ...schemas.map(([name]) => entry(name, name))),
  );
  byId("document").replaceChildren(
    element("h2", { class: "title" }, `${document.info.title} ${document.info.version}`),
    element("p", {}, document.info.description),
    element(
      "p",
      {},
      "Requests carry ",
      element("code", {}, "Authorization: Bearer KEY"),
      " where the server has a key. ",
      element("code", {}, "null"),
      " means a field's default, unknown fields are ignored, a wrong type is refused. Each answer has the header ",
      element("code", {}, "x-request-id"),
      ". ",
      element(
        "a",
        { href: "openapi.json", download: "openapi.json", click: download },
        "openapi.json",
      ),
      " is the same for tools.",
    ),
    ...listed.map((each) => operationSection(each, document)),
    ...schemas.map(([name, schema]) => schemaSection(name, schema)),
  );
  goToAnchor();
}

/** The link would go without the key, which only a script can send. */
async function download(event) {
  event.preventDefault();
  const { json } = await askJson("openapi.json");
  const url = URL.createObjectURL(
    new Blob([JSON.stringify(json, null, 2)], { type: "application/json" }),
  );
  element("a", { href: url, download: "openapi.json" }).click();
  URL.revokeObjectURL(url);
}

/** Sections come after the page has looked for the one that its address names. */
function goToAnchor() {
  const name = decodeURIComponent(location.hash.slice(1));
  if (name) byId(name)?.scrollIntoView();
}

const anchor = (id) => `docs#${encodeURIComponent(id)}`;
const verb = (method) => element("span", { class: `verb ${method.toLowerCase()}` }, method);
const entry = (id, ...content) => element("li", {}, element("a", { href: anchor(id) }, ...content));

function operationSection({ method, path, id, operation }, document) {
  const [type, body] = Object.entries(operation.requestBody?.content ?? {})[0] ?? [];
  const command = curl(method, path, operation, type, body);
  const isOpen = operation.security?.length === 0;
  return element(
    "section",
    { id, "aria-labelledby": `${id}-title` },
    element("h3", { id: `${id}-title` }, verb(method), element("code", {}, path)),
    element("p", {}, `${operation.summary}.`, isOpen ? " Needs no key." : ""),
    element(
      "div",
      { class: "sample" },
      element("pre", { class: "code" }, command),
      copyButton(() => command),
    ),
    ...(operation.parameters
      ? [
          element("h4", {}, "Parameters"),
          parameterTable(operation.parameters, `Parameters of ${method} ${path}`),
        ]
      : []),
    ...(body
      ? [
          element("h4", {}, type === FORM ? "Form" : "Body"),
          ...bodyTables(body.schema, document, `Fields of the body of ${method} ${path}`),
        ]
      : []),
    element("h4", {}, "Answers"),
    responseTable(operation.responses, `Answers of ${method} ${path}`),
  );
}

const FORM = "multipart/form-data";

function curl(method, path, operation, type, body) {
  // Braces would be a pattern to curl.
  const place = path.replace(/\{(\w+)\}/g, (_, name) => name.toUpperCase());
  const verb = method === "GET" || body ? "" : `-X ${method} `;
  const lines = [`curl -s ${verb}${base()}${place}`];
  if (key.get() && operation.security?.length !== 0)
    lines.push(`-H "Authorization: Bearer $HEXGRID_API_KEY"`);
  if (type === FORM) lines.push(...formOptions(body.schema));
  else if (body)
    lines.push(`-H 'Content-Type: application/json'`, `-d '${JSON.stringify(body.example)}'`);
  return lines.join(" \\\n  ");
}

function formOptions({ properties, required }) {
  return required.map((name) => {
    const { format, const: only } = properties[name];
    return `-F ${name}=${format === "binary" ? "@PATH" : only}`;
  });
}

/** The fields of a body, or of each that it may be. */
function bodyTables(schema, document, caption) {
  const fieldsOf = (kind) => document.components.schemas[typeOf(kind)[0].name] ?? kind;
  if (!schema.anyOf) return fieldTable(fieldsOf(schema), caption);
  return schema.anyOf.flatMap((kind) => [
    element("p", {}, ...typeNodes(typeOf(kind))),
    ...fieldTable(fieldsOf(kind), `${caption}: ${typeOf(kind)[0].name}`),
  ]);
}

function fieldTable(schema, caption) {
  const rows = fields(schema).map(({ name, type, isRequired, standard, bounds, text }) => [
    [
      element("code", {}, name),
      isRequired ? element("span", { class: "required" }, " required") : null,
    ],
    typeNodes(type),
    [
      text,
      bounds ? element("span", { class: "hint" }, ` ${bounds}`) : null,
      standard === undefined
        ? null
        : element("span", { class: "hint" }, ` default ${JSON.stringify(standard)}`),
    ],
  ]);
  const choices = alternatives(schema).map((names) => names.join(" and "));
  return [
    choices.length ? element("p", { class: "hint" }, `Needs ${choices.join(", or ")}.`) : null,
    rows.length
      ? table(caption, ["Field", "Type", "Meaning"], rows)
      : element("p", { class: "hint" }, "No fields."),
  ].filter((part) => part !== null);
}

function parameterTable(parameters, caption) {
  const rows = parameters.map(({ name, in: place, required, schema, description }) => [
    [
      element("code", {}, name),
      required ? element("span", { class: "required" }, " required") : null,
    ],
    [place],
    typeNodes(typeOf(schema)),
    [description ?? ""],
  ]);
  return table(caption, ["Parameter", "In", "Type", "Meaning"], rows);
}

const typeNodes = (parts) =>
  parts.map((part) =>
    typeof part === "string" ? part : element("a", { href: anchor(part.name) }, part.name),
  );

function responseTable(responses, caption) {
  const rows = Object.entries(responses).map(
    ([status, { description, headers = {}, content = {} }]) => [
      [element("code", {}, status)],
      [
        description,
        ...Object.entries(headers).map(([name, header]) =>
          element("span", { class: "header" }, element("code", {}, name), ` ${header.description}`),
        ),
      ],
      Object.entries(content).map(([type, { schema }]) =>
        element(
          "span",
          { class: "header" },
          schema.$ref ? "" : `${type}: `,
          ...typeNodes(typeOf(schema)),
        ),
      ),
    ],
  );
  return table(caption, ["Status", "When", "Body"], rows);
}

function table(caption, heads, rows) {
  return element(
    "div",
    { class: "scroll", tabindex: "0", role: "group", "aria-label": caption },
    element(
      "table",
      {},
      element("caption", { class: "unseen" }, caption),
      element(
        "thead",
        {},
        element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head))),
      ),
      element(
        "tbody",
        {},
        ...rows.map((cells) =>
          element(
            "tr",
            {},
            ...cells.map((parts) => element("td", {}, ...parts.filter((part) => part !== null))),
          ),
        ),
      ),
    ),
  );
}

function schemaSection(name, schema) {
  return element(
    "section",
    { id: name, "aria-labelledby": `${name}-title` },
    element("h3", { id: `${name}-title` }, element("code", {}, name)),
    schema.description ? element("p", {}, schema.description) : null,
    ...(schema.properties
      ? fieldTable(schema, `Fields of ${name}`)
      : [element("p", {}, ...typeNodes(typeOf(schema)))]),
  );
}

wireAccess(begin);
begin();
