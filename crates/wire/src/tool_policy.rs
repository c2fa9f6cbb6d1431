//! Applies a plan's [`RequestPolicy`] to the features in a body whose cost tokens do not limit: refuses or
//! removes them.

use super::cursor::{Cursor, cut_elements, cut_members};
use super::json;
use super::request::BadBody;
use super::tools::{PaidFeatures, Tier, Tool, Tools, is_callers};
use domain::plan::{RequestPolicy, ServerTools};
use std::borrow::Cow;
use std::ops::Range;

/// Values of `tool_choice` types that name none of the upstream's tools.
const CHOICES: [&str; 7] =
    ["auto", "any", "none", "required", "tool", "allowed_tools", "validated"];

impl<'a> PaidFeatures<'a> {
    /// Checks the features of a call against the plan.
    ///
    /// # Errors
    /// [`BadBody`] that names what the plan does not include.
    pub fn permit(&self, policy: &RequestPolicy) -> Result<(), BadBody> {
        if policy.server_tools == ServerTools::Refuse {
            self.refuse_tools()?;
        }
        let passes_tools = policy.server_tools == ServerTools::Allow;
        for option in self.images.iter().filter(|option| passes_tools || !option.is_of_tool) {
            let (allowed, what) = if option.is_quality {
                (&policy.image_qualities, "qualities")
            } else {
                (&policy.image_sizes, "sizes")
            };
            if !RequestPolicy::lists(allowed, &option.value) {
                let why = format!("your plan only allows the {what} {}", allowed.join(", "));
                return Err(BadBody::wrong_value(&option.path, &why));
            }
        }
        Ok(())
    }

    /// True if the upstream runs server-side tools under `policy`.
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

    /// True for the web search that agents such as Codex offer beside their own tools by default. It is
    /// removed rather than refused, so that they keep working.
    fn is_offered_by_habit(&self, tools: &Tools<'_>, tool: &Tool<'_>) -> bool {
        tool.kind.starts_with("web_search")
            && tools.list.iter().any(|other| !other.is_server)
            && !self.choice.is_some_and(|choice| self.names_server_tool(choice))
    }

    /// The ranges of `body` that are removed under `policy`.
    pub fn cuts(&self, body: &'a str, policy: &RequestPolicy) -> Vec<Range<usize>> {
        let mut doomed: Vec<&str> = Vec::new();
        let mut cuts = Vec::new();
        let mut objects: Vec<&str> = Vec::new();
        for tier in self.other_tiers(policy) {
            match tier.object {
                None => doomed.push(&tier.name),
                Some(object) if !objects.iter().any(|other| std::ptr::eq(*other, object)) => {
                    objects.push(object);
                }
                Some(_) => {}
            }
        }
        for object in objects {
            let is_in = |name: &str| {
                self.other_tiers(policy).any(|tier| {
                    tier.name == name && tier.object.is_some_and(|o| std::ptr::eq(o, object))
                })
            };
            cuts.extend(moved(body, object, cut_members(object, is_in)));
        }
        if policy.server_tools != ServerTools::Allow {
            doomed.extend(self.switches.iter().map(|name| &**name));
            self.cut_tools(body, &mut doomed, &mut cuts);
        }
        if !doomed.is_empty() {
            cuts.extend(cut_members(body, |name| doomed.contains(&name)));
        }
        cuts
    }

    /// The tiers that the plan does not list.
    fn other_tiers<'s>(&'s self, policy: &'s RequestPolicy) -> impl Iterator<Item = &'s Tier<'a>> {
        self.tiers.iter().filter(|tier| !RequestPolicy::lists(&policy.service_tiers, &tier.value))
    }

    fn cut_tools(&self, body: &str, doomed: &mut Vec<&str>, cuts: &mut Vec<Range<usize>>) {
        let mut cut = |json: &str, list| cuts.extend(moved(body, json, list));
        let has_server = |tools: &&Tools<'_>| tools.list.iter().any(|tool| tool.is_server);
        let mut choice = self.choice.filter(|choice| self.names_server_tool(choice));
        for tools in self.lists.iter().filter(has_server) {
            match tools.item {
                None if tools.list.iter().all(|tool| tool.is_server) => {
                    // A choice among no tools is refused by some servers.
                    doomed.extend(["tools", "tool_choice", "parallel_tool_calls"]);
                    choice = None;
                }
                Some(item) if !tools.json.starts_with('[') => {
                    cut(item, cut_members(item, |name| name == "tools"));
                }
                _ => cut(tools.json, cut_elements(tools.json, |at| tools.list[at].is_server)),
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

    /// True if a choice of tools names one that the upstream runs.
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

    /// The limits on tool calls above what the plan allows, as JSON within the body.
    pub fn too_many_calls(&self, policy: &RequestPolicy) -> impl Iterator<Item = &'a str> {
        let most = u64::from(policy.max_tool_calls);
        self.calls.iter().filter(move |(_, calls, _)| *calls > most).map(|(_, _, json)| *json)
    }

    /// Names of the features that are removed under `policy`, to report to the caller.
    pub fn stripped_names(&self, policy: &RequestPolicy) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        names.extend(self.other_tiers(policy).map(|tier| tier.name.to_string()));
        if policy.server_tools != ServerTools::Allow {
            names.extend(self.switches.iter().map(ToString::to_string));
            let tools = self.lists.iter().flat_map(|tools| &tools.list);
            names.extend(tools.filter(|tool| tool.is_server).map(|tool| tool.kind.to_string()));
        }
        names
    }
}

/// Ranges of `part`, which was borrowed from `body`, as ranges of `body`.
fn moved(body: &str, part: &str, ranges: Vec<Range<usize>>) -> impl Iterator<Item = Range<usize>> {
    let at = part.as_ptr().addr() - body.as_ptr().addr();
    ranges.into_iter().map(move |range| range.start + at..range.end + at)
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
