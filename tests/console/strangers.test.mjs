// Two people in two browsers: neither sees, reads or changes anything of the other.

import assert from "node:assert/strict";
import { test } from "node:test";
import { launch, logIn, person, send, signUp } from "./browser.mjs";
import { demo } from "./gateway.mjs";
import { makeKey } from "./keys.mjs";
import { linksOf, pagesFrom, routeOf, routes } from "./routes.mjs";

test("a user's things are not there for another user", async (t) => {
  const gateway = await demo(t);
  const browser = await launch(t);
  const owner = await person(browser, gateway.base);
  await logIn(owner, gateway.caller);
  await makeKey(owner.page, "of the owner alone");
  const stranger = await person(browser, gateway.base);
  await signUp(stranger, { email: "stranger@example.com", password: "correct horse battery" });

  const theirs = await pagesFrom(owner, gateway.base, ["/console", "/console/keys"]);
  const mine = await pagesFrom(stranger, gateway.base, ["/console"]);
  const paths = theirs.links.map((link) => link.split("?")[0]);
  const withId = [...new Set(paths)].filter((path) => routeOf(routes(), path)?.path.includes("{"));
  const shared = new Set(mine.links.map((link) => link.split("?")[0]));
  // Plans are for all users, also those that a page of the owner alone links to.
  const own = withId.filter((path) => !shared.has(path) && !path.startsWith("/console/plans/"));
  assert.ok(own.length > 1, `paths with an id of the owner: ${paths}`);

  await stranger.page.goto("/console");
  for (const path of own) {
    const { methods } = routeOf(routes(), path);
    if (methods.includes("get")) {
      const reply = await stranger.context.request.get(gateway.base + path, { maxRedirects: 0 });
      assert.equal(reply.status(), 404, `GET ${path}`);
    }
    if (methods.includes("post")) {
      for (const fields of [{}, { name: "taken over", password: "correct horse battery" }]) {
        const reply = await send(stranger, path, fields);
        assert.ok([404, 422].includes(reply.status()), `POST ${path}: ${reply.status()}`);
      }
      const whole = await send(stranger, path, formFields(theirs.pages, path));
      assert.equal(whole.status(), 404, `POST ${path} with what its form holds`);
    }
  }
  // Nothing was changed by it.
  const after = await pagesFrom(owner, gateway.base, ["/console", "/console/keys"]);
  const keys = after.pages.find(({ route }) => route === "/console/keys").text;
  assert.ok(keys.includes("of the owner alone") && !keys.includes("taken over"));
  for (const { path, text } of mine.pages) {
    assert.ok(!text.includes(gateway.caller.email) && !text.includes("of the owner alone"), path);
    for (const link of linksOf(text)) assert.ok(!own.includes(link.split("?")[0]), `${path} links to ${link}`);
  }
});

/** The fields of the form that is sent to `path`, as they are on the page. */
function formFields(pages, path) {
  for (const { text } of pages) {
    for (const [form, action] of text.matchAll(/<form[^>]*action="([^"]*)"[\s\S]*?<\/form>/g)) {
      if (action.split("?")[0] !== path) continue;
      const inputs = [...form.matchAll(/<input[^>]*name="([^"]*)"(?:[^>]*value="([^"]*)")?/g)];
      return Object.fromEntries(inputs.filter(([, name]) => name !== "csrf").map(([, name, value]) => [name, value ?? ""]));
    }
  }
  return {};
}
