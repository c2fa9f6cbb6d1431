// Language, colours, and times in the reader's own zone.

import assert from "node:assert/strict";
import { test } from "node:test";
import { calm, launch, logIn, person } from "./browser.mjs";
import { accessible } from "./checks.mjs";
import { demo } from "./gateway.mjs";

test("a choice of language and colours holds, and times are those of the reader", async (t) => {
  const gateway = await demo(t);
  const browser = await launch(t);
  const reader = await person(browser, gateway.base, { timezoneId: "Asia/Shanghai", locale: "en-GB" });
  const { page } = reader;
  await page.goto("/console/login");
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await ground();
  await page.locator("footer select[name=theme]").selectOption("dark");
  await page.waitForFunction(() => document.documentElement.dataset.theme === "dark");
  const dark = await ground();
  assert.notEqual(dark, light);
  await page.emulateMedia({ colorScheme: "dark" });
  await page.locator("footer select[name=theme]").selectOption("light");
  await page.waitForFunction(() => document.documentElement.dataset.theme === "light");
  assert.equal(await ground(), light, "the choice counts more than the system");
  await page.locator("footer select[name=language]").selectOption("zh-CN");
  await page.waitForFunction(() => document.documentElement.lang === "zh-CN");
  await page.locator("footer select[name=language]").selectOption("en");
  await page.waitForFunction(() => document.documentElement.lang === "en");

  await logIn(reader, gateway.caller);
  // Midnight in UTC, which is when the demo's day ends.
  const reset = page.locator(".resets time");
  assert.match(await reset.getAttribute("datetime"), /T00:00:00Z$/);
  assert.match(await reset.textContent(), /\b8:00|08:00/);
  calm(reader, "about preferences");
});

test("on a phone the menu is behind a button, also without a script", async (t) => {
  const gateway = await demo(t);
  const browser = await launch(t);
  for (const javaScriptEnabled of [true, false]) {
    const phone = await person(browser, gateway.base, { viewport: { width: 360, height: 720 }, javaScriptEnabled });
    await logIn(phone, gateway.admin);
    const { page } = phone;
    const entry = page.locator("header nav a").first();
    assert.ok(!(await entry.isVisible()));
    await page.getByRole("button", { name: "Menu" }).click();
    assert.ok(await entry.isVisible());
    if (javaScriptEnabled) await accessible(page, "with the menu open");
    await page.keyboard.press("Escape");
    assert.ok(!(await entry.isVisible()));
    await page.getByRole("button", { name: "Menu" }).click();
    await page.getByRole("button", { name: "Log out" }).click();
    await page.waitForURL("**/console/login");
    calm(phone, "about the menu");
  }
});
