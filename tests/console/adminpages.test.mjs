// Every page of admins.

import { test } from "node:test";
import { demo } from "./gateway.mjs";
import { lookAtAll } from "./look.mjs";

// The demo has no announcement.
const NEEDS_ONE = "/console/admin/announcements/{id}";

test("every page of admins looks right everywhere", async (t) => {
  await lookAtAll(t, await demo(t), { admin: ["/console"] }, (route) => /^\/console\/admin($|\/)/.test(route) && route !== NEEDS_ONE);
});
