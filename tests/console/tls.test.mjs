// The gateway's own TLS, where Chromium speaks HTTP/2: forms are taken, and cookies are of this host alone.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { calm, launch, person, signUp } from "./browser.mjs";
import { serve } from "./gateway.mjs";

test("over TLS the session's cookie is of this host alone", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "knockx-tls-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const [certificate, key] = [join(folder, "certificate.pem"), join(folder, "key.pem")];
  execFileSync("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
    "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate], { stdio: "ignore" });
  const gateway = await serve(t, { config: `[listener]\ntls_certificate = "${certificate}"\ntls_key = "${key}"\n` });
  const base = gateway.base.replace("http:", "https:");
  const visitor = await person(await launch(t), base, { ignoreHTTPSErrors: true });
  await signUp(visitor, { email: "tls@example.com", password: "correct horse battery" });
  const { page } = visitor;
  await page.goto("/console");
  assert.equal(await page.evaluate(() => performance.getEntriesByType("navigation")[0].nextHopProtocol), "h2");
  const [cookie] = (await visitor.context.cookies()).filter(({ name }) => name.endsWith("kx"));
  assert.equal(cookie.name, "__Host-kx");
  assert.ok(cookie.secure && cookie.httpOnly && cookie.path === "/", cookie);
  assert.match(await page.locator(".snippets pre").first().textContent(), new RegExp(`${base}/v1/`));
  await page.getByRole("button", { name: "Log out" }).click();
  await page.waitForURL("**/console/login");
  calm(visitor, "over TLS");
});
