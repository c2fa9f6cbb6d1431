"""What `scripts/reconcile` starts: one upstream, models of every kind, the plans that are seeded."""

# Models with `hidden_reasoning` below.
HIDDEN_REASONING = {"grok-4.20-0309-reasoning"}

CONFIG = """
[telemetry]
log_format = "json"
log_filter = "warn"
[limits]
{limits}
[[upstreams]]
name = "xai"
base_url = "http://127.0.0.1:1/v1"
api_key_env = ["GROK_API_KEY"]
first_byte_timeout = 30
idle_timeout = 4
surfaces = [
    "chat/completions", "responses", "completions", "embeddings", "images/generations", "messages",
    "messages/count_tokens", "tokenize-text",
]
[[models]]
id = "grok-4.3"
upstreams = [{{ name = "xai" }}]
context_tokens = 1000000
prices = {{ input = 1.25, cached_input = 0.20, output = 2.50 }}
[[models]]
id = "grok-4.20-0309-reasoning"
upstreams = [{{ name = "xai" }}]
context_tokens = 1000000
prices = {{ input = 1.25, cached_input = 0.20, output = 2.50 }}
hidden_reasoning = true
[[models]]
id = "grok-imagine-image"
upstreams = [{{ name = "xai", surfaces = ["images/generations"] }}]
context_tokens = 8000
prices = {{ input = 0, cached_input = 0, output = 0 }}
image_price = 0.02
image_tokens = 0
[[models]]
id = "simulated-embedding"
upstreams = [{{ name = "xai", surfaces = ["embeddings"] }}]
context_tokens = 8000
prices = {{ input = 0.02, cached_input = 0.02, output = 0 }}
"""

# Set where the binary knows them: short enough for a run to see their ends.
LIMITS = {"drain": 8}

PLAIN, REASONING = "grok-4.3", "grok-4.20-0309-reasoning"
IMAGES, EMBEDDINGS = "grok-imagine-image", "simulated-embedding"

# As the default configuration has them, with room in the window for bursts.
PLANS = [
    {"id": "baby-free", "tokens": 1_000, "requests": 10, "streams": 20},
    {"id": "leveler", "tokens": 5_000, "requests": 100, "streams": 50},
    {"id": "log-min", "tokens": 20_000, "requests": 500, "streams": 50},
    {"id": "high-max", "tokens": 100_000, "requests": 2_000, "streams": 100},
]


def config(default_config):
    """The configuration for a binary whose defaults are these."""
    known = {line.split(" = ")[0] for line in default_config.splitlines()}
    limits = [f"{key} = {value}" for key, value in LIMITS.items() if key in known]
    return CONFIG.format(limits="\n".join(limits))
