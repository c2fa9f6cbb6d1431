// Every page of visitors and of users.

import { test } from "node:test";
import { demo } from "./gateway.mjs";
import { lookAtAll } from "./look.mjs";

// Forms that a page shows only with a mail server, or once a second factor is being set up or on.
const NOT_YET = ["/console/account/verify", ...["set-up", "codes", "off"].map((act) => `/console/account/second-factor/${act}`)];

test("every page looks right everywhere", async (t) => {
  const people = { visitor: ["/console/login", "/console/signup", "/console/nothing"], caller: ["/console"] };
  await lookAtAll(t, await demo(t), people, (route) => !/^\/console\/admin($|\/)/.test(route) && !NOT_YET.includes(route));
});
