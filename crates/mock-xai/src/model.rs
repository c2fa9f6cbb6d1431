//! The available models and the prices of their tokens.

/// A model and its prices, in ticks (1e-10 US dollars) a token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    pub name: String,
    pub context: u64,
    pub input: u64,
    pub cached: u64,
    pub output: u64,
    /// True if requests can name an effort of reasoning; without one, the model does not reason here.
    pub takes_effort: bool,
}

/// Prompts of this size and more cost twice, input and output.
const LONG_PROMPT: u64 = 200_000;

/// The model whose prices apply to names without their own.
pub const DEFAULT: &str = "grok-4.3";

/// Models of the table that take an effort of reasoning. xAI's other models refuse it, `none` too.
const WITH_EFFORT: [&str; 4] = ["grok-4.7", "grok-4.6", "grok-4.5", "grok-4.3"];

/// Name, context, input, cached and output price.
const TABLE: [(&str, u64, u64, u64, u64); 9] = [
    ("grok-4.7", 500_000, 20_000, 5_000, 60_000),
    ("grok-4.6", 500_000, 20_000, 5_000, 60_000),
    ("grok-4.5", 500_000, 20_000, 3_000, 60_000),
    ("grok-4.3", 1_000_000, 12_500, 2_000, 25_000),
    ("grok-4.20-0309-reasoning", 1_000_000, 12_500, 2_000, 25_000),
    ("grok-4.20-0309-non-reasoning", 1_000_000, 12_500, 2_000, 25_000),
    ("grok-build-0.1", 256_000, 10_000, 2_000, 20_000),
    ("grok-imagine-image", 8_000, 0, 0, 0),
    // xAI has none; other servers do.
    ("simulated-embedding", 8_000, 200, 200, 0),
];

/// Other names for the above; replies carry the model's own name.
const ALIASES: [(&str, &str); 4] = [
    ("grok-latest", "grok-4.7"),
    ("grok-build-latest", "grok-4.5"),
    ("grok-code-fast", "grok-build-0.1"),
    ("grok-code-fast-1", "grok-build-0.1"),
];

/// All models: the table, and `more` at the default's price.
pub fn all(more: &[String]) -> Vec<Model> {
    let row = |&(name, context, input, cached, output): &(&str, u64, u64, u64, u64)| Model {
        name: name.to_owned(),
        context,
        input,
        cached,
        output,
        takes_effort: WITH_EFFORT.contains(&name),
    };
    let mut models: Vec<Model> = TABLE.iter().map(row).collect();
    if let Some(default) = models.iter().find(|model| model.name == DEFAULT).cloned() {
        models.extend(more.iter().map(|name| Model { name: name.clone(), ..default.clone() }));
    }
    models
}

/// The model behind a name or an alias.
pub fn find<'a>(models: &'a [Model], name: &str) -> Option<&'a Model> {
    let own = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, own)| own);
    models.iter().find(|model| model.name == own)
}

/// The body of `GET /v1/models`.
pub fn list_json(models: &[Model]) -> String {
    let data: Vec<_> = models.iter().map(Model::json).collect();
    format!(r#"{{"object":"list","data":[{}]}}"#, data.join(","))
}

/// `GET /v1/language-models`, with prices in cents per 100 million tokens: ticks a token.
pub fn priced_list_json(models: &[Model]) -> String {
    let priced = |model: &Model| {
        serde_json::json!({
            "id": model.name, "object": "model", "created": CREATED, "owned_by": "xai", "version": "1.0",
            "input_modalities": ["text", "image"], "output_modalities": ["text"], "aliases": [],
            "prompt_text_token_price": model.input, "cached_prompt_text_token_price": model.cached,
            "completion_text_token_price": model.output, "context_length": model.context,
        })
    };
    serde_json::json!({"models": models.iter().map(priced).collect::<Vec<_>>()}).to_string()
}

/// All models are of the same age.
const CREATED: i64 = 1_767_225_600;

impl Model {
    /// The model's entry in the list of models.
    pub fn json(&self) -> String {
        serde_json::json!({"id": self.name, "object": "model", "created": CREATED, "owned_by": "xai"}).to_string()
    }

    /// True if the model always reasons before it answers, and bills the reasoning. Others do where a request asks
    /// for it.
    pub fn reasons(&self) -> bool {
        self.name.ends_with("-reasoning") && !self.name.ends_with("non-reasoning")
    }

    /// The price of a call. `output` includes reasoning; `cached` is a part of `prompt`.
    pub fn cost_ticks(&self, prompt: u64, cached: u64, output: u64) -> u64 {
        let short = (prompt - cached) * self.input + cached * self.cached + output * self.output;
        if prompt >= LONG_PROMPT { short * 2 } else { short }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_lead_to_the_model_itself() {
        let models = all(&["house-model".to_owned()]);
        assert_eq!(
            find(&models, "grok-code-fast").map(|m| m.name.as_str()),
            Some("grok-build-0.1")
        );
        assert_eq!(find(&models, "house-model").map(|m| m.output), Some(25_000));
        assert_eq!(find(&models, "gpt-4o"), None);
    }

    #[test]
    fn a_price_is_exact_to_the_tick() {
        let models = all(&[]);
        let model = find(&models, "grok-4.3").expect("in the table");
        assert_eq!(model.cost_ticks(1000, 400, 50), 600 * 12_500 + 400 * 2_000 + 50 * 25_000);
        assert_eq!(model.cost_ticks(200_000, 0, 1), 2 * (200_000 * 12_500 + 25_000));
    }

    #[test]
    fn only_reasoning_models_reason() {
        let reasoning: Vec<_> =
            all(&[]).into_iter().filter(Model::reasons).map(|m| m.name).collect();
        assert_eq!(reasoning, ["grok-4.20-0309-reasoning"]);
    }
}
