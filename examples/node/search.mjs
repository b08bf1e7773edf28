// Search with OpenAI's SDK for JavaScript: one request for the documents, one for the question.
// npm install openai
import OpenAI from "openai";

const url = process.env.HEXGRID_URL ?? "http://127.0.0.1:8000";
const documents = [
  "Water stands in the sink? Try a plunger, then unscrew the trap below the basin.",
  "Sourdough rises without bought yeast: flour and water are left to ferment for days.",
  "A circuit breaker that trips at once points to a short circuit in an appliance.",
];
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: process.env.HEXGRID_API_KEY ?? "none" });

// input_type is ours: the server puts the model's instruction before a query, nothing before documents.
async function embed(input, input_type) {
  const answer = await client.embeddings.create({ model: "hexgrid/nano", input, input_type });
  return answer.data.map((item) => item.embedding);
}

const similarity = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0); // vectors have length 1

const [question] = await embed(["How do I bake bread without buying yeast?"], "query");
const scores = (await embed(documents, "document")).map((vector) => similarity(question, vector));
const best = scores.indexOf(Math.max(...scores));
console.log(`${scores[best].toFixed(2)}  ${documents[best]}`);
