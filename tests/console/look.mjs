// One page after the other, narrow and wide, in both languages, in light and dark.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { calm, launch, logIn, person } from "./browser.mjs";
import { accessible, fits, meter, named, steady, translated } from "./checks.mjs";
import { pagesFrom, routes } from "./routes.mjs";

const SCREENSHOTS = process.env.SCREENSHOTS;
const ENGLISH = { locale: "en-US", lang: "en" };
const CHINESE = { locale: "zh-CN", lang: "zh-CN" };
// Each width and each language once; with --every-look each width in each language, and pictures of the dark pages too.
// What axe says of them is asserted in either case.
const PAIRS = [[CHINESE, 360], [ENGLISH, 1280]];
const LOOKS = process.env.EVERY_LOOK ? [...PAIRS, [ENGLISH, 360], [CHINESE, 1280]] : PAIRS;
const FIRST_PAGE_BYTES = 60_000;
const PAGE_BYTES = 150_000;

// What no link leads to, because a letter, a form or another page does; and where it is walked through.
const LED_TO = new Map(Object.entries({
  "/console/assets/{file}": "a file of every page",
  "/console/confirm": "before sensitive changes: confirm.test.mjs",
  "/console/confirm/provider": "a sign-in provider, which the demo has not",
  "/console/oidc/start": "the same",
  "/console/oidc/callback": "the same",
  "/console/login/code": "the same",
  "/console/account/first-password": "the same",
  "/console/setup": "a line of the log",
  "/console/verify": "a mail",
  "/console/reset": "a mail",
  "/console/invitation": "a mail",
}));

/**
 * Looks at all pages that these people find: `people` has where each begins, by who they are in the demo. All
 * routes that `isHere` accepts must be found by one of them.
 */
export async function lookAtAll(t, gateway, people, isHere) {
  mkdirSync(SCREENSHOTS, { recursive: true });
  const browser = await launch(t);
  const seen = new Set();
  for (const [who, starts] of Object.entries(people)) {
    const first = await entered(browser, gateway, who);
    const { pages, found } = await pagesFrom(first, gateway.base, starts);
    found.forEach((route) => seen.add(route));
    const state = await first.context.storageState();
    await first.context.close();
    const here = pages.filter(({ route }) => isHere(route));
    for (const [{ locale, lang }, width] of LOOKS) {
      const viewport = { width, height: width < 600 ? 720 : 800 };
      const visitor = await person(browser, gateway.base, { locale, viewport, storageState: state });
      const bytes = await meter(visitor.page);
      for (const page of here) await t.test(`${who} ${page.path} ${width} px ${lang}`, () => look(visitor, bytes, page, { who, width, lang }));
      await visitor.context.close();
    }
  }
  const readable = routes().filter(({ methods, path }) => methods.includes("get") && isHere(path) && !LED_TO.has(path));
  assert.deepEqual(readable.map(({ path }) => path).filter((path) => !seen.has(path)), [], "routes that no page links to");
}

async function entered(browser, gateway, who) {
  const someone = await person(browser, gateway.base);
  if (who !== "visitor") await logIn(someone, gateway[who]);
  return someone;
}

async function look(visitor, bytes, { path, route, status }, { who, width, lang }) {
  const { page } = visitor;
  const where = `on ${path} at ${width} px in ${lang}`;
  bytes();
  const reply = await page.goto(path, { waitUntil: "load" });
  assert.equal(reply.status(), status, where);
  const most = who === "visitor" ? FIRST_PAGE_BYTES : PAGE_BYTES;
  const came = bytes();
  assert.ok(came > 1000 && came < most, `${came} bytes over the wire ${where}`);
  await named(page, where, lang);
  await steady(page, where);
  await fits(page, where);
  if (lang === "zh-CN") await translated(page, where);
  await accessible(page, where);
  await shoot(page, route, who, `${width}-${lang}-light`);
  await page.emulateMedia({ colorScheme: "dark" });
  await accessible(page, `${where} in dark`, ["color-contrast"]);
  if (process.env.EVERY_LOOK) await shoot(page, route, who, `${width}-${lang}-dark`);
  await page.emulateMedia({ colorScheme: "light" });
  if (status === 404) visitor.problems.length = 0;
  calm(visitor, where);
}

// Hiding the caret or animations would add a style, which the policy of the pages forbids.
async function shoot(page, route, who, kind) {
  const name = route.replace("/console", who).replace(/[^a-z]+/g, "-").replace(/-$/, "");
  await page.screenshot({ path: join(SCREENSHOTS, `${name}-${kind}.png`), fullPage: true, caret: "initial" });
}
