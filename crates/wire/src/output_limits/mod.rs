//! Reads the output limits in a request body, under every name that a known server accepts.

use super::field_names::{BUDGETS, COUNTS, LIMITS, OPTIONS};
use super::fields::Fields;
use super::json;
use super::request::BadBody;
use super::surface::{Output, Surface};
use serde_json::value::RawValue;

/// The output limits in a body.
#[derive(Debug, Clone, Default)]
pub(super) struct OutputLimits<'a> {
    /// The smallest limit on the output of one choice.
    pub max_output: Option<u64>,
    /// The limits that are there, `null` too, by their names; [`NESTED`] for one in another member.
    pub limits: Vec<(&'static str, &'a RawValue)>,
    /// Least output and budgets, which may not be above the limit.
    pub budgets: Vec<(u64, &'a RawValue)>,
    /// `thinking`, if it contains a budget.
    pub thinking: Option<&'a RawValue>,
}

/// In place of a name, marks a limit that is not at the top level of the body.
pub(super) const NESTED: &str = "";

/// Objects whose limits are budgets within the output.
const WITHIN: [&str; 4] = ["thinking", "thinking_config", "thinkingConfig", "reasoning"];

impl<'a> OutputLimits<'a> {
    /// Reads the limits in `fields`; a surface without tokens has none.
    ///
    /// # Errors
    /// [`BadBody`] when a limit is no number, or more than one answer is requested where only one is possible.
    pub fn read(surface: Surface, fields: &Fields<'a>) -> Result<Self, BadBody> {
        let mut bounds = Self::default();
        let Output::Tokens(own) = surface.output() else { return Ok(bounds) };
        let others = LIMITS.into_iter().filter(|name| !own.contains(name));
        for name in own.iter().copied().chain(others) {
            let Some(raw) = fields.get(name) else { continue };
            bounds.limit(fields.limit(name)?);
            bounds.limits.push((name, raw));
        }
        for name in BUDGETS {
            bounds.budget(name, fields.given(name))?;
        }
        for name in OPTIONS {
            bounds.options(name, fields.given(name), 2)?;
        }
        let thinking = fields.given("thinking");
        bounds.thinking = thinking.filter(|raw| raw.get().contains("budget_tokens"));
        if fields.given("ignore_eos").is_some_and(|raw| raw.get() == "true")
            && bounds.max_output.is_none()
        {
            let why = "requires an output limit; set `max_tokens`";
            return Err(BadBody::wrong_value("ignore_eos", why));
        }
        Ok(bounds)
    }

    fn limit(&mut self, limit: Option<u64>) {
        self.max_output = [self.max_output, limit].into_iter().flatten().min();
    }

    /// Reads the limits in an object, and in objects within.
    fn options(
        &mut self,
        path: &str,
        value: Option<&'a RawValue>,
        levels: usize,
    ) -> Result<(), BadBody> {
        let Some(value) = value.filter(|raw| raw.get().starts_with('{') && levels > 0) else {
            return Ok(());
        };
        let fields = Fields::of_object(&format!("{path}."), value.get())?;
        let are_budgets = WITHIN.iter().any(|name| path.ends_with(name));
        for name in LIMITS {
            let path = format!("{path}.{name}");
            let Some(raw) = fields.given(name) else { continue };
            if are_budgets {
                self.budget(&path, Some(raw))?;
            } else {
                self.limit(fields.limit(name).map_err(|bad| BadBody { param: Some(path), ..bad })?);
                self.limits.push((NESTED, raw));
            }
        }
        for name in BUDGETS {
            self.budget(&format!("{path}.{name}"), fields.given(name))?;
        }
        for name in COUNTS {
            if fields.given(name).is_some_and(|raw| raw.get() != "1") {
                let why = "use the top-level `n` instead";
                return Err(BadBody::wrong_value(&format!("{path}.{name}"), why));
            }
        }
        for name in OPTIONS {
            self.options(&format!("{path}.{name}"), fields.given(name), levels - 1)?;
        }
        Ok(())
    }

    fn budget(&mut self, path: &str, value: Option<&'a RawValue>) -> Result<(), BadBody> {
        let Some(raw) = value.filter(|raw| !json::is_null(raw)) else { return Ok(()) };
        // A budget of -1 is one that the model chooses, within its limit.
        if raw.get() == "-1" {
            return Ok(());
        }
        let number =
            raw.get().parse().map_err(|_| BadBody::wrong_type(path, "an integer or null"))?;
        self.budgets.push((number, raw));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
