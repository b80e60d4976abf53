// The peer of the language-model benchmarks: llama.cpp through the npm package node-llama-cpp, one thread, CPU only.
//
//   npm install --prefix DIR node-llama-cpp@3.22.1
//   NODE_PATH=DIR/node_modules node tools/peer_llama.mjs MODEL.gguf [PROMPT_TOKENS=256] [ANSWER_TOKENS=128] [ROUNDS=3]
//
// Prints one JSON object: CPU seconds of prefill and decode (user + system of the whole process, best of the rounds), tokens per CPU second, peak memory.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(import.meta.url);
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(
    require.resolve("node-llama-cpp", { paths: (process.env.NODE_PATH ?? "").split(":") })
).href);

const [path, prompt = "256", answer = "128", rounds = "3"] = process.argv.slice(2);
if (!path) {
    console.error("usage: peer_llama.mjs MODEL.gguf [PROMPT_TOKENS] [ANSWER_TOKENS] [ROUNDS]");
    process.exit(2);
}
const cpu = () => { const t = process.cpuUsage(); return (t.user + t.system) / 1e6; };

const llama = await getLlama({ gpu: false, build: "never", maxThreads: 1, logLevel: LlamaLogLevel.error });
const begun = cpu();
const model = await llama.loadModel({ modelPath: path });
const load = cpu() - begun;
const words = "The quick brown fox jumps over the lazy dog while seven wizards quietly mix a bowl of very strong liquid soap. ";
const tokens = model.tokenize(words.repeat(40)).slice(0, Number(prompt));
let best = null;
for (let round = 0; round < Number(rounds); round++) {
    const context = await model.createContext({ contextSize: tokens.length + Number(answer) + 8, batchSize: 512, threads: 1 });
    const sequence = context.getSequence();
    const start = cpu();
    let first = 0, count = 0;
    for await (const _ of sequence.evaluate(tokens, { temperature: 0, yieldEogToken: true })) {
        if (count === 0) first = cpu();
        count += 1;
        if (count > Number(answer)) break;
    }
    const end = cpu();
    const run = { prefill_cpu_s: first - start, decode_cpu_s: end - first, decoded: count - 1 };
    best = best === null ? run : {
        prefill_cpu_s: Math.min(best.prefill_cpu_s, run.prefill_cpu_s),
        decode_cpu_s: Math.min(best.decode_cpu_s, run.decode_cpu_s),
        decoded: run.decoded,
    };
    await context.dispose();
}
console.log(JSON.stringify({
    peer: "node-llama-cpp", prompt: tokens.length, load_cpu_s: load, ...best,
    prefill_tokens_per_cpu_s: tokens.length / best.prefill_cpu_s,
    decode_tokens_per_cpu_s: best.decoded / best.decode_cpu_s,
    peak_rss_mib: process.resourceUsage().maxRSS / 1024,
}));
process.exit(0);
