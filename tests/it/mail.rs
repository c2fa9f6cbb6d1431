//! Mails through a real mail server: verification, password reset, outages.

use crate::support::http_client::{Call, Reply};
use crate::support::smtp_server::{Received, SmtpServer};
use crate::support::{Gateway, gateway, soon};
use serde_json::{Value, json};
use std::net::SocketAddr;

const PASSWORD: &str = "correct horse battery staple";
const NEW_PASSWORD: &str = "another horse entirely";

/// A gateway that sends its mails through the server at `smtp`.
async fn start(smtp: SocketAddr) -> Gateway {
    let mail = format!(
        "[mail]\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\nusername = \"u\"\npassword = \"p\"\n\
         from = \"KnockXPrime <noreply@example.com>\"",
        smtp.port()
    );
    gateway().config_lines("public_url = \"https://api.example.com/\"", &mail).start().await
}

async fn post(gw: &Gateway, path: &str, body: Value) -> Reply {
    Call::post(gw.addr(), path).header("accept-language", "en").body(body.to_string()).send().await
}

async fn register(gw: &Gateway, email: &str) {
    let form = json!({ "email": email, "password": PASSWORD });
    let reply = post(gw, "/api/v1/users/register", form).await;
    assert_eq!(reply.status, 201, "{reply:?}");
}

async fn forgot(gw: &Gateway, email: &str) {
    let reply = post(gw, "/api/v1/users/forgot-password", json!({ "email": email })).await;
    assert_eq!((reply.status, reply.body.len()), (202, 0), "{reply:?}");
}

async fn login(gw: &Gateway, password: &str) -> u16 {
    let form = json!({ "email": "ada@example.com", "password": password });
    post(gw, "/api/v1/users/login", form).await.status
}

/// The mail that arrives as the one with this number.
async fn mail(smtp: &SmtpServer, number: usize) -> Received {
    soon("a mail arrives", || async { smtp.mails().len() >= number }).await;
    smtp.mails()[number - 1].clone()
}

fn sent(gw: &Gateway, kind: &str, outcome: &str) -> String {
    let series = format!("knockx_mails_total{{kind=\"{kind}\",outcome=\"{outcome}\"}} ");
    let metrics = gw.metrics();
    let line = metrics.lines().find_map(|line| line.strip_prefix(&series));
    line.unwrap_or_else(|| panic!("no {series}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn mailed_links_verify_an_address_and_reset_a_password() {
    let smtp = SmtpServer::start().await;
    let gw = start(smtp.addr).await;
    register(&gw, "ada@example.com").await;
    let verification = mail(&smtp, 1).await;
    assert_eq!(
        (&*verification.from, &verification.to[..]),
        ("noreply@example.com", &["ada@example.com".to_owned()][..])
    );
    assert!(verification.head.contains("KnockXPrime"), "{verification:?}");
    let page = "https://api.example.com/console/verify?token=lt-kx-";
    assert!(verification.link().starts_with(page), "{verification:?}");
    assert_eq!(smtp.logins(), ["u:p"]);
    let form = json!({ "token": verification.token() });
    let reply = post(&gw, "/api/v1/users/verify-email", form).await;
    assert_eq!(reply.json()["email_verified"], true, "{reply:?}");

    forgot(&gw, "nobody@example.com").await;
    forgot(&gw, "ada@example.com").await;
    let first = mail(&smtp, 2).await;
    forgot(&gw, "ada@example.com").await;
    let second = mail(&smtp, 3).await;
    assert_eq!((&*first.to[0], &*second.to[0]), ("ada@example.com", "ada@example.com"));
    let reset = async |mail: &Received| {
        let form = json!({ "token": mail.token(), "new_password": NEW_PASSWORD });
        post(&gw, "/api/v1/users/reset-password", form).await.status
    };
    assert_eq!((reset(&first).await, reset(&second).await, reset(&second).await), (403, 204, 403));
    assert_eq!((login(&gw, PASSWORD).await, login(&gw, NEW_PASSWORD).await), (401, 200));
    assert_eq!(
        (&*sent(&gw, "verify_email", "sent"), &*sent(&gw, "reset_password", "sent")),
        ("1", "2")
    );
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_mail_server_delays_mails_and_no_request() {
    let addr = SmtpServer::start().await.addr;
    let gw = start(addr).await;
    register(&gw, "ada@example.com").await;
    register(&gw, "eve@example.com").await;
    forgot(&gw, "ada@example.com").await;
    soon("an attempt fails", || async { sent(&gw, "verify_email", "retried") != "0" }).await;
    let smtp = SmtpServer::start_on(addr).await;
    mail(&smtp, 3).await;
    let mails = smtp.mails();
    let mut to: Vec<&str> = mails.iter().map(|mail| &*mail.to[0]).collect();
    to.sort_unstable();
    assert_eq!(to, ["ada@example.com", "ada@example.com", "eve@example.com"], "each once");
    gw.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deferred_mail_is_repeated_and_a_refused_one_is_not() {
    let smtp = SmtpServer::start().await;
    let gw = start(smtp.addr).await;
    smtp.answer_next_recipient("451 greylisted");
    register(&gw, "ada@example.com").await;
    assert_eq!(mail(&smtp, 1).await.to, ["ada@example.com"]);
    assert_eq!(sent(&gw, "verify_email", "retried"), "1");
    smtp.answer_next_recipient("550 no such user");
    register(&gw, "eve@example.com").await;
    soon("it is given up", || async { sent(&gw, "verify_email", "failed") == "1" }).await;
    assert_eq!(smtp.mails().len(), 1);
    gw.finish().await;
}
