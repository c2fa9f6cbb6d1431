// Drives the gateway with the real Node clients, as an application would.
//
// Run by `scripts/sdk`, once for each client:
//
//     node suite.mjs openai4|openai6|openai7|ai|ai-openai|xai|xai3 CONTEXT.json [CASE…]
//
// The context names the base address, the keys and the simulator behind the gateway; `target` is
// `gateway`, or `simulator` when the clients talk to the simulator itself, which knows no quotas.
// Each case prints `ok NAME` or `FAIL NAME reason`; the last line counts them.

import { aiCases, PROVIDERS } from "./ai_cases.mjs";
import { client, wanted, ctx, cases, Skip } from "./harness.mjs";
import { openaiCases } from "./openai_cases.mjs";

async function run({ name, run }) {
  try {
    const told = await run();
    console.log(`ok ${name}` + (told ? ` (${told})` : ""));
    return true;
  } catch (error) {
    if (error instanceof Skip) {
      console.log(`skip ${name} ${error.message}`);
      return null;
    }
    console.log(`FAIL ${name} ${error.constructor.name}: ${String(error.message).slice(0, 600)}`);
    return false;
  }
}

await (PROVIDERS[client] ? aiCases(PROVIDERS[client]) : openaiCases((await import(client)).default));
const results = [];
for (const one of cases) {
  const fits = (!one.target || one.target === ctx.target) && (!wanted.length || wanted.includes(one.name));
  if (fits) results.push(await run(one));
}
const passed = results.filter((result) => result === true).length;
const failed = results.filter((result) => result === false).length;
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed || !passed ? 1 : 0);
