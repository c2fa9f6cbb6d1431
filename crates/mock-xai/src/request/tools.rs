//! Tools of a request, the choice among them, and the call that follows from both.

use super::InvalidBody;
use crate::schema_value::value_for;
use crate::settings::ForcedCall;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// The tools of a request as they were sent, and the choice among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tools {
    pub list: Vec<Value>,
    pub choice: Option<Value>,
}

/// A function to call: its name and arguments that its schema accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    pub arguments: String,
}

/// The `tool_choice` of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolChoice<'a> {
    Auto,
    None,
    Required,
    Named(&'a str),
}

impl Tools {
    /// Reads the members of a body.
    ///
    /// # Errors
    /// A member that is nested too deep.
    pub fn read(tools: Option<&RawValue>, choice: Option<&RawValue>) -> Result<Self, InvalidBody> {
        let list = match tools {
            Some(tools) => serde_json::from_str::<Option<Vec<Value>>>(tools.get())?,
            None => None,
        };
        let choice = match choice {
            Some(choice) => serde_json::from_str(choice.get())?,
            None => None,
        };
        Ok(Self { list: list.unwrap_or_default(), choice })
    }

    /// The choice, whatever surface it is written for.
    pub fn choice(&self) -> ToolChoice<'_> {
        let choice = self.choice.as_ref().unwrap_or(&Value::Null);
        let kind = choice.as_str().or_else(|| choice["type"].as_str());
        match kind.unwrap_or_default() {
            "none" => ToolChoice::None,
            "required" | "any" => ToolChoice::Required,
            "function" | "tool" | "custom" => {
                let name = choice["function"]["name"].as_str().or(choice["name"].as_str());
                name.map_or(ToolChoice::Auto, ToolChoice::Named)
            }
            _ => ToolChoice::Auto,
        }
    }

    /// The functions that the client runs itself: all but those of the server.
    pub fn functions(&self) -> impl Iterator<Item = &Value> {
        let function = |tool: &'_ Value| match tool["type"].as_str() {
            Some("function" | "custom") | None => true,
            Some(_) => false,
        };
        self.list.iter().filter(move |tool| function(tool)).map(inner)
    }

    fn function(&self, name: &str) -> Option<&Value> {
        self.functions().find(|function| function["name"] == name)
    }

    /// The call that the answer is, if it is one. `invites` is true if the prompt asks for a tool and none has answered
    /// yet; then a marker in it may name the function.
    pub fn call(
        &self,
        invites: bool,
        has_result: bool,
        forced: Option<&ForcedCall>,
    ) -> Option<Function> {
        let choice = self.choice();
        if choice == ToolChoice::None {
            return None;
        }
        if let Some(forced) = forced.filter(|_| !has_result)
            && let Some(function) = self.function(&forced.name)
        {
            let arguments = forced.arguments.clone();
            let arguments = arguments.unwrap_or_else(|| arguments_of(function));
            return Some(Function { name: forced.name.clone(), arguments });
        }
        let function = match choice {
            ToolChoice::Named(name) => self.function(name),
            ToolChoice::Required => self.functions().next(),
            _ => self.functions().next().filter(|_| invites && !has_result),
        }?;
        let name = function["name"].as_str()?.to_owned();
        Some(Function { name, arguments: arguments_of(function) })
    }
}

/// Chat nests a function under `function`, the other surfaces do not.
fn inner(tool: &Value) -> &Value {
    tool.get("function").unwrap_or(tool)
}

/// The schema of a function's arguments.
pub fn parameters(function: &Value) -> Option<&Value> {
    // The second is Anthropic's name.
    function.get("parameters").or(function.get("input_schema"))
}

fn arguments_of(function: &Value) -> String {
    let arguments = parameters(function).map(value_for).filter(Value::is_object);
    arguments.unwrap_or_else(|| json!({})).to_string()
}
