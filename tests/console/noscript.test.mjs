// With JavaScript off everything but the playground works: an account, a key, and both ends of a session.

import assert from "node:assert/strict";
import { test } from "node:test";
import { calm, launch, logIn, person, signUp } from "./browser.mjs";
import { demo } from "./gateway.mjs";
import { makeKey } from "./keys.mjs";

test("without JavaScript one signs up, logs in, makes a key and logs out", async (t) => {
  const gateway = await demo(t);
  const visitor = await person(await launch(t), gateway.base, { javaScriptEnabled: false });
  const { page } = visitor;
  const account = { email: "plain@example.com", password: "correct horse battery" };
  await signUp(visitor, account);

  const logOut = () => page.getByRole("button", { name: "Log out" }).click();
  await logOut();
  await page.waitForURL("**/console/login");
  await logIn(visitor, account);

  await page.getByRole("navigation").getByRole("link", { name: "Keys", exact: true }).click();
  await page.waitForURL("**/console/keys");
  await makeKey(page, "without a script");
  await page.goto("/console/keys");
  await page.getByText("without a script").first().waitFor();

  await page.locator("footer select[name=theme]").selectOption("dark");
  await page.locator("footer button").click();
  assert.equal(await page.locator("html").getAttribute("data-theme"), "dark");
  assert.equal(new URL(page.url()).pathname, "/console/keys");

  await logOut();
  await page.goto("/console/keys");
  assert.equal(new URL(page.url()).pathname, "/console/login");
  calm(visitor, "without JavaScript");
});
