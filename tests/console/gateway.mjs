// A gateway for each walk, in a folder of its own that goes with it.

import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createWriteStream } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const BINARY = process.env.KNOCKX;
const START_MS = 60_000;
const STOP_MS = 45_000;

// Nothing here is about throttling, which thousands of forms from one address would end in.
const CONFIG = `
host = "127.0.0.1"
port = 0
admin_port = 0
[accounts]
account_tries = 1000000
address_tries = 1000000
account_changes = 1000000
address_registrations = 1000000
[telemetry]
log_format = "json"
log_filter = "info"
[[upstreams]]
name = "xai"
base_url = "SIMULATOR/v1"
api_key = "sim-console"
`;

/** `knockx demo`, with an admin, a caller and thirty days of made-up usage. */
export async function demo(t) {
  const folder = await temporary(t);
  const child = await start(t, folder, ["demo", "--json", "--listen", "127.0.0.1:0", "--data-dir", join(folder, "data")]);
  const ready = JSON.parse(await child.line(/^\{.*"base_url".*\}$/m));
  const base = ready.base_url.replace(/\/v1$/, "");
  return {
    base,
    folder,
    admin: { email: ready.admin_email, password: ready.admin_password },
    caller: { email: ready.caller_email, password: ready.caller_password },
  };
}

/**
 * `knockx serve` on an empty store, with the simulator as its upstream. Without `admin` there is none yet;
 * `config` is added to the configuration.
 */
export async function serve(t, { admin, config = "" } = {}) {
  const folder = await temporary(t);
  const simulator = await start(t, folder, ["simulate", "--listen", "127.0.0.1:0"]);
  const upstream = await simulator.line(/http:\/\/127\.0\.0\.1:\d+/);
  const file = join(folder, "knockx.toml");
  await writeFile(file, CONFIG.replace("SIMULATOR", upstream) + config);
  const env = admin ? { ADMIN_EMAIL: admin.email, ADMIN_PASSWORD: admin.password } : {};
  const child = await start(t, folder, ["serve", "--config", file], env);
  const address = await child.line(/"public":"(127\.0\.0\.1:\d+)"/);
  return { base: `http://${address}`, folder, admin, log: (pattern) => child.line(pattern) };
}

async function temporary(t) {
  const folder = await mkdtemp(join(tmpdir(), "knockx-console-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

async function start(t, folder, words, env = {}) {
  const file = join(folder, `${words[0]}.log`);
  const log = createWriteStream(file);
  const child = spawn(BINARY, words, { cwd: folder, env: environment(env), stdio: ["ignore", "pipe", "pipe"] });
  child.stdout.pipe(log, { end: false });
  child.stderr.pipe(log, { end: false });
  const ended = new Promise((done) => child.once("exit", done));
  t.after(async () => {
    child.kill("SIGTERM");
    const killer = setTimeout(() => child.kill("SIGKILL"), STOP_MS);
    await ended;
    clearTimeout(killer);
  });
  return { line: (pattern) => find(child, file, pattern) };
}

/** The first group, or the whole, of the first match in what the process has written. */
async function find(child, file, pattern) {
  for (const until = Date.now() + START_MS; Date.now() < until; await sleep(25)) {
    const text = await readFile(file, "utf8").catch(() => "");
    const found = pattern.exec(text);
    if (found) return found[1] ?? found[0];
    if (child.exitCode !== null) break;
  }
  throw new Error(`no ${pattern} from ${child.spawnargs.join(" ")}:\n${(await readFile(file, "utf8")).slice(-2000)}`);
}

/** Nothing of the caller's own configuration reaches the gateway. */
function environment(more) {
  const foreign = /^(DATABASE_URL|REDIS_URL|SECRET_KEY|HOST|PORT|ADMIN_|ENVIRONMENT|KNOCKX|GROK_|XAI_|LOG_|RUST_LOG|CORS_|RATE_LIMIT_)/;
  const kept = Object.entries(process.env).filter(([name]) => !foreign.test(name));
  return { ...Object.fromEntries(kept), NO_PROXY: "127.0.0.1", no_proxy: "127.0.0.1", ...more };
}
