// Every page of visitors and of users.

import { test } from "node:test";
import { demo } from "./gateway.mjs";
import { lookAtAll } from "./look.mjs";

test("every page looks right everywhere", async (t) => {
  const people = { visitor: ["/console/login", "/console/signup", "/console/nothing"], caller: ["/console"] };
  await lookAtAll(t, await demo(t), people, (route) => !/^\/console\/admin($|\/)/.test(route));
});
