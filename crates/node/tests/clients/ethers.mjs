import { ethers } from "ethers";
import { bytecode, check, usd } from "./contract.mjs";

const [url, key] = process.argv.slice(2);
const provider = new ethers.JsonRpcProvider(url, undefined, { cacheTimeout: -1 });
provider.pollingInterval = 50;
const wallet = new ethers.Wallet(key, provider);
const bob = "0x00000000000000000000000000000000000000b0";

// Plain transfer.
check((await provider.getNetwork()).chainId === 42330n, "chain id");
const receipt = await (await wallet.sendTransaction({ to: bob, value: 5n })).wait();
check(receipt.status === 1 && receipt.gasUsed === 21000n, "transfer");
check((await provider.getBalance(bob)) === 5n, "balance");
const fees = await provider.getFeeData();
check(fees.maxFeePerGas > 0n, "fee data");

// Deployment, event, custom error.
const factory = new ethers.ContractFactory([], bytecode, wallet);
const contract = await factory.deploy();
await contract.waitForDeployment();
const at = await contract.getAddress();
const word = ethers.toBeHex(77, 32);
const called = await (await wallet.sendTransaction({ to: at, data: word })).wait();
check(called.logs.length === 1 && called.logs[0].data === word, "event in the receipt");
const logs = await provider.getLogs({ address: at, fromBlock: 0, topics: [ethers.toBeHex(0x42, 32)] });
check(logs.length === 1 && logs[0].transactionHash === called.hash, "getLogs");
try {
  await provider.call({ to: at });
  check(false, "the call reverts");
} catch (error) {
  check(error.code === "CALL_EXCEPTION" && error.data === "0xdeadbeef", `custom error: ${error}`);
}

// A native module through its Solidity ABI.
const token = new ethers.Contract(usd, [
  "function transfer(address to, uint256 amount) returns (bool)",
  "function balanceOf(address) view returns (uint256)",
  "event Transfer(address indexed from, address indexed to, uint256 value)",
], wallet);
const moved = await (await token.transfer(bob, 1234n)).wait();
check(moved.status === 1, "module call");
check((await token.balanceOf(bob)) === 1234n, "module view");
const events = await token.queryFilter(token.filters.Transfer(wallet.address, bob), 0);
check(events.length === 1 && events[0].args.value === 1234n, "module event");

// Geth's texts become ethers' codes.
const old = await wallet.signTransaction({
  to: bob, value: 1n, nonce: 0, gasLimit: 21000n, chainId: 42330n, type: 2,
  maxFeePerGas: fees.maxFeePerGas, maxPriorityFeePerGas: 1n,
});
try {
  await provider.broadcastTransaction(old);
  check(false, "an old nonce is refused");
} catch (error) {
  check(error.code === "NONCE_EXPIRED", `nonce: ${error.code}`);
}
const poor = new ethers.Wallet(ethers.id("a poor key"), provider);
try {
  const raw = await poor.signTransaction({
    to: bob, value: 1n, nonce: 0, gasLimit: 21000n, chainId: 42330n, type: 2,
    maxFeePerGas: fees.maxFeePerGas, maxPriorityFeePerGas: 1n,
  });
  await provider.broadcastTransaction(raw);
  check(false, "an empty account is refused");
} catch (error) {
  check(error.code === "INSUFFICIENT_FUNDS", `funds: ${error.code}`);
}

// EIP-1186: verified here, with nothing but keccak and RLP.
function verify(root, key, nodes) {
  const path = [...ethers.keccak256(key).slice(2)].map((digit) => parseInt(digit, 16));
  let want = root;
  let at = 0;
  for (let index = 0; index < nodes.length; index += 1) {
    let node = nodes[index];
    check(ethers.keccak256(node) === want, "node hashes to its parent's reference");
    node = ethers.decodeRlp(node);
    for (;;) {
      if (node.length === 17) {
        if (node[path[at]] === "0x") return null;
        node = node[path[at]];
        at += 1;
      } else {
        const bytes = ethers.getBytes(node[0]);
        const odd = bytes[0] & 0x10;
        const nibbles = [...bytes.slice(1)].flatMap((byte) => [byte >> 4, byte & 15]);
        if (odd) nibbles.unshift(bytes[0] & 15);
        if (nibbles.some((nibble, offset) => path[at + offset] !== nibble)) return null;
        at += nibbles.length;
        if (bytes[0] & 0x20) return node[1];
        node = node[1];
      }
      if (typeof node === "string") break;
    }
    want = node;
  }
  return null;
}
const slot = ethers.toBeHex(0, 32);
const block = await provider.send("eth_getBlockByNumber", ["latest", false]);
for (const [address, present] of [[wallet.address, true], [usd, true], [ethers.ZeroAddress.slice(0, -2) + "77", false]]) {
  const proof = await provider.send("eth_getProof", [address, [slot], block.number]);
  const leaf = verify(block.stateRoot, address, proof.accountProof);
  check((leaf !== null) === present, `account proof of ${address}`);
  if (!present) continue;
  const [nonce, balance, storage] = ethers.decodeRlp(leaf);
  check(BigInt(nonce === "0x" ? 0 : nonce) === BigInt(proof.nonce), "proved nonce");
  check(BigInt(balance === "0x" ? 0 : balance) === BigInt(proof.balance), "proved balance");
  const value = proof.storageHash === ethers.keccak256("0x80") ? null : verify(storage, slot, proof.storageProof[0].proof);
  check(BigInt(value === null ? 0 : ethers.decodeRlp(value)) === BigInt(proof.storageProof[0].value), "proved word");
}

// WebSocket subscription.
const socket = new ethers.WebSocketProvider(url.replace("http", "ws"));
const seen = new Promise((resolve) => socket.once("block", resolve));
await socket.getBlockNumber();
await new Promise((resolve) => setTimeout(resolve, 100));
await (await wallet.sendTransaction({ to: bob, value: 1n })).wait();
check((await seen) > 0, "newHeads");
await socket.destroy();
provider.destroy();
console.log(`ethers ${ethers.version} ok`);
