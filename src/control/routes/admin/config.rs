//! `GET /api/v1/admin/config`: the configuration in force, without secrets.

use crate::config::report::SectionReport;
use crate::control::api_error::ApiError;
use crate::control::auth::AdminReader;
use crate::control::openapi::errors::{AdminReaderRequired, Unavailable};
use crate::control::state::ControlState;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

/// The configuration in force.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConfigView {
    pub sections: Vec<ConfigSection>,
}

/// The settings of one section.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConfigSection {
    /// As in the configuration file; entries of lists are named too, such as `upstreams.xai`.
    #[schema(example = "limits")]
    pub name: String,
    pub settings: Vec<ConfigSetting>,
}

/// A setting and its value, as `serve` logs it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConfigSetting {
    #[schema(example = "body_bytes")]
    pub key: String,
    /// `***` for a secret.
    #[schema(example = "33554432")]
    pub value: String,
}

/// Get the configuration
///
/// As it is in effect: defaults, file and environment, with what was reloaded since the start. Secrets are `***`.
#[utoipa::path(get, path = "/api/v1/admin/config", tag = "Admin", security(("token" = [])),
    responses((status = 200, body = ConfigView), AdminReaderRequired, Unavailable))]
pub async fn config(
    State(state): State<ControlState>,
    _reader: AdminReader,
) -> Result<Json<ConfigView>, ApiError> {
    Ok(Json(in_effect(&state)))
}

/// The configuration in force.
#[must_use]
pub fn in_effect(state: &ControlState) -> ConfigView {
    let report = state.instance.config.load_full();
    ConfigView { sections: report.iter().map(ConfigSection::of).collect() }
}

impl ConfigSection {
    fn of(section: &SectionReport) -> Self {
        let settings = section.settings.iter();
        Self {
            name: section.name.clone(),
            settings: settings
                .map(|one| ConfigSetting { key: one.key.clone(), value: one.value.clone() })
                .collect(),
        }
    }
}
