//! The first page after log-in: today's meters, thirty days, and how to make a call.

use crate::console::chart::{self, Bar};
use crate::console::error::{PageError, html};
use crate::console::format::{Time, count, dollars};
use crate::console::page::Page;
use crate::console::session::SignedIn;
use crate::control::routes::usage::live::{self, Usage};
use crate::control::state::ControlState;
use crate::control::views::period::Period;
use askama::Template;
use axum::extract::State;
use axum::response::Response;
use domain::day::Day;
use store::reports::Sums;

#[derive(Template)]
#[template(path = "console/overview.html")]
struct OverviewPage {
    page: Page,
    usage: Usage,
    meters: Vec<Meter>,
    resets_at: Time,
    chart: String,
    days: Vec<DayRow>,
    total: Sums,
    snippets: Vec<Snippet>,
}

/// The meters alone, as the page loads them again.
#[derive(Template)]
#[template(path = "console/meters.html")]
#[expect(clippy::struct_field_names, reason = "the names are those of the template")]
struct Meters {
    page: Page,
    usage: Usage,
    meters: Vec<Meter>,
    resets_at: Time,
}

/// How much of one limit is used.
pub struct Meter {
    pub name: String,
    pub used: u64,
    pub reserved: u64,
    pub limit: u64,
    /// What is left and reserved, as a sentence.
    pub note: String,
}

impl Meter {
    /// From here on the limit is near.
    #[must_use]
    pub fn high(&self) -> u64 {
        self.limit - self.limit / 5
    }
}

/// One day of the chart's table.
struct DayRow {
    day: Day,
    sums: Sums,
}

/// How to call the gateway from one client.
pub struct Snippet {
    pub client: &'static str,
    pub code: String,
}

impl OverviewPage {
    fn sums(&self) -> String {
        let total = &self.total;
        let (tokens, calls) = (count(total.tokens()), count(total.calls));
        let cost = dollars(total.cost_micro_dollars);
        self.page.fill("{} tokens in {} calls, {}", &[&tokens, &calls, &cost])
    }
}

/// `GET /console`.
pub async fn show(
    State(state): State<ControlState>,
    signed_in: SignedIn,
) -> Result<Response, PageError> {
    let SignedIn { page, current, .. } = signed_in;
    let user = current.user;
    let usage = live::of(&state, &user).await?;
    let period = Period::asked(None, None, usage.day)?;
    let days = state.store.usage_by_day(user.id, period.from, period.to).await?;
    let total: Sums = days.iter().map(|(_, sums)| sums).sum();
    let days = period.filled(days);
    let bars: Vec<Bar> = days.iter().map(|(day, sums)| bar(*day, sums)).collect();
    html(&OverviewPage {
        meters: meters_of(&page, &usage),
        resets_at: Time(usage.resets_at),
        chart: chart::bars(page.t("Tokens per day"), &bars),
        days: days.into_iter().rev().map(|(day, sums)| DayRow { day, sums }).collect(),
        total,
        snippets: snippets(&page, &state, "$KNOCKX_KEY"),
        usage,
        page,
    })
}

/// `GET /console/meters`: the part of the overview that changes.
pub async fn meters(
    State(state): State<ControlState>,
    signed_in: SignedIn,
) -> Result<Response, PageError> {
    let SignedIn { page, current, .. } = signed_in;
    let usage = live::of(&state, &current.user).await?;
    html(&Meters {
        meters: meters_of(&page, &usage),
        resets_at: Time(usage.resets_at),
        usage,
        page,
    })
}

fn bar(day: Day, sums: &Sums) -> Bar {
    Bar { label: day.0.strftime("%m-%d").to_string(), value: sums.tokens() }
}

/// The meters of a user.
#[must_use]
pub fn meters_of(page: &Page, usage: &Usage) -> Vec<Meter> {
    let (tokens, requests) = (&usage.tokens, &usage.requests);
    let (window, streams) = (&usage.window, &usage.streams);
    let meter = |name: String, used: u64, reserved: u64, limit: u64, remaining: u64| {
        let mut note = page.fill("{} left", &[&count(remaining)]);
        if reserved > 0 {
            let reserved = page.fill("{} reserved by running calls", &[&count(reserved)]);
            note = format!("{note} · {reserved}");
        }
        Meter { name, used, reserved, limit, note }
    };
    let in_window = window.limit.saturating_sub(window.remaining);
    vec![
        meter(
            page.t("Tokens today").to_owned(),
            tokens.used,
            tokens.reserved,
            tokens.limit,
            tokens.remaining,
        ),
        meter(
            page.t("Requests today").to_owned(),
            requests.used,
            0,
            requests.limit,
            requests.remaining,
        ),
        meter(
            page.fill("Requests per {} s", &[&window.seconds]),
            in_window,
            0,
            window.limit,
            window.remaining,
        ),
        meter(page.t("Open streams").to_owned(), streams.open, 0, streams.limit, streams.remaining),
    ]
}

/// Ready-to-paste calls of the model that the gateway lists first.
#[must_use]
pub fn snippets(page: &Page, state: &ControlState, api_key: &str) -> Vec<Snippet> {
    let model = state.default_model();
    let base = format!("{}/v1", page.origin);
    // The variable, as each language reads it.
    let (python_key, javascript_key, python_import) = if api_key.starts_with('$') {
        (
            "os.environ[\"KNOCKX_KEY\"]".to_owned(),
            "process.env.KNOCKX_KEY".to_owned(),
            "import os\n",
        )
    } else {
        (format!("\"{api_key}\""), format!("\"{api_key}\""), "")
    };
    let curl = format!(
        "curl -N {base}/chat/completions \\\n  -H \"Authorization: Bearer {api_key}\" \\\n  -H \"Content-Type: application/json\" \\\n  -d '{{\"model\":\"{model}\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"Hello!\"}}]}}'"
    );
    let python = format!(
        "{python_import}from openai import OpenAI\n\nclient = OpenAI(base_url=\"{base}\", api_key={python_key})\nreply = client.chat.completions.create(\n    model=\"{model}\",\n    messages=[{{\"role\": \"user\", \"content\": \"Hello!\"}}],\n)\nprint(reply.choices[0].message.content)"
    );
    let javascript = format!(
        "import OpenAI from \"openai\";\n\nconst client = new OpenAI({{ baseURL: \"{base}\", apiKey: {javascript_key} }});\nconst reply = await client.chat.completions.create({{\n  model: \"{model}\",\n  messages: [{{ role: \"user\", content: \"Hello!\" }}],\n}});\nconsole.log(reply.choices[0].message.content);"
    );
    let codex = format!(
        "# ~/.codex/config.toml\nmodel = \"{model}\"\nmodel_provider = \"knockx\"\n\n[model_providers.knockx]\nname = \"KnockXPrime\"\nbase_url = \"{base}\"\nenv_key = \"KNOCKX_KEY\"\nwire_api = \"responses\""
    );
    let claude = format!(
        "export ANTHROPIC_BASE_URL={}\nexport ANTHROPIC_AUTH_TOKEN={api_key}\nexport ANTHROPIC_MODEL={model}\nclaude",
        page.origin
    );
    let web_ui = format!(
        "export OPENAI_API_BASE_URL={base}\nexport OPENAI_API_KEY={api_key}\nopen-webui serve"
    );
    [
        ("curl", curl),
        ("OpenAI Python", python),
        ("OpenAI JavaScript", javascript),
        ("Codex", codex),
        ("Claude Code", claude),
        ("Open WebUI", web_ui),
    ]
    .map(|(client, code)| Snippet { client, code })
    .into()
}
