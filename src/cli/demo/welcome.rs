//! What the demo prints for a person.

use super::Ready;
use super::sample_usage::{DAYS, UPSTREAM};

/// The addresses and log-ins, and the first calls to try.
pub(super) fn text(ready: &Ready) -> String {
    let Ready { console_url, caller_email, caller_password, admin_email, admin_password, .. } =
        ready;
    let (calls, usage) = (first_calls(ready), more(ready));
    format!(
        r"KnockXPrime is running. Open the console in a browser:

  {console_url}

  as a caller     {caller_email}     password {caller_password}
  as an admin     {admin_email}    password {admin_password}

Its upstream is a simulated Grok that generates random words; the token counts are exact. The usage of the {DAYS}
days before today is made up: its calls have the upstream `{UPSTREAM}`.
{calls}{usage}
Press Ctrl-C to stop.
"
    )
}

fn first_calls(ready: &Ready) -> String {
    let Ready { base_url, api_key, .. } = ready;
    format!(
        r#"
From another terminal:

  export KNOCKX_KEY={api_key}

  curl -N {base_url}/chat/completions \
    -H "Authorization: Bearer $KNOCKX_KEY" -H "Content-Type: application/json" \
    -d '{{"model":"grok-4.3","stream":true,"messages":[{{"role":"user","content":"Hello! [sim tokens=60 token-ms=50]"}}]}}'

or with the OpenAI SDK:

  import os
  from openai import OpenAI
  client = OpenAI(base_url="{base_url}", api_key=os.environ["KNOCKX_KEY"])
  for chunk in client.chat.completions.create(model="grok-4.3", stream=True,
          messages=[{{"role": "user", "content": "Hello! [sim tokens=60 token-ms=50]"}}]):
      print(chunk.choices[0].delta.content or "", end="", flush=True)

([sim ...] tells the simulator to send 60 tokens, one every 50 ms.)
"#
    )
}

fn more(ready: &Ready) -> String {
    let Ready { base_url, metrics_url, simulator_url, admin_email, admin_password, .. } = ready;
    let base = base_url.trim_end_matches("/v1");
    format!(
        r#"
To see usage, metrics and the simulator's statistics:

  curl {base}/api/v1/chat/usage -H "Authorization: Bearer $KNOCKX_KEY"
  curl {metrics_url}
  curl {simulator_url}/sim/stats

The admin's access token manages users, keys and plans (docs/api.md):

  curl {base}/api/v1/users/login -H "Content-Type: application/json" \
    -d '{{"email":"{admin_email}","password":"{admin_password}"}}'
"#
    )
}
