// A seller: the first admin, a plan, a user on it, its suspension, and what the audit log says about all that.

import assert from "node:assert/strict";
import { test } from "node:test";
import { calm, launch, person, signUp } from "./browser.mjs";
import { serve } from "./gateway.mjs";

const ADMIN = { email: "seller@example.com", password: "correct horse battery staple" };
const USER = { email: "buyer@example.com", password: "correct horse battery" };

test("a seller sets up a service and runs it from the screen", async (t) => {
  const gateway = await serve(t);
  const browser = await launch(t);
  const seller = await person(browser, gateway.base);
  const { page } = seller;

  await page.goto(await gateway.log(/(\/console\/setup[^\s"\\,]*)/));
  await page.fill("input[name=email]", ADMIN.email);
  await page.fill("input[type=password]", ADMIN.password);
  await page.click("main button");
  await page.waitForURL((url) => !url.pathname.startsWith("/console/setup"));
  const enter = (name) => page.locator("header nav ul").last().getByRole("link", { name, exact: true }).click();

  await enter("Plans");
  await page.getByRole("link", { name: "Add a plan" }).click();
  const plan = { id: "gold", name: "Gold", price: "25", tokens: "50000", requests: "500", window_requests: "60", window_seconds: "60", streams: "5" };
  for (const [name, value] of Object.entries(plan)) await page.fill(`main input[name=${name}]`, value);
  await page.locator("main form button").last().click();
  await page.getByText("Gold").first().waitFor();

  const buyer = await person(browser, gateway.base);
  const key = await signUp(buyer, USER);
  assert.equal(await call(gateway, key), 200);

  await enter("Users");
  await page.fill("main input[name=search]", "buyer");
  await page.locator("main form[role=search] button").click();
  await page.getByRole("link", { name: USER.email }).click();
  await page.locator("main select[name=plan]").selectOption("gold");
  await page.getByRole("button", { name: "Set the plan" }).click();
  await page.locator("[role=status]").first().waitFor();
  await buyer.page.goto("/console");
  assert.match(await buyer.page.locator(".meter .value").first().textContent(), /50,000/);

  await page.getByRole("button", { name: "Suspend" }).click();
  await page.getByRole("button", { name: "Resume" }).waitFor();
  assert.equal(await call(gateway, key), 401, "the suspended user's key");
  await buyer.page.goto("/console");
  assert.equal(new URL(buyer.page.url()).pathname, "/console/login");
  await page.getByRole("button", { name: "Resume" }).click();
  await page.getByRole("button", { name: "Suspend" }).waitFor();
  assert.equal(await call(gateway, key), 200);

  await enter("Audit");
  const audit = await page.locator("main").textContent();
  for (const change of ["suspended", "gold", USER.email]) assert.ok(audit.includes(change), `the audit log tells of ${change}`);
  calm(seller, "as a seller");
});

/** The status of a call with this key. */
async function call({ base }, key) {
  const body = JSON.stringify({ model: "grok-4.3", max_tokens: 5, messages: [{ role: "user", content: "Hello!" }] });
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  const reply = await fetch(`${base}/v1/chat/completions`, { method: "POST", headers, body });
  await reply.arrayBuffer();
  return reply.status;
}
