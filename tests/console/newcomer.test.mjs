// A newcomer: an account, a key, a call from a terminal, and another plan.

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
  calm(newcomer, "as a newcomer");
});
