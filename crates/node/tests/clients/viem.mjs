import { createPublicClient, createWalletClient, defineChain, http, parseAbi, webSocket } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { bytecode, check, usd } from "./contract.mjs";

const [url, key] = process.argv.slice(2);
const chain = defineChain({
  id: 42330, name: "Assay", nativeCurrency: { name: "Assay", symbol: "ASSAY", decimals: 18 },
  rpcUrls: { default: { http: [url] } },
});
const account = privateKeyToAccount(key);
const options = { chain, pollingInterval: 50, cacheTime: 0 };
const reader = createPublicClient({ ...options, transport: http(url, { batch: true }) });
const writer = createWalletClient({ ...options, account, transport: http(url) });
const bob = "0x00000000000000000000000000000000000000b1";
const mined = (hash) => reader.waitForTransactionReceipt({ hash });

check((await reader.getChainId()) === 42330, "chain id");
// sendTransaction probes eth_fillTransaction first and needs exactly -32601 to fall back.
const transfer = await mined(await writer.sendTransaction({ to: bob, value: 5n }));
check(transfer.status === "success" && transfer.type === "eip1559", "transfer");
const [balance, number, gasPrice, history] = await Promise.all([
  reader.getBalance({ address: bob }), reader.getBlockNumber(), reader.getGasPrice(),
  reader.getFeeHistory({ blockCount: 4, rewardPercentiles: [25, 75] }),
]);
check(balance === 5n && number >= 1n && gasPrice > 0n, "batched reads");
check(history.baseFeePerGas.length >= 2 && history.reward.length >= 1, "fee history");

const deployed = await mined(await writer.deployContract({ abi: [], bytecode }));
const at = deployed.contractAddress;
const word = `0x${"00".repeat(31)}2a`;
const called = await mined(await writer.sendTransaction({ to: at, data: word }));
check(called.logs.length === 1 && called.logs[0].data === word, "event");
try {
  await reader.call({ to: at });
  check(false, "the call reverts");
} catch (error) {
  check(JSON.stringify(error.walk((it) => it.data)?.data ?? "").includes("deadbeef"), `custom error: ${error}`);
}

const abi = parseAbi([
  "function transfer(address to, uint256 amount) returns (bool)",
  "function balanceOf(address) view returns (uint256)",
  "event Transfer(address indexed from, address indexed to, uint256 value)",
]);
const { request } = await reader.simulateContract({ address: usd, abi, functionName: "transfer", args: [bob, 99n], account });
await mined(await writer.writeContract(request));
const args = { address: usd, abi, functionName: "balanceOf", args: [bob] };
check((await reader.readContract(args)) === 99n, "module view");
const events = await reader.getContractEvents({ address: usd, abi, eventName: "Transfer", args: { to: bob }, fromBlock: 0n });
check(events.length === 1 && events[0].args.value === 99n, "module event");
const overridden = await reader.call({
  to: bob, data: word,
  stateOverride: [{ address: bob, code: "0x60005460005260206000f3", stateDiff: [{ slot: `0x${"00".repeat(32)}`, value: word }] }],
});
check(overridden.data === word, "state override");

// EIP-7702: the account takes the contract's code.
const authorization = await writer.signAuthorization({ account, contractAddress: at, executor: "self" });
const delegated = await mined(await writer.sendTransaction({ to: account.address, data: word, authorizationList: [authorization] }));
check(delegated.status === "success" && delegated.type === "eip7702", "delegation");
check(delegated.logs[0]?.address.toLowerCase() === account.address.toLowerCase(), "runs as the account");
check((await reader.getCode({ address: account.address })).startsWith("0xef0100"), "designator");

const proof = await reader.getProof({ address: usd, storageKeys: [`0x${"00".repeat(32)}`] });
check(proof.accountProof.length > 0 && proof.nonce === 1, "proof");

const filter = await reader.createEventFilter({ address: usd });
await mined(await writer.writeContract({ address: usd, abi, functionName: "transfer", args: [bob, 1n] }));
check((await reader.getFilterChanges({ filter })).length === 1, "polled filter");

const socket = createPublicClient({ ...options, transport: webSocket(url.replace("http", "ws")) });
const heads = new Promise((resolve, reject) => socket.watchBlockNumber({ onBlockNumber: resolve, onError: reject }));
await socket.getBlockNumber();
await new Promise((resolve) => setTimeout(resolve, 100));
await mined(await writer.sendTransaction({ to: bob, value: 1n }));
check((await heads) > 0n, "newHeads");
console.log("viem ok");
process.exit(0);
