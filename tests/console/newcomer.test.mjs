// A newcomer: an account, a key, a call from a terminal and one from the playground, and another plan.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";
import { calm, launch, person, signUp } from "./browser.mjs";
import { demo } from "./gateway.mjs";

test("a newcomer makes a first call and moves up", async (t) => {
  const gateway = await demo(t);
  const newcomer = await person(await launch(t), gateway.base);
  const { page } = newcomer;

  await page.goto("/");
  await page.waitForURL("**/console/login**");
  await page.getByRole("link", { name: "Sign up" }).click();
  const key = await signUp(newcomer, { email: "newcomer@example.com", password: "correct horse battery" });

  const snippet = await page.locator(".snippets pre").first().textContent();
  assert.ok(snippet.includes(key), snippet);
  const { stdout } = await promisify(execFile)("bash", ["-c", snippet.replace("curl", "curl -sS")], { timeout: 30_000 });
  assert.match(stdout, /data: \[DONE\]/);

  await page.getByRole("link", { name: "Go to the overview" }).click();
  const used = async () => Number((await page.locator(".meter .value").first().textContent()).split("/")[0].replaceAll(",", ""));
  assert.ok((await used()) > 0, "the meter has moved");

  await page.goto("/console/playground");
  await page.fill("#key", key);
  await page.fill("#message", "Hello!");
  await page.click("#send");
  await page.locator("#receipt").waitFor();
  await page.getByText("Done.").waitFor();
  assert.match(await page.locator("#numbers").textContent(), /Tokens: \d+ input, \d+ output/);
  assert.ok((await page.locator("#answer").textContent()).length > 10);

  await page.goto("/console/plans");
  await page.locator("main a[href='/console/plans/leveler']").click();
  await page.getByRole("button", { name: "Ask for this plan" }).click();
  await page.locator("main").getByText("Asked for", { exact: true }).waitFor();
  await approveAll(gateway);
  await page.goto("/console");
  assert.equal(await page.locator(".resets strong").textContent(), "leveler");
  assert.ok((await used()) > 0, "what was used stays used");
  calm(newcomer, "as a newcomer");
});

/** Approves, as an admin, all that users have asked for. */
async function approveAll({ base, admin }) {
  const ask = async (method, path, token, body) => {
    const headers = { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) };
    const reply = await fetch(`${base}/api/v1/${path}`, { method, headers, body: body && JSON.stringify(body) });
    assert.ok(reply.ok, `${path}: ${reply.status}`);
    return reply.json();
  };
  const { access_token: token } = await ask("POST", "users/login", null, admin);
  const { data } = await ask("GET", "admin/upgrades?status=pending", token);
  assert.equal(data.length, 1);
  await ask("POST", `admin/upgrades/${data[0].id}/approve`, token);
}
