//! The dialect that the requests for a model are written in.

use super::loaded;
use wire::dialect::Dialect;

/// One model at a local server and at xAI: requests are written as both take them.
#[test]
fn an_upstream_that_takes_any_request_does_not_hide_the_dialect_of_another() {
    let upstream = |name: &str, dialect: &str| {
        format!(
            "[[upstreams]]\nname = \"{name}\"\nbase_url = \"https://{name}/v1\"\napi_key = \"k\"\n\
             dialect = \"{dialect}\"\n"
        )
    };
    let upstreams = upstream("local", "chat_only") + &upstream("xai", "xai");
    for (served_by, dialect) in
        [("\"local\", \"xai\"", Dialect::Xai), ("\"local\"", Dialect::OpenAi)]
    {
        let names = served_by.split(", ").map(|name| format!("{{ name = {name} }}"));
        let model = format!(
            "[[models]]\nid = \"m\"\ncontext_tokens = 1000\nowned_by = \"x\"\nupstreams = [{}]\n\
             prices = {{ input = 1, cached_input = 1, output = 1 }}\n",
            names.collect::<Vec<_>>().join(", ")
        );
        let config = loaded(&(upstreams.clone() + &model), &[]);
        assert_eq!(config.catalog.model("m").unwrap().dialect(), dialect, "{served_by}");
    }
}
