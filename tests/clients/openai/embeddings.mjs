// The official Node client, unmodified, against a running gateway. Environment as in embeddings.py.
import OpenAI from "openai";

const { BASE_URL, MODEL, API_KEY, POOR_KEY } = process.env;
const client = new OpenAI({ baseURL: BASE_URL, apiKey: API_KEY, maxRetries: 0 });

function check(name, holds, detail = "") {
  console.log(`${holds ? "ok  " : "FAIL"} ${name}`, detail);
  if (!holds) process.exit(1);
}

async function raises(call) {
  try {
    await call();
  } catch (error) {
    return error;
  }
  check("an error", false);
}

const models = await client.models.list();
check("models.list", models.data.length === 1 && models.data[0].id === MODEL);
const model = await client.models.retrieve(MODEL);
check("models.retrieve", model.assay.model_id.startsWith("0x"));

const one = await client.embeddings.create({ model: MODEL, input: "a quick brown fox" });
check("embeddings default (base64)", one.data[0].embedding.length === 16);
const plain = await client.embeddings.create({ model: MODEL, input: "a quick brown fox", encoding_format: "float" });
const near = plain.data[0].embedding.every((value, index) => Math.abs(value - one.data[0].embedding[index]) < 1e-6);
check("float equals base64", near);
const many = await client.embeddings.create({ model: MODEL, input: ["one", "two"] });
check("list of strings", many.data.map((item) => item.index).join() === "0,1");
const { response } = await client.embeddings.create({ model: MODEL, input: "raw" }).withResponse();
check("receipt header", /^0x[0-9a-f]{64}$/.test(response.headers.get("assay-receipt")));

const unknown = await raises(() => client.embeddings.create({ model: `${MODEL}x`, input: "x" }));
check("unknown model", unknown.status === 404 && unknown.code === "model_not_found");
const pauper = new OpenAI({ baseURL: BASE_URL, apiKey: POOR_KEY });
const broke = await raises(() => pauper.embeddings.create({ model: MODEL, input: "x" }));
check("402 says what to do", broke.status === 402 && broke.message.includes("deposit"), broke.message);
