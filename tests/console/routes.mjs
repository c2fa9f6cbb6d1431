// The routes of the console, read from its source, and the pages of a person, found by following links.

import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

const ROOT = process.env.KNOCKX_SOURCE;

/** Every route below `/console` in `src/console`: its path, as axum has it, and its methods. */
export function routes() {
  const folder = join(ROOT, "src", "console");
  const files = readdirSync(folder, { recursive: true }).filter((file) => file.endsWith(".rs") && !file.startsWith("tests"));
  const found = files.flatMap((file) => {
    const source = readFileSync(join(folder, file), "utf8");
    return source.split(/\.route\(\s*"/).slice(1).map((rest) => {
      const path = rest.slice(0, rest.indexOf('"'));
      const call = rest.slice(0, end(rest));
      return { path, methods: ["get", "post"].filter((method) => call.includes(`${method}(`)) };
    });
  });
  return found.filter(({ path }) => path.startsWith("/console") && !path.includes("{*"));
}

/** Where the parenthesis closes that is open at the beginning. */
function end(text) {
  let depth = 1;
  for (let at = 0; at < text.length; at++) {
    depth += text[at] === "(" ? 1 : text[at] === ")" ? -1 : 0;
    if (depth === 0) return at;
  }
  return text.length;
}

/** The route of a path: the one with the fewest placeholders, as axum chooses. */
export function routeOf(all, path) {
  const parts = path.replace(/\/$/, "").split("/");
  const fits = ({ path }) => {
    const pattern = path.split("/");
    return pattern.length === parts.length && pattern.every((part, at) => part.startsWith("{") || part === parts[at]);
  };
  const placeholders = ({ path }) => path.split("{").length;
  return all.filter(fits).sort((a, b) => placeholders(a) - placeholders(b))[0];
}

/**
 * One page of each route that somebody finds by following links from `starts`, with the links and forms of all
 * that was read. Files, fragments and where forms are sent count as found, and are not pages.
 */
export async function pagesFrom({ context }, base, starts) {
  const all = routes().filter(({ methods }) => methods.includes("get"));
  const waiting = [...starts];
  const found = new Map();
  const links = new Set();
  while (waiting.length) {
    const path = waiting.shift();
    const route = routeOf(all, new URL(path, base).pathname) ?? { path };
    if (found.has(route.path)) continue;
    const reply = await context.request.get(new URL(path, base).href, { maxRedirects: 0 });
    const isPage = (reply.headers()["content-type"] ?? "").startsWith("text/html");
    const text = isPage ? await reply.text() : "";
    found.set(route.path, { path, route: route.path, status: reply.status(), isPage: text.includes("<html"), text });
    waiting.push(...attributes(text, "href"));
    for (const link of linksOf(text)) links.add(link);
  }
  const reached = new Set([...found.keys(), ...[...links].map((link) => routeOf(all, link.split("?")[0])?.path)]);
  return { pages: [...found.values()].filter(({ isPage }) => isPage), found: reached, links: [...links] };
}

/** What a page links to, loads or sends forms to, within the console. */
export function linksOf(html) {
  return ["href", "action", "formaction", "hx-get", "hx-post"].flatMap((name) => attributes(html, name));
}

function attributes(html, name) {
  const values = [...html.matchAll(new RegExp(`\\s${name}="([^"]*)"`, "g"))].map((found) => decoded(found[1]));
  return values.filter((value) => /^\/console($|[/?])/.test(value) && !value.startsWith("/console/assets/"))
    .map((value) => value.split("#")[0]);
}

function decoded(text) {
  return text.replace(/&#(\d+);/g, (_, code) => String.fromCharCode(code)).replaceAll("&quot;", '"').replaceAll("&lt;", "<")
    .replaceAll("&gt;", ">").replaceAll("&amp;", "&");
}
