// By keyboard alone: log in, reach each page of the navigation, make a key. What has the focus shows it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { calm, launch, person } from "./browser.mjs";
import { focused } from "./checks.mjs";
import { demo } from "./gateway.mjs";

const MOST_STEPS = 120;

test("everything is reached by keyboard, and shows where one is", async (t) => {
  const gateway = await demo(t);
  const visitor = await person(await launch(t), gateway.base);
  const { page } = visitor;
  await page.goto("/console");
  await typeInto(page, ({ name }) => name === "email", gateway.admin.email);
  await typeInto(page, ({ name }) => name === "password", gateway.admin.password);
  await page.keyboard.press("Enter");
  await page.waitForURL((url) => url.pathname === "/console");

  // The first stop leads past the navigation.
  const skip = await step(page);
  assert.equal(skip.href, "#main");
  await page.keyboard.press("Enter");
  const inMain = await step(page);
  assert.ok(await page.evaluate(() => document.activeElement.closest("main") !== null), inMain);

  const entries = await page.locator("header nav a").evaluateAll((links) => links.map((link) => link.getAttribute("href")));
  assert.ok(entries.length > 1, entries);
  for (const entry of entries) {
    await page.goto("/console");
    await reach(page, ({ href }) => href === entry);
    const loaded = page.waitForEvent("load");
    await page.keyboard.press("Enter");
    await loaded;
    await everyStop(page);
  }

  await page.goto("/console/keys");
  await reach(page, ({ href }) => href === "/console/keys/new");
  await page.keyboard.press("Enter");
  await page.waitForURL("**/console/keys/new");
  await typeInto(page, ({ name }) => name === "name", "by keyboard");
  await page.keyboard.press("Enter");
  assert.match(await page.locator("main .key code").first().textContent(), /^sk-kx-/);
  calm(visitor, "by keyboard");
});

async function step(page) {
  await page.keyboard.press("Tab");
  const at = await focused(page);
  assert.ok(at === null || at.isVisible, `the focus is not seen on ${page.url()}: ${JSON.stringify(at)}`);
  return at;
}

/** Goes on until something has the focus that fits. */
async function reach(page, fits) {
  const now = await focused(page);
  if (now && fits(now)) return;
  for (let steps = 0; steps < MOST_STEPS; steps++) {
    const at = await step(page);
    if (at && fits(at)) return;
  }
  assert.fail(`not reached by keyboard on ${page.url()}: ${fits}`);
}

async function typeInto(page, fits, text) {
  await reach(page, fits);
  await page.keyboard.type(text);
}

/** Once around the page: all that can be used is reached, and the focus gets stuck nowhere. */
async function everyStop(page) {
  const usable = await page.evaluate(() => {
    const found = document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary");
    const shown = [...found].filter((e) => e.checkVisibility({ visibilityProperty: true }) && !e.disabled && e.tabIndex >= 0);
    shown.forEach((e, at) => { e.dataset.stop = at; });
    return shown.length;
  });
  const reached = new Set();
  await page.evaluate(() => document.activeElement?.blur());
  // A date has four stops of its own.
  for (let steps = 0; steps < usable + 20; steps++) {
    await step(page);
    reached.add(await page.evaluate(() => document.activeElement?.dataset.stop));
  }
  // Of a group of radio buttons one is a stop.
  const left = await page.evaluate((reached) => {
    const all = [...document.querySelectorAll("[data-stop]")].filter((e) => !reached.includes(e.dataset.stop));
    return all.filter((e) => e.type !== "radio").map((e) => e.outerHTML.slice(0, 120));
  }, [...reached]);
  assert.deepEqual(left, [], `never reached by keyboard on ${page.url()}`);
}
