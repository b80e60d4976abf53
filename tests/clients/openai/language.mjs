// The official Node client, unmodified, against a gateway with a language model.
//
// Environment: BASE_URL (with /v1), MODEL, API_KEY; SCRIPTED=1 where answers follow a script, so that their text is known.
// Prints one line per check; ends with status 1 at the first that fails.

import OpenAI from "openai";

const { BASE_URL, MODEL: model, API_KEY, SCRIPTED } = process.env;
const client = new OpenAI({ baseURL: BASE_URL, apiKey: API_KEY, maxRetries: 0 });
const messages = [{ role: "user", content: "Say hello." }];
const tool = {
  type: "function",
  function: {
    name: "weather",
    description: "Weather of a city",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};

function check(name, holds, detail = "") {
  console.log((holds ? "ok   " : "FAIL ") + name, detail);
  if (!holds) process.exit(1);
}

async function raises(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  check("an error was expected", false);
}

const chat = await client.chat.completions.create({ model, messages, max_tokens: 40, seed: 7 });
const text = chat.choices[0].message.content;
check("chat", text.length > 0, JSON.stringify(text));
check("receipt", chat.assay.receipts[0].startsWith("0x") && chat.usage.cost > 0);

let parts = "";
let last;
const stream = await client.chat.completions.create({
  model, messages, max_tokens: 40, seed: 7, stream: true, stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  parts += chunk.choices[0]?.delta?.content ?? "";
  last = chunk;
}
check("stream", parts === text);
check("stream usage", last.usage.total_tokens === chat.usage.total_tokens && last.assay.receipts.length === 1);
const helper = client.chat.completions.stream({ model, messages, max_tokens: 40, seed: 7 });
check("stream helper", (await helper.finalContent()) === text);
const left = await client.chat.completions.create({ model, messages, stream: true });
for await (const _ of left) break;
check("left early", true);

const completion = await client.completions.create({ model, prompt: "Once", max_tokens: 5 });
check("completions", completion.choices[0].text.length > 0);

const response = await client.responses.create({ model, input: "Say hello.", max_output_tokens: 40 });
check("responses", response.output_text.length > 0, response.status);
const kinds = [];
for await (const event of await client.responses.create({ model, input: "Say hello.", max_output_tokens: 40, stream: true })) {
  kinds.push(event.type);
}
check("responses stream", kinds[0] === "response.created" && kinds.includes("response.output_text.delta"));
const final = await client.responses.stream({ model, input: "Say hello.", max_output_tokens: 40, temperature: 0 }).finalResponse();
check("responses helper", final.output.length === 1);

if (SCRIPTED === "1") {
  const asks = [{ role: "user", content: "Please call the tool for Paris." }];
  const called = await client.chat.completions.create({ model, messages: asks, tools: [tool], tool_choice: "required" });
  check("tools", JSON.parse(called.choices[0].message.tool_calls[0].function.arguments).city === "Paris");
  const runner = client.chat.completions.stream({ model, messages: asks, tools: [tool] });
  const message = await runner.finalMessage();
  check("tools stream", message.tool_calls[0].function.name === "weather");
}

const bad = await raises(client.chat.completions.create({ model, messages, top_p: 9 }));
check("bad parameter", bad instanceof OpenAI.BadRequestError && bad.param === "top_p");
const missing = await raises(client.chat.completions.create({ model: "nope", messages }));
check("unknown model", missing instanceof OpenAI.NotFoundError);
