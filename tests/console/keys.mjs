// Keys by the form, as a person makes them.

import assert from "node:assert/strict";

/** Makes a key of this name, from wherever one is; gives the key, which is shown once. */
export async function makeKey(page, name) {
  await page.goto("/console/keys");
  await page.locator("main a[href='/console/keys/new']").click();
  await fillKey(page, name);
  const key = await page.locator("main .key code").first().textContent();
  assert.match(key, /^sk-kx-/);
  return key;
}

/** Fills and sends the form of a new key. */
export async function fillKey(page, name) {
  await page.fill("main input[name=name]", name);
  await page.locator("main form button").first().click();
}
