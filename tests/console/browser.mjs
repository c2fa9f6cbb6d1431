// Chromium as a person uses it, and what it complains about.

import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
// A style sheet to try without a build, in place of the gateway's.
const STYLE = process.env.STYLE;

/** One Chromium of the test `t`. */
export async function launch(t) {
  const browser = await chromium.launch({
    executablePath: CHROMIUM,
    args: ["--font-render-hinting=none", "--disable-lcd-text", "--force-color-profile=srgb", "--disable-dev-shm-usage"],
  });
  t.after(() => browser.close());
  return browser;
}

/**
 * A person at one device: a browser context whose complaints end up in `problems`. `options` are those of
 * Playwright's `newContext`.
 */
export async function person(browser, base, options = {}) {
  const context = await browser.newContext({
    baseURL: base,
    locale: "en-US",
    timezoneId: "UTC",
    viewport: { width: 1280, height: 800 },
    ...options,
  });
  context.setDefaultTimeout(15_000);
  if (STYLE) await context.route("**/console/assets/console-*.css", (route) => route.fulfill({ path: STYLE }));
  const problems = [];
  context.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) problems.push(`${message.type()}: ${message.text()}`);
  });
  context.on("weberror", (error) => problems.push(`script: ${error.error()}`));
  context.on("dialog", (dialog) => {
    problems.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  await context.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", ({ effectiveDirective, blockedURI, sample }) => {
      console.error(`policy: ${effectiveDirective} blocked ${blockedURI} ${sample}`);
    });
    window.layoutShift = 0;
    const added = (list) => {
      for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.layoutShift += entry.value;
    };
    new PerformanceObserver(added).observe({ type: "layout-shift", buffered: true });
  });
  return { context, problems, page: await context.newPage() };
}

/** The browser has not complained about anything. */
export function calm({ problems }, where) {
  assert.deepEqual(problems.splice(0), [], `what Chromium complains about ${where}`);
}

/** Logs in by the form. */
export async function logIn({ page }, { email, password }) {
  await page.goto("/console/login");
  await page.fill("input[name=email]", email);
  await page.fill("input[name=password]", password);
  await page.click("main button");
  await page.waitForURL((url) => !url.pathname.startsWith("/console/login"));
}

/** A new account; gives its first API key, which is shown once. */
export async function signUp({ page }, { email, password }) {
  await page.goto("/console/signup");
  await page.fill("input[name=email]", email);
  await page.fill("input[name=password]", password);
  await page.click("main button");
  const key = await page.locator("main .key code").first().textContent();
  assert.match(key, /^sk-kx-/);
  return key;
}

/** Sends a form to `path` with the cookies and the token of this person, as a page would. */
export async function send({ context, page }, path, fields = {}) {
  const origin = new URL(page.url()).origin;
  const csrf = await page.locator("input[name=csrf]").first().getAttribute("value");
  return context.request.post(origin + path, {
    form: { csrf, ...fields },
    headers: { origin, "sec-fetch-site": "same-origin" },
    maxRedirects: 0,
    failOnStatusCode: false,
  });
}
