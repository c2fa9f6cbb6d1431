//! The first admin, from the log of a new gateway; invitations of the command line; `check` of the mail server.

use super::{Host, refused, stdout};
use crate::support::http_client::Call;
use crate::support::smtp_server::SmtpServer;
use crate::support::soon;
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery staple";

/// The tokens of the set-up links in the log so far.
fn tokens(host: &Host) -> Vec<String> {
    let log = host.log();
    let links = log.split("/console/setup?token=").skip(1);
    let token = |rest: &str| {
        rest.chars().take_while(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
    };
    links.map(token).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_gateway_without_an_admin_leads_to_one() {
    let host = Host::new();
    host.serve().await.ends_well().await;
    let serving = host.serve().await;
    soon("both links are logged", || async { tokens(&host).len() == 2 }).await;
    let tokens = tokens(&host);
    assert!(host.log().contains(&format!("http://{}/console/setup?token=", serving.addr)));
    let setup = async |token: &str| {
        let form = json!({ "token": token, "email": "root@example.com", "password": PASSWORD });
        Call::post(serving.addr, "/api/v1/setup").body(form.to_string()).send().await
    };
    assert_eq!(setup(&tokens[0]).await.status, 403, "the restart has ended it");
    let reply = setup(&tokens[1]).await;
    assert_eq!((reply.status, &reply.json()["user"]["role"]), (201, &json!("admin")));
    serving.ends_well().await;
    host.serve().await.ends_well().await;
    assert_eq!(self::tokens(&host).len(), 2, "no link where there is an admin");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_the_command_line_is_invited() {
    let host = Host::new();
    let added = host.run(&["user", "add", "ada@example.com", "--invite", "--json"]);
    let added: Value = serde_json::from_slice(&added.stdout).unwrap();
    let path = added["invitation"]["path"].as_str().unwrap();
    let printed = stdout(&host.run(&["user", "invite", "ada@example.com"]));
    let newer = printed.split_once("?token=").unwrap().1.trim();
    assert!(refused(&host.run(&["user", "invite", "eve@example.com"])).contains("eve@example.com"));
    let serving = host.serve().await;
    let accept = async |token: &str| {
        let form = json!({ "token": token, "password": PASSWORD });
        Call::post(serving.addr, "/api/v1/users/accept-invitation")
            .body(form.to_string())
            .send()
            .await
            .status
    };
    let older = path.split_once("?token=").unwrap().1;
    assert_eq!((accept(older).await, accept(newer).await, accept(newer).await), (403, 200, 403));
    serving.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tries_the_mail_server() {
    let smtp = SmtpServer::start().await;
    let host = Host::new();
    let mail = format!(
        "public_url = \"https://api.example.com\"\n[mail]\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\nfrom = \"k@example.com\"",
        smtp.addr.port()
    );
    host.configure(&mail);
    let command = host.command(&["check"]);
    let checked = async |mut command: std::process::Command| {
        tokio::task::spawn_blocking(move || stdout(&command.output().unwrap())).await.unwrap()
    };
    let found = checked(command).await;
    assert!(
        found.contains(&format!("ok    mail 127.0.0.1:{}: accepts mails", smtp.addr.port())),
        "{found}"
    );
    drop(smtp);
    let found = checked(host.command(&["check"])).await;
    assert!(found.contains("FAIL  mail 127.0.0.1:") && found.contains("check [mail]"), "{found}");
}
