// Another site, which a logged-in admin visits, can neither frame the console nor send its forms nor read it.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";
import { launch, logIn, person } from "./browser.mjs";
import { demo } from "./gateway.mjs";

test("other sites cannot use the session", async (t) => {
  const gateway = await demo(t);
  const victim = await person(await launch(t), gateway.base);
  await logIn(victim, gateway.admin);
  const { page } = victim;
  await page.goto("/console");
  const csrf = await page.locator("input[name=csrf]").first().getAttribute("value");
  const cookies = await victim.context.cookies();
  const session = cookies.find(({ name }) => name === "kx");
  assert.ok(session.httpOnly && session.sameSite === "Lax", session);
  assert.equal(await page.evaluate(() => document.cookie), "");

  const evil = createServer((_, reply) => {
    reply.setHeader("content-type", "text/html");
    reply.end(`<title>evil</title><form method=post action="${gateway.base}/console/logout">
      <input name=csrf value="${csrf}"></form><iframe src="${gateway.base}/console"></iframe>`);
  }).listen(0, "127.0.0.1");
  t.after(() => evil.close());
  await new Promise((ready) => evil.once("listening", ready));
  const { port } = evil.address();

  // The second is the same site for cookies, but another origin.
  for (const host of ["localhost", "127.0.0.1"]) {
    await page.goto(`http://${host}:${port}/`);
    const frame = page.frames().find((frame) => frame !== page.mainFrame());
    await assert.rejects(frame.locator("nav").waitFor({ timeout: 500 }), `a frame at ${host}`);
    const read = await page.evaluate((url) => fetch(url, { credentials: "include" }).then((r) => r.text()).catch(String), `${gateway.base}/console`);
    assert.match(read, /TypeError/, `read from ${host}`);
    const [reply] = await Promise.all([
      page.waitForResponse((reply) => reply.url().endsWith("/console/logout")),
      page.waitForURL("**/console/logout"),
      page.evaluate(() => document.forms[0].submit()),
    ]);
    assert.equal(reply.status(), 403, `a form from ${host}`);
    await page.goto(`${gateway.base}/console`);
    assert.equal(new URL(page.url()).pathname, "/console", "still logged in");
  }
});
