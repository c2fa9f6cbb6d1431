// What must hold for the page that is shown, whichever it is.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
const MOST_SHIFT = 0.05;

/** axe finds nothing serious or critical. `tags` narrows what it looks for. */
export async function accessible(page, where, only) {
  if (!(await page.evaluate(() => "axe" in window))) await page.evaluate(AXE);
  const runOnly = only ? { type: "rule", values: only } : { type: "tag", values: RULES };
  const violations = await page.evaluate(async (runOnly) => {
    const { violations } = await window.axe.run(document, { runOnly, resultTypes: ["violations"] });
    const shown = ({ id, impact, nodes }) => `${impact} ${id}: ${nodes.map(({ html }) => html.slice(0, 160)).slice(0, 3).join("  ")}`;
    return violations.filter(({ impact }) => ["serious", "critical"].includes(impact)).map(shown);
  }, runOnly);
  assert.deepEqual(violations, [], `what axe finds ${where}`);
}

/** The body is not wider than the window, nor is anything in it that a finger cannot scroll. */
export async function fits(page, where) {
  const wide = await page.evaluate(() => {
    const { scrollWidth, clientWidth } = document.documentElement;
    if (scrollWidth <= clientWidth) return [];
    const over = [...document.body.querySelectorAll("*")].filter((e) => e.getBoundingClientRect().right > clientWidth + 1);
    return [`${scrollWidth} px of ${clientWidth}`, ...over.slice(0, 4).map((e) => e.outerHTML.slice(0, 120))];
  });
  assert.deepEqual(wide, [], `what is too wide ${where}`);
}

/** Nothing has moved after it was drawn. */
export async function steady(page, where) {
  const shift = await page.evaluate(() => new Promise((done) => {
    requestAnimationFrame(() => requestAnimationFrame(() => done(window.layoutShift)));
  }));
  assert.ok(shift < MOST_SHIFT, `layout shift of ${shift} ${where}`);
}

/** One main heading, a title, and a label for each language. */
export async function named(page, where, lang) {
  const seen = await page.evaluate(() => ({
    headings: document.querySelectorAll("h1").length,
    title: document.title,
    lang: document.documentElement.lang,
  }));
  assert.equal(seen.headings, 1, `main headings ${where}`);
  assert.match(seen.title, /^.+ · KnockXPrime$/, `title ${where}`);
  assert.equal(seen.lang, lang, `language ${where}`);
}

const CHINESE = readChinese();
const PATTERNS = [...CHINESE.keys()].filter((text) => text.includes("{}") && /[A-Za-z]{3}/.test(text)).map((text) => {
  const parts = text.split("{}").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  return new RegExp(`^${parts.join(".+?")}$`);
});

function readChinese() {
  const file = readFileSync(join(process.env.KNOCKX_SOURCE, "src/console/locales/zh.toml"), "utf8");
  const lines = [...file.matchAll(/^"((?:[^"\\]|\\.)*)" = "((?:[^"\\]|\\.)*)"$/gm)];
  assert.ok(lines.length > 50, "texts of zh.toml");
  const pairs = lines.map(([, english, chinese]) => [JSON.parse(`"${english}"`), JSON.parse(`"${chinese}"`)]);
  return new Map(pairs.filter(([english, chinese]) => english !== chinese));
}

/** No text that has a translation is shown in English, and no other English sentence either. */
export async function translated(page, where) {
  const left = (await texts(page)).filter((text) => {
    const sentence = /(?:\b[a-z]+(?:'[a-z]+)?,? ){4}[a-z]+\b/i.test(text);
    return CHINESE.has(text) || sentence || PATTERNS.some((pattern) => pattern.test(text));
  });
  assert.deepEqual(left, [], `English ${where}`);
}

/** What a person sees or hears of a page, outside of code and of what is marked as another language. */
async function texts(page) {
  const found = await page.evaluate(() => {
    const skipped = "pre, code, script, style, [lang]:not(html), [translate=no]";
    const all = [document.title.replace(" · KnockXPrime", "")];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      if (!node.parentElement.closest(skipped)) all.push(node.data);
    }
    for (const element of document.body.querySelectorAll("[aria-label], [title], [placeholder], [alt], [data-label]")) {
      if (element.closest(skipped)) continue;
      for (const name of ["aria-label", "title", "placeholder", "alt", "data-label"]) all.push(element.getAttribute(name) ?? "");
    }
    return all;
  });
  return [...new Set(found.map((text) => text.replace(/\s+/g, " ").trim()).filter(Boolean))];
}

/** Counts the bytes that come over the wire; each page as if it were the first. */
export async function meter(page) {
  const session = await page.context().newCDPSession(page);
  await session.send("Network.enable");
  await session.send("Network.setCacheDisabled", { cacheDisabled: true });
  let bytes = 0;
  session.on("Network.loadingFinished", ({ encodedDataLength }) => { bytes += encodedDataLength; });
  return () => { const sum = bytes; bytes = 0; return sum; };
}

/** What has the focus shows it, and is on the screen. Gives a description of it. */
export async function focused(page) {
  return page.evaluate(() => {
    const element = document.activeElement;
    if (!element || element === document.body) return null;
    const style = getComputedStyle(element);
    const outlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
    const { width, height, bottom, top, left, right } = element.getBoundingClientRect();
    return {
      tag: element.localName,
      name: element.name ?? "",
      href: element.getAttribute("href") ?? "",
      text: (element.textContent ?? "").trim().slice(0, 60),
      isVisible: outlined && width > 0 && height > 0 && bottom > 0 && top < innerHeight && right > 0 && left < innerWidth,
    };
  });
}
