"""The official Python client, unmodified, against a running gateway.

Environment: BASE_URL (with /v1), MODEL, API_KEY, POOR_KEY (an account without money).
Prints one line per check; ends with status 1 at the first that fails.
"""

import asyncio
import os
import struct

import openai

base, model, key, poor = (os.environ[name] for name in ("BASE_URL", "MODEL", "API_KEY", "POOR_KEY"))
client = openai.OpenAI(base_url=base, api_key=key, max_retries=0)


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
check("models.list", [entry.id for entry in listed.data] == [model], listed.data)
entry = client.models.retrieve(model)
check("models.retrieve", entry.id == model and entry.assay["model_id"].startswith("0x"))
check("models price", float(entry.assay["price"]) > 0, entry.assay["price"])

one = client.embeddings.create(model=model, input="a quick brown fox")
check("embeddings default (base64)", len(one.data) == 1 and len(one.data[0].embedding) == 16)
check("usage", one.usage.prompt_tokens == one.usage.total_tokens == 4, one.usage)
check("receipt in body", one.assay["receipts"][0].startswith("0x"))

plain = client.embeddings.create(model=model, input="a quick brown fox", encoding_format="float")
check("float equals base64", plain.data[0].embedding == one.data[0].embedding)

raw = client.embeddings.with_raw_response.create(model=model, input="raw", encoding_format="base64")
claim = raw.headers["assay-receipt"]
check("receipt header", claim.startswith("0x") and len(claim) == 66, claim)
check("fee header", float(raw.headers["assay-fee"]) > 0)

many = client.embeddings.create(model=model, input=["one", "two", "three"])
check("list of strings", [item.index for item in many.data] == [0, 1, 2])
tokens = client.embeddings.create(model=model, input=[1, 2, 3])
check("token ids", len(tokens.data) == 1 and tokens.usage.prompt_tokens == 3)
lists = client.embeddings.create(model=model, input=[[1, 2], [3]])
check("lists of token ids", len(lists.data) == 2)
same = client.embeddings.create(model=model, input="x", dimensions=16, user="somebody")
check("dimensions of the model", len(same.data[0].embedding) == 16)
extra = client.embeddings.create(model=model, input="x", extra_body={"vendor_field": {"a": 1}})
check("unknown fields are ignored", len(extra.data) == 1)

error = raises(openai.BadRequestError, lambda: client.embeddings.create(model=model, input="x", dimensions=8))
check("other dimensions refused", error.body["param"] == "dimensions", error.body)
error = raises(openai.NotFoundError, lambda: client.embeddings.create(model=model + "x", input="x"))
check("unknown model", error.body["code"] == "model_not_found" and model in error.body["message"], error.body)
error = raises(openai.BadRequestError, lambda: client.embeddings.create(model=model, input="w " * 200))
check("context length", error.body["code"] == "context_length_exceeded" and "200" in error.body["message"], error.body)
error = raises(openai.BadRequestError, lambda: client.embeddings.create(model=model, input=""))
check("empty input", error.body["param"] == "input")
stranger = openai.OpenAI(base_url=base, api_key="nobody", max_retries=0)
raises(openai.AuthenticationError, lambda: stranger.embeddings.create(model=model, input="x"))
check("unknown key", True)

# The default number of retries: 402 must not be one of them.
pauper = openai.OpenAI(base_url=base, api_key=poor)
error = raises(openai.APIStatusError, lambda: pauper.embeddings.create(model=model, input="x"))
check("402 says what to do", error.status_code == 402 and "deposit" in error.body["message"], error.body)
check("402 is not retried", error.response.headers["x-should-retry"] == "false")

receipt = client.get(f"/receipts/{claim}", cast_to=object)
check("receipt bundle", receipt["bundle"]["receipt"]["modelId"] == entry.assay["model_id"])
check("receipt report", all(fact["status"] != "false" for fact in receipt["report"]["facts"]), receipt["report"])


async def parallel():
    several = openai.AsyncOpenAI(base_url=base, api_key=key)
    calls = [several.embeddings.create(model=model, input=f"text {number}") for number in range(12)]
    return await asyncio.gather(*calls)


answers = asyncio.run(parallel())
claims = {answer.assay["receipts"][0] for answer in answers}
check("twelve calls at once", len(claims) == 12)
floats = struct.unpack("<f", struct.pack("<f", one.data[0].embedding[0]))
check("values are 32-bit floats", abs(floats[0] - one.data[0].embedding[0]) < 1e-6)
