// What the form asks for -> the bodies that are sent, and the same calls as code. One source for both.

/**
 * The two bodies of POST /v1/embeddings. `settings`: model, query, documents, prompt ("own",
 * "custom", "none"), instruction, dimensions, truncate, side; null is a default, which is not sent.
 */
export function bodies(settings) {
  const shared = {};
  if (settings.dimensions !== null) shared.dimensions = settings.dimensions;
  if (settings.truncate !== null) {
    shared.truncate_prompt_tokens = settings.truncate;
    if (settings.side !== "right") shared.truncation_side = settings.side;
  }
  const asked = {};
  if (settings.prompt === "own") asked.input_type = "query";
  if (settings.prompt === "custom") asked.instruction = settings.instruction;
  return {
    query: { model: settings.model, input: settings.query, ...asked, ...shared },
    documents: { model: settings.model, input: settings.documents, ...shared },
  };
}

/** The settings whose ranking others are compared with: full width and nothing cut. */
export const reference = (settings) => ({ ...settings, dimensions: null, truncate: null });

export const LANGUAGES = { curl, Python: python, JavaScript: javascript };

const json = (value) => JSON.stringify(value, null, 2);

function curl({ query, documents }, url, hasKey) {
  const key = hasKey ? ` \\\n  -H "Authorization: Bearer $HEXGRID_API_KEY"` : "";
  // A quoted here-document: nothing in the texts acts in the shell, and no line of JSON is its end.
  const call = (body) =>
    `curl -s ${url}/v1/embeddings${key} \\\n` +
    `  -H 'Content-Type: application/json' \\\n` +
    `  --data-binary @- <<'END'\n${json(body)}\nEND\n`;
  return `# the query\n${call(query)}\n# the documents\n${call(documents)}`;
}

function python({ query, documents }, url, hasKey) {
  const key = hasKey ? 'os.environ["HEXGRID_API_KEY"]' : '"none is needed"';
  const call = (body) => {
    const { model, input, dimensions, ...ours } = body;
    const lines = [`    model=${json(model)},`, `    input=${indented(json(input), 4)},`];
    if (dimensions !== undefined) lines.push(`    dimensions=${dimensions},`);
    if (Object.keys(ours).length) lines.push(`    extra_body=${indented(json(ours), 4)},`);
    return `client.embeddings.create(\n${lines.join("\n")}\n)`;
  };
  return `${hasKey ? "import os\n\n" : ""}from openai import OpenAI

client = OpenAI(base_url="${url}/v1", api_key=${key})
query = ${call(query)}
documents = ${call(documents)}

asked = query.data[0].embedding
for document in documents.data:
    similarity = sum(a * b for a, b in zip(asked, document.embedding))
    print(f"{similarity:.4f}  document {document.index + 1}")
`;
}

function javascript({ query, documents }, url, hasKey) {
  const key = hasKey ? "\n      Authorization: `Bearer ${process.env.HEXGRID_API_KEY}`," : "";
  return `async function embed(body) {
  const answer = await fetch("${url}/v1/embeddings", {
    method: "POST",
    headers: {${key}
      "Content-Type": "application/json",
    },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(await answer.text());
  return (await answer.json()).data.map((item) => item.embedding);
}

const [query] = await embed(${json(query)});
const documents = await embed(${json(documents)});

documents.forEach((document, i) => {
  const similarity = document.reduce((sum, value, j) => sum + value * query[j], 0);
  console.log(\`\${similarity.toFixed(4)}  document \${i + 1}\`);
});
`;
}

const indented = (text, by) => text.replaceAll("\n", `\n${" ".repeat(by)}`);
