//! Finds requested features whose cost tokens do not limit: server-side tools billed per call, service tiers
//! that multiply the price, large images.
//!
//! Also makes the edits by which a plan's [`RequestPolicy`] removes them.

use super::cursor::{Cursor, cut_elements, cut_members};
use super::json;
use super::request::{BadBody, Fields};
use super::surface::Surface;
use crate::account::plan::{RequestPolicy, ServerTools};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::ops::Range;

/// What is not bounded by tokens.
#[derive(Debug, Default)]
pub(super) struct Costs<'a> {
    /// `tools` at the top, then those of items.
    lists: Vec<Tools<'a>>,
    /// Members at the top that switch a tool of the upstream on.
    switches: Vec<&'static str>,
    choice: Option<&'a str>,
    include: Option<&'a str>,
    /// Members that choose a tier, with its name.
    tiers: Vec<(&'static str, Cow<'a, str>)>,
    /// Numbers of calls of tools: the path, the number, and where it is written.
    calls: Vec<(String, u64, &'a str)>,
    /// The path and value of an image's size or quality.
    sizes: Vec<(String, Cow<'a, str>)>,
    qualities: Vec<(String, Cow<'a, str>)>,
}

/// One array of tools.
#[derive(Debug)]
struct Tools<'a> {
    json: &'a str,
    is_top: bool,
    list: Vec<Tool<'a>>,
}

/// One tool, as far as it matters who runs it.
#[derive(Debug, Default)]
struct Tool<'a> {
    kind: Cow<'a, str>,
    name: Cow<'a, str>,
    /// The upstream runs it.
    is_server: bool,
}

/// Members at the top that switch on what the upstream runs: xAI, OpenAI, Perplexity, OpenRouter,
/// `DashScope`, Groq, Anthropic.
const SWITCHES: [&str; 19] = [
    "search_parameters",
    "web_search_options",
    "web_search",
    "plugins",
    "enable_search",
    "enable_web_search",
    "search_options",
    "search_settings",
    "mcp_servers",
    "compound_custom",
    "connectors",
    "search",
    "search_mode",
    "search_domain_filter",
    "data_sources",
    "grounding",
    "use_web",
    "enable_code_interpreter",
    "agent_count",
];
/// Members of a tool that make it one of the upstream's, written in any way: Google.
const BUILT_IN: [&str; 9] = [
    "googlesearch",
    "googlesearchretrieval",
    "googlemaps",
    "codeexecution",
    "urlcontext",
    "enterprisewebsearch",
    "websearch",
    "filesearch",
    "computeruse",
];
/// Types of tools that the caller runs.
const CALLERS: [&str; 6] =
    ["function", "custom", "local_shell", "apply_patch", "tool_search", "shell"];
/// Beginnings of the types of tools that the caller runs, as Anthropic numbers them.
const CALLERS_BEGIN: [&str; 5] =
    ["bash_", "text_editor_", "memory_", "tool_search_tool_", "str_replace_"];
/// What a choice of tools may say without naming one of the upstream's.
const CHOICES: [&str; 7] =
    ["auto", "any", "none", "required", "tool", "allowed_tools", "validated"];
/// Members that choose a tier.
const TIERS: [&str; 3] = ["service_tier", "serviceTier", "speed"];
/// Limits on the calls of tools.
const CALLS: [&str; 2] = ["max_tool_calls", "max_turns"];

impl<'a> Costs<'a> {
    /// Reads what `fields` asks for.
    ///
    /// # Errors
    /// [`BadBody`] when a number of calls is none.
    pub fn read(surface: Surface, fields: &Fields<'a>) -> Result<Self, BadBody> {
        let mut costs = Self::default();
        if let Some(tools) = fields.given("tools") {
            costs.tools("tools", tools.get(), true)?;
        }
        let lists = if surface == Surface::Responses { "input" } else { "messages" };
        if let Some(items) = fields.given(lists) {
            costs.tools_of_items(lists, items.get())?;
        }
        let is_on = |name: &&str| fields.given(name).is_some_and(|raw| is_on(raw.get()));
        costs.switches = SWITCHES.into_iter().filter(is_on).collect();
        costs.choice = fields.given("tool_choice").map(RawValue::get);
        costs.include = fields.given("include").map(RawValue::get);
        for name in TIERS {
            costs.tiers.extend(fields.given(name).map(|raw| (name, json::text(raw))));
        }
        for name in CALLS {
            if let Some(raw) = fields.given(name) {
                costs.calls(name.to_owned(), raw.get())?;
            }
        }
        if surface == Surface::Images {
            costs.image(fields);
        }
        Ok(costs)
    }

    fn image(&mut self, fields: &Fields<'a>) {
        for name in ["size", "resolution", "image_size"] {
            self.sizes.extend(fields.given(name).map(|raw| (name.to_owned(), json::text(raw))));
        }
        self.qualities
            .extend(fields.given("quality").map(|q| ("quality".to_owned(), json::text(q))));
        let side = |name| fields.given(name).map(json::text);
        if let (Some(width), Some(height)) = (side("width"), side("height")) {
            self.sizes.push(("width".to_owned(), format!("{width}x{height}").into()));
        }
    }

    /// Tools that came with an item or a message, as the result of a search for tools.
    fn tools_of_items(&mut self, list: &str, items: &'a str) -> Result<(), BadBody> {
        let mut cursor = Cursor::new(items);
        let mut index = 0;
        if !cursor.enter(b'[') {
            return Ok(());
        }
        while cursor.next_element() {
            if cursor.enter(b'{') {
                while let Some(name) = cursor.next_member() {
                    let json = cursor.skip();
                    if name == "tools" {
                        self.tools(&format!("{list}[{index}].tools"), json, false)?;
                    }
                }
            } else {
                cursor.skip();
            }
            index += 1;
        }
        Ok(())
    }

    fn tools(&mut self, path: &str, json: &'a str, is_top: bool) -> Result<(), BadBody> {
        let mut cursor = Cursor::new(json);
        if !cursor.enter(b'[') {
            return Ok(());
        }
        let mut list = Vec::new();
        while cursor.next_element() {
            let path = format!("{path}[{}]", list.len());
            list.push(self.tool(&path, &mut cursor, true)?);
        }
        self.lists.push(Tools { json, is_top, list });
        Ok(())
    }

    /// Reads a tool. One that holds others can be of any type, but is not looked for in those.
    fn tool(
        &mut self,
        path: &str,
        cursor: &mut Cursor<'a>,
        may_hold: bool,
    ) -> Result<Tool<'a>, BadBody> {
        let mut tool = Tool::default();
        let (mut is_called, mut has_form, mut runs_there) = (false, false, false);
        let (mut size, mut quality) = (None, None);
        if !cursor.enter(b'{') {
            cursor.skip();
            return Ok(tool);
        }
        while let Some(name) = cursor.next_member() {
            let inside = cursor.clone();
            let json = cursor.skip();
            match &*name {
                "type" => tool.kind = json::text_in(json),
                "name" => tool.name = json::text_in(json),
                "function" => is_called = true,
                "input_schema" | "parameters" | "description" => has_form = true,
                "environment" => runs_there = json.contains("container"),
                "tools" => runs_there |= !may_hold || any_server(inside),
                "max_uses" | "max_tool_calls" | "max_turns" => {
                    self.calls(format!("{path}.{name}"), json)?;
                }
                "size" => size = Some(json::text_in(json)),
                "quality" => quality = Some(json::text_in(json)),
                other => runs_there |= is_built_in(other),
            }
        }
        let named = !tool.name.is_empty() && has_form;
        tool.is_server = runs_there || !is_callers(&tool.kind, is_called || named);
        if tool.is_server {
            self.sizes.extend(size.map(|size| (format!("{path}.size"), size)));
            self.qualities.extend(quality.map(|quality| (format!("{path}.quality"), quality)));
        }
        Ok(tool)
    }

    fn calls(&mut self, path: String, json: &'a str) -> Result<(), BadBody> {
        if json == "null" {
            return Ok(());
        }
        let number =
            json.parse().map_err(|_| BadBody::wrong_type(&path, "a positive integer or null"))?;
        self.calls.push((path, number, json));
        Ok(())
    }

    /// Whether the plan lets the call pass.
    ///
    /// # Errors
    /// [`BadBody`] that names what the plan does not include.
    pub fn permit(&self, policy: &RequestPolicy) -> Result<(), BadBody> {
        if policy.server_tools == ServerTools::Refuse {
            self.refuse_tools()?;
        }
        if policy.server_tools == ServerTools::Allow {
            for (sizes, allowed, what) in [
                (&self.sizes, &policy.image_sizes, "sizes"),
                (&self.qualities, &policy.image_qualities, "qualities"),
            ] {
                let other = sizes.iter().find(|(_, given)| !RequestPolicy::lists(allowed, given));
                if let Some((path, _)) = other {
                    let why = format!("your plan allows the {what} {}", allowed.join(", "));
                    return Err(BadBody::wrong_value(path, &why));
                }
            }
        }
        Ok(())
    }

    /// Whether the upstream runs tools of its own under `policy`.
    pub fn runs_server_tools(&self, policy: &RequestPolicy) -> bool {
        let has_tool =
            || self.lists.iter().flat_map(|tools| &tools.list).any(|tool| tool.is_server);
        policy.server_tools == ServerTools::Allow && (!self.switches.is_empty() || has_tool())
    }

    fn refuse_tools(&self) -> Result<(), BadBody> {
        let not_in_plan = |path: &str, kind: &str| {
            let why = format!("your plan does not include server-side tools ({kind})");
            Err(BadBody {
                code: Some("server_tool_not_allowed"),
                ..BadBody::wrong_value(path, &why)
            })
        };
        if let Some(name) = self.switches.first() {
            return not_in_plan(name, name);
        }
        for tools in &self.lists {
            for (index, tool) in tools.list.iter().enumerate() {
                if tool.is_server && !self.is_offered_by_habit(tools, tool) {
                    return not_in_plan(&format!("tools[{index}]"), &tool.kind);
                }
            }
        }
        Ok(())
    }

    /// Agents such as Codex offer a search beside their own tools whether it is wanted or not. That
    /// must not stop them: it is taken out.
    fn is_offered_by_habit(&self, tools: &Tools<'_>, tool: &Tool<'_>) -> bool {
        tool.kind.starts_with("web_search")
            && tools.list.iter().any(|other| !other.is_server)
            && !self.choice.is_some_and(|choice| self.names_server_tool(choice))
    }

    /// The stretches of `body` that go under `policy`.
    pub fn cuts(&self, body: &'a str, policy: &RequestPolicy) -> Vec<Range<usize>> {
        let mut doomed: Vec<&str> = Vec::new();
        let tiers = self
            .tiers
            .iter()
            .filter(|(_, tier)| !RequestPolicy::lists(&policy.service_tiers, tier));
        doomed.extend(tiers.map(|(name, _)| *name));
        let mut cuts = Vec::new();
        if policy.server_tools != ServerTools::Allow {
            doomed.extend(&self.switches);
            self.cut_tools(body, &mut doomed, &mut cuts);
        }
        if !doomed.is_empty() {
            cuts.extend(cut_members(body, |name| doomed.contains(&name)));
        }
        cuts
    }

    fn cut_tools(&self, body: &str, doomed: &mut Vec<&str>, cuts: &mut Vec<Range<usize>>) {
        let mut cut = |json: &str, list: Vec<Range<usize>>| {
            let at = json.as_ptr().addr() - body.as_ptr().addr();
            cuts.extend(list.into_iter().map(|range| range.start + at..range.end + at));
        };
        let has_server = |tools: &&Tools<'_>| tools.list.iter().any(|tool| tool.is_server);
        let mut choice = self.choice.filter(|choice| self.names_server_tool(choice));
        for tools in self.lists.iter().filter(has_server) {
            if tools.is_top && tools.list.iter().all(|tool| tool.is_server) {
                // A choice among no tools is refused by some servers.
                doomed.extend(["tools", "tool_choice", "parallel_tool_calls"]);
                choice = None;
            } else {
                cut(tools.json, cut_elements(tools.json, |at| tools.list[at].is_server));
            }
        }
        match choice.and_then(allowed_tools) {
            Some((json, list)) if !list.iter().all(|is_server| *is_server) => {
                cut(json, cut_elements(json, |at| list[at]));
            }
            _ if choice.is_some() => doomed.push("tool_choice"),
            _ => {}
        }
        if let Some(include) = self.include {
            let list = elements(include);
            cut(include, cut_elements(include, |at| list[at].contains("_call")));
        }
    }

    /// Whether a choice of tools names one that the upstream runs.
    fn names_server_tool(&self, choice: &str) -> bool {
        if let Some((_, list)) = allowed_tools(choice) {
            return list.contains(&true);
        }
        let mut cursor = Cursor::new(choice);
        let mut names_one = false;
        if cursor.enter(b'{') {
            while let Some(name) = cursor.next_member() {
                let value = json::text_in(cursor.skip());
                names_one |= match &*name {
                    "type" => !CHOICES.contains(&&*value) && !is_callers(&value, false),
                    "name" => self.has_server_tool(&value),
                    _ => false,
                };
            }
        }
        names_one
    }

    fn has_server_tool(&self, name: &str) -> bool {
        let mut tools = self.lists.iter().flat_map(|tools| &tools.list);
        tools.any(|tool| tool.is_server && tool.name == name)
    }

    /// The numbers of calls above what the plan allows, and where they stand.
    pub fn too_many_calls(&self, policy: &RequestPolicy) -> impl Iterator<Item = &'a str> {
        let most = u64::from(policy.max_tool_calls);
        self.calls.iter().filter(move |(_, calls, _)| *calls > most).map(|(_, _, json)| *json)
    }

    /// What is taken out under `policy`, by name: for the caller to know.
    pub fn stripped(&self, policy: &RequestPolicy) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let is_other =
            |(_, tier): &&(&str, Cow<'_, str>)| !RequestPolicy::lists(&policy.service_tiers, tier);
        names.extend(self.tiers.iter().filter(is_other).map(|(name, _)| (*name).to_owned()));
        if policy.server_tools != ServerTools::Allow {
            names.extend(self.switches.iter().map(|name| (*name).to_owned()));
            let tools = self.lists.iter().flat_map(|tools| &tools.list);
            names.extend(tools.filter(|tool| tool.is_server).map(|tool| tool.kind.to_string()));
        }
        names
    }
}

/// Whether the caller runs tools of this type; `is_called` when it has a function's form.
fn is_callers(kind: &str, is_called: bool) -> bool {
    match kind {
        "" => is_called,
        // Judged by what is in it.
        "namespace" => true,
        kind => {
            CALLERS.contains(&kind) || CALLERS_BEGIN.iter().any(|begin| kind.starts_with(begin))
        }
    }
}

/// Whether a member makes its tool one of the upstream's.
fn is_built_in(name: &str) -> bool {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    BUILT_IN.contains(&&*plain.to_ascii_lowercase())
}

/// Whether the array at the cursor has a tool that the upstream runs.
fn any_server(mut cursor: Cursor<'_>) -> bool {
    let mut any = false;
    if cursor.enter(b'[') {
        let mut ignored = Costs::default();
        while cursor.next_element() {
            any |= ignored.tool("", &mut cursor, false).is_ok_and(|tool| tool.is_server);
        }
    }
    any
}

/// The list in a choice of `allowed_tools`, and which of them the upstream runs.
fn allowed_tools(choice: &str) -> Option<(&str, Vec<bool>)> {
    let mut cursor = Cursor::new(choice);
    if !cursor.enter(b'{') {
        return None;
    }
    while let Some(name) = cursor.next_member() {
        let json = cursor.skip();
        match &*name {
            // Chat nests it once more.
            "allowed_tools" => return allowed_tools(json),
            "tools" => {
                let kind = |tool: &str| {
                    let mut cursor = Cursor::new(tool);
                    let mut kind = Cow::Borrowed("");
                    cursor.enter(b'{');
                    while let Some(name) = cursor.next_member() {
                        let json = cursor.skip();
                        if name == "type" {
                            kind = json::text_in(json);
                        }
                    }
                    !is_callers(&kind, true)
                };
                return Some((json, elements(json).into_iter().map(kind).collect()));
            }
            _ => {}
        }
    }
    None
}

fn elements(array: &str) -> Vec<&str> {
    let mut cursor = Cursor::new(array);
    let mut list = Vec::new();
    if cursor.enter(b'[') {
        while cursor.next_element() {
            list.push(cursor.skip());
        }
    }
    list
}

/// Whether a switch is on.
fn is_on(json: &str) -> bool {
    let plain: String = json.chars().filter(|c| !c.is_ascii_whitespace()).take(40).collect();
    !matches!(&*plain, "null" | "false" | "[]" | "\"\"" | r#"{"mode":"off"}"#)
}

#[cfg(test)]
#[path = "tests/tools.rs"]
mod tests;
