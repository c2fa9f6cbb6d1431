//! Finds requested features whose cost tokens do not limit: server-side tools billed per call, service tiers
//! that multiply the price, large images.
//!
//! What becomes of them is decided in [`super::tool_policy`].

use super::cursor::Cursor;
use super::field_names::OPTIONS;
use super::fields::Fields;
use super::json;
use super::request::BadBody;
use super::surface::Surface;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The features of a body whose cost tokens do not limit.
#[derive(Debug, Default)]
pub(super) struct PaidFeatures<'a> {
    /// `tools` at the top, then those of items.
    pub(super) lists: Vec<Tools<'a>>,
    /// Members at the top that switch a tool of the upstream on.
    pub(super) switches: Vec<Cow<'a, str>>,
    pub(super) choice: Option<&'a str>,
    pub(super) include: Option<&'a str>,
    /// Members that choose a tier or a place in the upstream's queue.
    pub(super) tiers: Vec<Tier<'a>>,
    /// Numbers of calls of tools: the path, the number, and where it is written.
    pub(super) calls: Vec<(String, u64, &'a str)>,
    /// Sizes and qualities of images.
    pub(super) images: Vec<ImageOption<'a>>,
}

/// The value of `tools` at one place.
#[derive(Debug)]
pub(super) struct Tools<'a> {
    pub(super) json: &'a str,
    /// The item that they came with; `None` at the top.
    pub(super) item: Option<&'a str>,
    pub(super) list: Vec<Tool<'a>>,
}

/// One tool, as far as it matters who runs it.
#[derive(Debug, Default)]
pub(super) struct Tool<'a> {
    /// Its type, or the value in place of it.
    pub(super) kind: Cow<'a, str>,
    pub(super) name: Cow<'a, str>,
    /// True if the upstream runs the tool.
    pub(super) is_server: bool,
}

/// The members of a tool that show who runs it and what it costs.
#[derive(Default)]
struct ToolMembers<'a> {
    kind: Cow<'a, str>,
    name: Cow<'a, str>,
    /// True if it has a `function`.
    is_called: bool,
    /// True if it describes itself or its parameters.
    has_form: bool,
    /// True if a member makes it run at the upstream.
    runs_there: bool,
    size: Option<Cow<'a, str>>,
    quality: Option<Cow<'a, str>>,
    /// The name of the first member that is none of these.
    other: Option<Cow<'a, str>>,
}

/// A member that chooses a tier.
#[derive(Debug)]
pub(super) struct Tier<'a> {
    /// The object that it is in; `None` at the top.
    pub(super) object: Option<&'a str>,
    pub(super) name: Cow<'a, str>,
    pub(super) value: Cow<'a, str>,
}

/// A size or a quality of images.
#[derive(Debug)]
pub(super) struct ImageOption<'a> {
    pub(super) path: String,
    pub(super) value: Cow<'a, str>,
    pub(super) is_quality: bool,
    /// True if it belongs to a tool, which the plan may remove as a whole.
    pub(super) is_of_tool: bool,
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
/// Limits on the calls of tools.
const CALLS: [&str; 2] = ["max_tool_calls", "max_turns"];

/// Levels of objects within [`OPTIONS`] that are searched for tiers and sizes of images.
const OPTION_LEVELS: usize = 3;

impl<'a> PaidFeatures<'a> {
    /// Reads the paid features in `fields`.
    ///
    /// # Errors
    /// [`BadBody`] when a number of calls is none.
    pub fn read(surface: Surface, fields: &Fields<'a>) -> Result<Self, BadBody> {
        let mut paid_features = Self::default();
        if let Some(tools) = fields.given("tools") {
            paid_features.tools("tools", tools.get(), None)?;
        }
        for list in ["input", "messages"] {
            if let Some(items) = fields.given(list) {
                paid_features.tools_of_items(list, items.get())?;
            }
        }
        paid_features.choice = fields.given("tool_choice").map(RawValue::get);
        paid_features.include = fields.given("include").map(RawValue::get);
        for name in CALLS {
            if let Some(raw) = fields.given(name) {
                paid_features.calls(name.to_owned(), raw.get())?;
            }
        }
        for (name, raw) in fields.each_given() {
            paid_features.top_member(surface, name.clone(), raw);
        }
        if surface == Surface::Images {
            let side = |name| fields.given(name).map(RawValue::get);
            paid_features.sides("width", side("width"), side("height"));
        }
        Ok(paid_features)
    }

    /// A member at the top that may switch on a tool, choose a tier or a size of images.
    fn top_member(&mut self, surface: Surface, name: Cow<'a, str>, raw: &'a RawValue) {
        let json = raw.get();
        let is_switch = SWITCHES.contains(&&*name)
            || (contains_word(&name, b"tools")
                && !matches!(&*name, "tools" | "input" | "messages"));
        if is_switch && is_on(json) {
            self.switches.push(name.clone());
        }
        let is_of_images = surface == Surface::Images || begins_with_image(&name);
        if is_of_images {
            self.image_option(&name, &name, json);
        }
        if json.starts_with('{') && (is_of_images || OPTIONS.contains(&&*name)) {
            self.options(&name, json, is_of_images, OPTION_LEVELS);
        }
        if is_tier(&name) {
            self.tiers.push(Tier { object: None, name, value: json::text(raw) });
        }
    }

    /// The members of an object of options, and of objects within.
    fn options(&mut self, path: &str, object: &'a str, is_of_images: bool, levels: usize) {
        let mut cursor = Cursor::new(object);
        let (mut width, mut height) = (None, None);
        cursor.enter(b'{');
        while let Some(name) = cursor.next_member() {
            let json = cursor.skip();
            let path = format!("{path}.{name}");
            if is_tier(&name) && json != "null" {
                let tier = Tier { object: Some(object), name, value: json::text_in(json) };
                self.tiers.push(tier);
                continue;
            }
            let is_of_images = is_of_images || begins_with_image(&name);
            if is_of_images {
                self.image_option(&path, &name, json);
                match &*name {
                    "width" if json != "null" => width = Some(json),
                    "height" if json != "null" => height = Some(json),
                    _ => {}
                }
            }
            if json.starts_with('{') && levels > 1 {
                self.options(&path, json, is_of_images, levels - 1);
            }
        }
        self.sides(&format!("{path}.width"), width, height);
    }

    fn image_option(&mut self, path: &str, name: &str, json: &'a str) {
        let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        let plain = plain.to_ascii_lowercase();
        let is_quality = plain.ends_with("quality");
        let is_size = ["size", "resolution", "megapixels"].iter().any(|end| plain.ends_with(end));
        // The number of images is called so as well.
        let is_count = plain == "batchsize";
        if (is_size || is_quality) && !is_count && json != "null" {
            let value = json::text_in(json);
            let path = path.to_owned();
            self.images.push(ImageOption { path, value, is_quality, is_of_tool: false });
        }
    }

    fn sides(&mut self, path: &str, width: Option<&'a str>, height: Option<&'a str>) {
        if let (Some(width), Some(height)) = (width, height) {
            let value = format!("{}x{}", json::text_in(width), json::text_in(height)).into();
            let path = path.to_owned();
            self.images.push(ImageOption { path, value, is_quality: false, is_of_tool: false });
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
            let start = cursor.clone();
            if cursor.enter(b'{') {
                while let Some(name) = cursor.next_member() {
                    let json = cursor.skip();
                    if name == "tools" {
                        let item = start.clone().skip();
                        self.tools(&format!("{list}[{index}].tools"), json, Some(item))?;
                    }
                }
            } else {
                cursor.skip();
            }
            index += 1;
        }
        Ok(())
    }

    fn tools(&mut self, path: &str, json: &'a str, item: Option<&'a str>) -> Result<(), BadBody> {
        let mut cursor = Cursor::new(json);
        let mut list = Vec::new();
        if cursor.enter(b'[') {
            while cursor.next_element() {
                let path = format!("{path}[{}]", list.len());
                list.push(self.tool(&path, &mut cursor, true)?);
            }
        } else if !matches!(json, "null" | "{}" | "\"\"" | "false") {
            // No caller's tools are written so; what the upstream reads there is not known.
            list.push(Tool { kind: "tools".into(), is_server: true, ..Tool::default() });
        }
        self.lists.push(Tools { json, item, list });
        Ok(())
    }

    /// Reads a tool. Tools within it are searched only one level deep.
    fn tool(
        &mut self,
        path: &str,
        cursor: &mut Cursor<'a>,
        is_searched: bool,
    ) -> Result<Tool<'a>, BadBody> {
        if !cursor.enter(b'{') {
            // The name of a tool, or a list of tools: callers write theirs as objects.
            let kind = json::text_in(cursor.skip());
            return Ok(Tool { kind, is_server: true, ..Tool::default() });
        }
        let members = self.tool_members(path, cursor, is_searched)?;
        let ToolMembers { kind, name, size, quality, other, .. } = members;
        let is_named = !name.is_empty() && members.has_form;
        let is_server = members.runs_there || !is_callers(&kind, members.is_called || is_named);
        let mut tool = Tool { kind, name, is_server };
        if is_server {
            for (name, value) in [("size", size), ("quality", quality)] {
                self.images.extend(value.map(|value| ImageOption {
                    path: format!("{path}.{name}"),
                    value,
                    is_quality: name == "quality",
                    is_of_tool: true,
                }));
            }
            if tool.kind.is_empty() {
                tool.kind = other.unwrap_or("tool".into());
            }
        }
        Ok(tool)
    }

    /// Reads the members of a tool's object, which `cursor` has entered.
    fn tool_members(
        &mut self,
        path: &str,
        cursor: &mut Cursor<'a>,
        is_searched: bool,
    ) -> Result<ToolMembers<'a>, BadBody> {
        let mut members = ToolMembers::default();
        while let Some(name) = cursor.next_member() {
            let inside = cursor.clone();
            let json = cursor.skip();
            match &*name {
                "type" => members.kind = json::text_in(json),
                "name" => members.name = json::text_in(json),
                "function" => members.is_called = true,
                "input_schema" | "parameters" | "description" => members.has_form = true,
                "environment" => members.runs_there = json.contains("container"),
                "tools" => members.runs_there |= !is_searched || any_server(inside),
                "max_uses" | "max_tool_calls" | "max_turns" => {
                    self.calls(format!("{path}.{name}"), json)?;
                }
                "size" => members.size = Some(json::text_in(json)),
                "quality" => members.quality = Some(json::text_in(json)),
                other => {
                    members.runs_there |= is_built_in(other);
                    members.other = members.other.or(Some(name));
                }
            }
        }
        Ok(members)
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
}

/// True if the caller runs tools of this type; `is_called` when it has a function's form.
pub(super) fn is_callers(kind: &str, is_called: bool) -> bool {
    match kind {
        "" => is_called,
        // Judged by what is in it.
        "namespace" => true,
        kind => {
            CALLERS.contains(&kind) || CALLERS_BEGIN.iter().any(|begin| kind.starts_with(begin))
        }
    }
}

/// True if a member chooses a tier of service, or how soon the upstream serves the call: both are paid for by
/// the operator.
fn is_tier(name: &str) -> bool {
    let is_word_tier = matches!(name, "tier" | "tiers")
        || name.ends_with("_tier")
        || name.ends_with("-tier")
        || name.starts_with("tier_")
        || contains(name, |part: &[u8; 4]| part == b"Tier");
    is_word_tier
        || name.eq_ignore_ascii_case("speed")
        || contains_word(name, b"priorit")
        || contains_word(name, b"schedul")
        || contains_word(name, b"urgen")
        || contains_word(name, b"preempt")
        || contains_word(name, b"qos")
}

/// True if `word`, in lower case, is in the name.
fn contains_word<const N: usize>(name: &str, word: &[u8; N]) -> bool {
    contains(name, |part: &[u8; N]| part.eq_ignore_ascii_case(word))
}

/// True if `is_word` holds for a part of the name with as many bytes as it takes.
fn contains<const N: usize>(name: &str, is_word: impl Fn(&[u8; N]) -> bool) -> bool {
    name.as_bytes().windows(N).any(|part| part.try_into().is_ok_and(&is_word))
}

fn begins_with_image(name: &str) -> bool {
    name.get(..5).is_some_and(|begin| begin.eq_ignore_ascii_case("image"))
}

/// True if a member makes its tool one of the upstream's.
fn is_built_in(name: &str) -> bool {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    BUILT_IN.contains(&&*plain.to_ascii_lowercase())
}

/// True if the array at the cursor has a tool that the upstream runs.
fn any_server(mut cursor: Cursor<'_>) -> bool {
    let mut any = false;
    if cursor.enter(b'[') {
        let mut ignored = PaidFeatures::default();
        while cursor.next_element() {
            any |= ignored.tool("", &mut cursor, false).is_ok_and(|tool| tool.is_server);
        }
    }
    any
}

/// True if the value of a switch turns it on.
fn is_on(json: &str) -> bool {
    let plain: String = json.chars().filter(|c| !c.is_ascii_whitespace()).take(40).collect();
    !matches!(&*plain, "null" | "false" | "[]" | "\"\"" | r#"{"mode":"off"}"#)
}

#[cfg(test)]
mod tests;
