// A contract written by hand: without calldata it reverts with the custom error 0xdeadbeef, otherwise it emits
// one event (topic 0x42) with the first word of the calldata and returns that word.
const runtime =
  "3615601757" + "600035600052" + "604260206000a1" + "60206000f3" +
  "5b63deadbeef60e01b60005260046000fd";
const length = (runtime.length / 2).toString(16).padStart(2, "0");
export const bytecode = `0x60${length}80600b6000396000f3${runtime}`;

export const usd = "0xa55a000000000000000000000000000000000101";

export function check(condition, text) {
  if (!condition) throw new Error(`failed: ${text}`);
}
