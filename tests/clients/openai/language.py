"""The official Python client, unmodified, against a gateway with a language model.

Environment: BASE_URL (with /v1), MODEL, API_KEY; SCRIPTED=1 where answers follow a script, so that their text is known.
Prints one line per check; ends with status 1 at the first that fails.
"""

import asyncio
import json
import os

import openai

base, model, key = (os.environ[name] for name in ("BASE_URL", "MODEL", "API_KEY"))
scripted = os.environ.get("SCRIPTED") == "1"
client = openai.OpenAI(base_url=base, api_key=key, max_retries=0)
hello = [{"role": "user", "content": "Say hello."}]
tool = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def check(name, holds, detail=""):
    print(("ok   " if holds else "FAIL ") + name, detail)
    if not holds:
        raise SystemExit(1)


def raises(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise SystemExit(f"FAIL expected {kind.__name__}")


listed = client.models.list()
check("models.list", model in [entry.id for entry in listed.data])
check("models context", client.models.retrieve(model).assay["context_length"] > 0)

chat = client.chat.completions.create(model=model, messages=hello, max_tokens=40, seed=7)
text = chat.choices[0].message.content
check("chat", len(text) > 0 and chat.choices[0].finish_reason in ("stop", "length"), repr(text))
check("usage", chat.usage.total_tokens == chat.usage.prompt_tokens + chat.usage.completion_tokens)
check("cost and receipt", chat.usage.cost > 0 and chat.assay["receipts"][0].startswith("0x"))
raw = client.chat.completions.with_raw_response.create(model=model, messages=hello, max_tokens=5)
check("receipt header", raw.headers["assay-receipt"].startswith("0x"))
again = client.chat.completions.create(model=model, messages=hello, max_tokens=40, seed=7)
check("seed", again.choices[0].message.content == text)
drawn = client.chat.completions.create(model=model, messages=hello, max_tokens=40)
same = client.chat.completions.create(model=model, messages=hello, max_tokens=40, seed=drawn.assay["seed"])
check("drawn seed", same.choices[0].message.content == drawn.choices[0].message.content)

stream = client.chat.completions.create(
    model=model, messages=hello, max_tokens=40, seed=7, stream=True, stream_options={"include_usage": True}
)
parts, last = [], None
for chunk in stream:
    parts += [choice.delta.content or "" for choice in chunk.choices]
    last = chunk
check("stream", "".join(parts) == text, len(parts))
check("stream usage", last.usage.total_tokens == chat.usage.total_tokens and not last.choices)
check("stream receipt", last.assay["receipts"][0].startswith("0x"))
with client.chat.completions.stream(model=model, messages=hello, max_tokens=40, seed=7, logprobs=True) as helper:
    for _ in helper:
        pass
    final = helper.get_final_completion()
check("stream helper", final.choices[0].message.content == text and final.choices[0].logprobs.content)

two = client.chat.completions.create(model=model, messages=hello, n=2, max_tokens=5)
check("n", [choice.index for choice in two.choices] == [0, 1] and len(two.assay["receipts"]) == 2)
stop = client.chat.completions.create(model=model, messages=hello, stop=[text[3:5]], max_tokens=40, seed=7)
check("stop", stop.choices[0].message.content == text[: text.index(text[3:5])], stop.choices[0].message.content)
probable = client.chat.completions.create(model=model, messages=hello, logprobs=True, top_logprobs=2, max_tokens=5)
entry = probable.choices[0].logprobs.content[0]
check("logprobs", entry.logprob <= 0 and len(entry.top_logprobs) == 2)

completion = client.completions.create(model=model, prompt="Once", max_tokens=5, logprobs=1)
check("completions", completion.choices[0].text and completion.choices[0].logprobs.tokens)
parts = [chunk.choices[0].text for chunk in client.completions.create(model=model, prompt=[1, 2], max_tokens=5, stream=True)]
check("completions stream", len(parts) >= 2)

schema = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["city", "people"],
    "additionalProperties": False,
}
constrained = client.chat.completions.create(
    model=model,
    messages=hello,
    max_tokens=200,
    temperature=0,
    response_format={"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": schema}},
)
if constrained.choices[0].finish_reason == "stop":
    check("json_schema", set(json.loads(constrained.choices[0].message.content)) == {"city", "people"})

asks = [{"role": "user", "content": "Please call the tool for Paris."}]
called = client.chat.completions.create(model=model, messages=asks, tools=[tool], tool_choice="required", max_tokens=100)
if scripted:
    call = called.choices[0].message.tool_calls[0]
    check("tools", call.function.name == "weather" and json.loads(call.function.arguments) == {"city": "Paris"})
    check("tools finish", called.choices[0].finish_reason == "tool_calls")
    with client.chat.completions.stream(model=model, messages=asks, tools=[tool]) as helper:
        events = [event.type for event in helper]
        final = helper.get_final_completion()
    check("tools stream", "tool_calls.function.arguments.done" in events)
    answered = asks + [final.choices[0].message.model_dump(exclude_none=True)]
    answered += [{"role": "tool", "tool_call_id": final.choices[0].message.tool_calls[0].id, "content": "rain"}]
    check("tools answered", client.chat.completions.create(model=model, messages=answered, tools=[tool]).id)

response = client.responses.create(model=model, input="Say hello.", instructions="Be brief.", max_output_tokens=40)
check("responses", response.output_text and response.status in ("completed", "incomplete"), repr(response.output_text))
check("responses usage", response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens)
check("responses receipt", response.assay["receipts"][0].startswith("0x"))
kinds = [event.type for event in client.responses.create(model=model, input="Say hello.", max_output_tokens=40, temperature=0, stream=True)]
check("responses stream", kinds[0] == "response.created" and kinds[-1] in ("response.completed", "response.incomplete"))
with client.responses.stream(model=model, input="Say hello.", max_output_tokens=40, temperature=0) as helper:
    for _ in helper:
        pass
    if kinds[-1] == "response.completed":
        check("responses helper", helper.get_final_response().output_text)
if scripted:
    flat = {"type": "function", **tool["function"], "strict": False}
    with client.responses.stream(model=model, input="Please call the tool.", tools=[flat]) as helper:
        kinds = [event.type for event in helper]
        final = helper.get_final_response()
    check("responses tools", final.output[0].type == "function_call" and "response.function_call_arguments.done" in kinds)

error = raises(openai.BadRequestError, lambda: client.chat.completions.create(model=model, messages=hello, temperature=9))
check("bad parameter", error.param == "temperature" and error.code == "invalid_value")
error = raises(openai.NotFoundError, lambda: client.chat.completions.create(model="nope", messages=hello))
check("unknown model", error.code == "model_not_found")
long = [{"role": "user", "content": "word " * 50_000}]
error = raises(openai.BadRequestError, lambda: client.chat.completions.create(model=model, messages=long))
check("context", error.code == "context_length_exceeded", error.message)
error = raises(openai.BadRequestError, lambda: client.responses.create(model=model, input="x", previous_response_id="resp_1"))
check("stateless", error.param == "previous_response_id")


async def side_by_side():
    many = openai.AsyncOpenAI(base_url=base, api_key=key, max_retries=0)

    async def one():
        stream = await many.chat.completions.create(model=model, messages=hello, max_tokens=40, seed=7, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

    return await asyncio.gather(*[one() for _ in range(8)])


check("eight async streams", set(asyncio.run(side_by_side())) == {text})
