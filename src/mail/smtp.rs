//! The mail server, by SMTP.

use super::Mail;
use crate::config::Mail as Settings;
use crate::config::mail::MailTls;
use anyhow::Context;
use http::Uri;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use std::error::Error as _;
use std::time::Duration;
use system::clock;

/// Time for each command to the mail server.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(15);
/// Time for all of an attempt.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// The mail server as configured. Each mail has a connection of its own.
pub struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    /// The address of the gateway, as mails show it.
    site: String,
    /// Host of that address, for message ids.
    domain: String,
}

/// The reason for which a mail was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The mail server refuses this mail or its recipient: another attempt is of no use.
    #[error("{0}")]
    Refused(String),
    /// The mail server does not take this mail now.
    #[error("{0}")]
    Deferred(String),
    /// The mail server cannot be reached, or does not let the gateway in: no mail can be sent.
    #[error("{0}")]
    Unavailable(String),
}

impl Smtp {
    /// The mail server of the settings, for a gateway at `public_url`. Connects to nothing.
    ///
    /// # Errors
    /// The CA file cannot be used.
    pub fn new(settings: &Settings, public_url: &str) -> anyhow::Result<Self> {
        let host = public_url.parse::<Uri>().ok().and_then(|uri| Some(uri.host()?.to_owned()));
        let domain = host.unwrap_or_else(|| "localhost".to_owned());
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&settings.host)
            .port(settings.port)
            .tls(tls(settings)?)
            .hello_name(ClientId::Domain(domain.clone()))
            .timeout(Some(COMMAND_TIMEOUT));
        if let (Some(username), Some(password)) = (&settings.username, &settings.password) {
            let password = password.expose().to_owned();
            builder = builder.credentials(Credentials::new(username.clone(), password));
        }
        Ok(Self {
            transport: builder.build(),
            from: settings.from.parse().context("`mail.from` is not an address")?,
            site: public_url.to_owned(),
            domain,
        })
    }

    /// Sends a mail: returns when the server has accepted it.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send(&self, mail: &Mail) -> Result<(), SendError> {
        let message = self.message(mail)?;
        match tokio::time::timeout(SEND_TIMEOUT, self.transport.send(message)).await {
            Ok(sent) => sent.map(drop).map_err(|error| SendError::of(&error)),
            Err(_) => Err(SendError::Unavailable("the mail server took too long".to_owned())),
        }
    }

    /// Connects, greets, encrypts and logs in as configured, and sends nothing.
    ///
    /// # Errors
    /// What went wrong.
    pub async fn check(&self) -> Result<(), String> {
        match tokio::time::timeout(SEND_TIMEOUT, self.transport.test_connection()).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err("the mail server closed the connection".to_owned()),
            Ok(Err(error)) => Err(described(&error)),
            Err(_) => Err("the mail server took too long".to_owned()),
        }
    }

    /// The mail as it is sent. The recipient is parsed, never pasted: what is not one address is refused, so
    /// that no address can add a header or a second recipient.
    fn message(&self, mail: &Mail) -> Result<Message, SendError> {
        let refused = |error: &dyn std::fmt::Display| SendError::Refused(error.to_string());
        let to: Address = mail.to.parse().map_err(|error| refused(&error))?;
        let text = mail.content.text(mail.language, &self.site);
        let id = format!("<{}@{}>", clock::unique().simple(), self.domain);
        // Asks for no replies of holiday notices.
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(text.subject)
            .message_id(Some(id))
            .raw_header(HeaderValue::new(automatic, "auto-generated".to_owned()))
            .header(ContentType::TEXT_PLAIN)
            .body(text.body)
            .map_err(|error| refused(&error))
    }
}

fn tls(settings: &Settings) -> anyhow::Result<Tls> {
    if settings.tls == MailTls::None {
        return Ok(Tls::None);
    }
    let mut parameters = TlsParameters::builder(settings.host.clone());
    if let Some(file) = &settings.ca_file {
        let pem = std::fs::read(file).with_context(|| format!("cannot read {file}"))?;
        let authority = Certificate::from_pem(&pem);
        parameters = parameters.add_root_certificate(
            authority.with_context(|| format!("{file} holds no certificate"))?,
        );
    }
    let parameters = parameters.build_rustls().context("cannot prepare TLS for mails")?;
    Ok(match settings.tls {
        MailTls::Implicit => Tls::Wrapper(parameters),
        MailTls::Starttls | MailTls::None => Tls::Required(parameters),
    })
}

impl SendError {
    fn of(error: &Error) -> Self {
        // Replies to the log-in: the password is wrong, or encryption is asked for. No fault of the mail.
        const LOGIN: [u16; 4] = [530, 534, 535, 538];
        let code = error.status().map(u16::from);
        let text = described(error);
        if error.is_permanent() && !code.is_some_and(|code| LOGIN.contains(&code)) {
            Self::Refused(text)
        } else if error.is_transient() && code != Some(421) {
            Self::Deferred(text)
        } else {
            Self::Unavailable(text)
        }
    }
}

/// The error and its causes in one line.
fn described(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Content;
    use crate::mail::message::Language;
    use jiff::Timestamp;

    fn smtp() -> Smtp {
        let settings = Settings {
            host: "127.0.0.1".to_owned(),
            port: 1,
            tls: MailTls::None,
            ca_file: None,
            username: None,
            password: None,
            from: "KnockXPrime <noreply@example.com>".to_owned(),
        };
        Smtp::new(&settings, "https://api.example.com/base").unwrap()
    }

    fn mail(to: &str) -> Mail {
        let url = "https://api.example.com/base/console/x?token=t".to_owned();
        let content = Content::VerifyEmail { url };
        Mail { to: to.to_owned(), language: Language::Chinese, content, until: Timestamp::MAX }
    }

    #[test]
    fn a_mail_has_one_recipient_and_only_our_headers() {
        let message = smtp().message(&mail("ada@example.com")).unwrap();
        assert_eq!(message.envelope().to().len(), 1);
        let text = String::from_utf8(message.formatted()).unwrap();
        let (head, _) = text.split_once("\r\n\r\n").unwrap();
        for header in ["From: ", "To: ada@example.com", "Auto-Submitted: auto-generated", "Date: "]
        {
            assert!(head.contains(header), "no {header}: {head}");
        }
        assert!(head.contains("@api.example.com>"), "{head}");
    }

    #[test]
    fn an_address_that_would_add_a_header_or_a_recipient_is_refused() {
        for to in [
            "ada@example.com\r\nBcc: eve@example.com",
            "ada@example.com\nSubject: x",
            "ada@example.com, eve@example.com",
            "<ada@example.com>",
            "ada@example.com> SIZE=1",
            "ada",
            "",
        ] {
            let refused = smtp().message(&mail(to));
            assert!(matches!(refused, Err(SendError::Refused(_))), "{to:?}");
        }
    }
}
