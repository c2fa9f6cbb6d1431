// A session whose password was entered long ago asks for it again before a sensitive change.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { calm, launch, logIn, person } from "./browser.mjs";
import { accessible, fits, named } from "./checks.mjs";
import { demo } from "./gateway.mjs";
import { fillKey, makeKey } from "./keys.mjs";

const AGE = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=10); "
  + "c.execute(\"update session set confirmed_at = created_at - 3600000 where kind = 'console'\"); c.commit()";

test("the password is asked for again after a while", async (t) => {
  const gateway = await demo(t);
  const caller = await person(await launch(t), gateway.base, { viewport: { width: 360, height: 720 } });
  const { page } = caller;
  await logIn(caller, gateway.caller);
  execFileSync("python3", ["-c", AGE, join(gateway.folder, "data", "knockx.db")]);

  await page.goto("/console/keys/new");
  // The page may ask before it shows its form, or when that is sent.
  if (!page.url().includes("/confirm")) await fillKey(page, "too late");
  await page.waitForURL("**/console/confirm**");
  for (const check of [accessible, fits]) await check(page, "where the password is asked for");
  await named(page, "where the password is asked for", "en");
  await page.fill("input[name=password]", "a wrong one");
  await page.click("main button");
  await page.getByRole("alert").waitFor();
  caller.problems.length = 0;
  await page.fill("input[name=password]", gateway.caller.password);
  await page.click("main button");
  await page.waitForURL("**/console/keys**");
  await makeKey(page, "in time");
  await page.goto("/console/keys");
  assert.ok((await page.locator("main").textContent()).includes("in time"));
  calm(caller, "about the confirmation");
});
