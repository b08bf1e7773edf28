// JSON schemas as OpenAPI has them -> words and rows. Plain data, no page.

const REFERENCE = /^#\/components\/schemas\/(.+)$/;

/** The parts of a type: strings, and { name } where there is a schema of its own to go to. */
export function typeOf(schema) {
  const own = REFERENCE.exec(schema.$ref ?? "");
  if (own) return [{ name: own[1] }];
  const options = schema.anyOf ?? schema.oneOf ?? schema.allOf;
  // null is the default wherever it may stand, which is said once for all.
  if (options) return joined(options.filter((option) => option.type !== "null").map(typeOf), " | ");
  if (schema.enum)
    return joined(
      schema.enum.map((value) => [JSON.stringify(value)]),
      " | ",
    );
  if (schema.const !== undefined) return [JSON.stringify(schema.const)];
  if (Array.isArray(schema.type))
    return joined(
      schema.type.map((type) => [type]),
      " | ",
    );
  if (schema.type === "array") return ["list of ", ...grouped(typeOf(schema.items ?? {}))];
  if (schema.type === "object" && typeof schema.additionalProperties === "object") {
    return ["object of ", ...grouped(typeOf(schema.additionalProperties))];
  }
  return [schema.format ? `${schema.type} (${schema.format})` : (schema.type ?? "anything")];
}

const grouped = (parts) => (parts.includes(" | ") ? ["(", ...parts, ")"] : parts);

function joined(lists, between) {
  return lists.flatMap((list, i) => (i ? [between, ...list] : list));
}

/** One row a field: { name, type, isRequired, standard, bounds, text }; `standard` is its default. */
export function fields(schema) {
  const required = new Set(schema.required ?? []);
  return Object.entries(schema.properties ?? {}).map(([name, field]) => ({
    name,
    type: typeOf(field),
    isRequired: required.has(name),
    standard: field.default ?? undefined,
    bounds: bounds(field),
    text: field.description ?? "",
  }));
}

/** The sets of fields of which one must be there, where the schema has such. */
export function alternatives(schema) {
  return (schema.anyOf ?? []).filter(({ required }) => required).map(({ required }) => required);
}

/** "1 to 5", "at least 0", or nothing. */
function bounds({ minimum, maximum }) {
  if (minimum !== undefined && maximum !== undefined) return `${minimum} to ${maximum}`;
  if (minimum !== undefined) return `at least ${minimum}`;
  return maximum === undefined ? "" : `at most ${maximum}`;
}

/** Paths in their order, each method of each: { method, path, id, operation }. */
export function operations(document) {
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({
      method: method.toUpperCase(),
      path,
      id: operation.operationId,
      operation,
    })),
  );
}
