// Markup in every text field of every form stays text on every page.

import assert from "node:assert/strict";
import { test } from "node:test";
import { calm, launch, logIn, person, signUp } from "./browser.mjs";
import { serve } from "./gateway.mjs";
import { pagesFrom } from "./routes.mjs";

const MARKUP = `"'><script>window.hacked=1</script><img src=x onerror=window.hacked=1>`;
const ADMIN = { email: "root@example.com", password: "correct horse battery staple" };
const USER = { email: "hostile@example.com", password: "correct horse battery" };

// They end what this test needs.
const ENDING = /\/(logout|delete|erase|suspend|preferences)\b/;

test("markup in text fields stays text", async (t) => {
  const gateway = await serve(t, { admin: ADMIN });
  const browser = await launch(t);
  const user = await person(browser, gateway.base);
  await signUp(user, USER);
  const admin = await person(browser, gateway.base);
  await logIn(admin, ADMIN);

  const visitor = await person(browser, gateway.base);
  let filled = 0;
  for (const someone of [visitor, user, admin]) {
    const { pages } = await pagesFrom(someone, gateway.base, ["/console", "/console/login"]);
    for (const { path } of pages) filled += await fillForms(someone, path);
  }
  assert.ok(filled > 5, `${filled} fields were filled`);

  for (const someone of [user, admin]) {
    const { pages } = await pagesFrom(someone, gateway.base, ["/console"]);
    someone.problems.length = 0;
    for (const { path } of pages) {
      await someone.page.goto(path, { waitUntil: "load" });
      const seen = await someone.page.evaluate(() => ({
        hacked: "hacked" in window,
        made: document.querySelectorAll("img, script:not([src])").length,
      }));
      assert.deepEqual(seen, { hacked: false, made: 0 }, path);
    }
    calm(someone, "about stored markup");
  }
});

/** Sends each form of a page with markup in one text field after the other; gives how many there were. */
async function fillForms({ page }, path) {
  await page.goto(path);
  return page.evaluate(async ([markup, ending]) => {
    const isText = (e) => e.matches("textarea, input:not([type]), input[type=text], input[type=search], input[type=email], input[type=url]");
    const samples = { email: "someone@example.com", number: "7", date: "2030-01-01", password: "correct horse battery", url: "https://example.com/" };
    const sample = (e) => e.value || samples[e.type] || `sample-${Math.random().toString(36).slice(2, 8)}`;
    let count = 0;
    for (const form of document.querySelectorAll("form")) {
      if (new RegExp(ending).test(form.getAttribute("action"))) continue;
      const texts = [...form.elements].filter((e) => e.name && isText(e));
      for (const field of texts) {
        const data = new FormData(form);
        for (const e of form.elements) if (e.name && e.required) data.set(e.name, sample(e));
        data.set(field.name, field.maxLength > 0 ? markup.slice(0, field.maxLength) : markup);
        const body = new URLSearchParams(data);
        const isPost = form.method === "post";
        await fetch(isPost ? form.action : `${form.action}?${body}`, isPost ? { method: "POST", body } : {});
        count++;
      }
    }
    return count;
  }, [MARKUP, ENDING.source]);
}
