// The pictures of docs/console.md, from the demo: `scripts/console-test --images`.

import { mkdirSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { launch, logIn, person } from "./browser.mjs";
import { demo } from "./gateway.mjs";

const UPNG = createRequire(import.meta.url)("upng-js");
const FOLDER = join(process.env.KNOCKX_SOURCE, "docs", "images");
const COLOURS = 128;
const MOST_BYTES = 80_000;

const PHONE = { viewport: { width: 360, height: 740 } };
const DESK = { viewport: { width: 1280, height: 860 } };

/** Name, who looks, at what, and on which device. */
const PICTURES = [
  ["overview", "caller", "/console", DESK],
  ["keys", "caller", "/console/keys", { ...DESK, colorScheme: "dark" }],
  ["usage", "caller", "/console/usage", DESK],
  ["phone", "caller", "/console", { ...PHONE, colorScheme: "dark", deviceScaleFactor: 2 }],
  ["admin", "admin", "/console/admin", DESK],
  ["users", "admin", "/console/admin/users", DESK],
  ["upstreams", "admin", "/console/admin/upstreams", DESK],
  ["chinese", "admin", "/console/admin/plans", { ...DESK, locale: "zh-CN" }],
];

const ends = [];
const t = { after: (end) => ends.unshift(end) };
try {
  mkdirSync(FOLDER, { recursive: true });
  const gateway = await demo(t);
  const browser = await launch(t);
  for (const [name, who, path, device] of PICTURES) {
    const someone = await person(browser, gateway.base, device);
    await logIn(someone, gateway[who]);
    await someone.page.goto(path);
    await someone.page.waitForLoadState("networkidle");
    const file = join(FOLDER, `console-${name}.png`);
    writeFileSync(file, small(await someone.page.screenshot({ caret: "initial" })));
    const { size } = statSync(file);
    if (size > MOST_BYTES) throw new Error(`${file} has ${size} bytes`);
    await someone.context.close();
  }
} finally {
  for (const end of ends) await end();
}

/** The picture with a palette, one byte a pixel. */
function small(png) {
  const { width, height, ...decoded } = UPNG.decode(png);
  const [rgba] = UPNG.toRGBA8({ width, height, ...decoded });
  return Buffer.from(UPNG.encode([rgba], width, height, COLOURS));
}
