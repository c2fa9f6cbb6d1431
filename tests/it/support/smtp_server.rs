//! A mail server: takes mails by SMTP and keeps them for the test.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A mail as it arrived.
#[derive(Debug, Clone)]
pub struct Received {
    pub from: String,
    pub to: Vec<String>,
    pub head: String,
    /// Decoded.
    pub body: String,
}

/// A server that listens until it is dropped.
pub struct SmtpServer {
    pub addr: SocketAddr,
    state: Arc<State>,
    listening: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    mails: Mutex<Vec<Received>>,
    /// Replies to the next recipients, in place of the usual one.
    replies: Mutex<Vec<String>>,
    logins: Mutex<Vec<String>>,
}

impl SmtpServer {
    pub async fn start() -> Self {
        Self::start_on("127.0.0.1:0".parse().unwrap()).await
    }

    pub async fn start_on(addr: SocketAddr) -> Self {
        let listener = TcpListener::bind(addr).await.unwrap();
        let (addr, state) = (listener.local_addr().unwrap(), Arc::<State>::default());
        let shared = Arc::clone(&state);
        let listening = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, Arc::clone(&shared)));
            }
        });
        Self { addr, state, listening }
    }

    /// Answers the next recipient with this line.
    pub fn answer_next_recipient(&self, reply: &str) {
        self.state.replies.lock().unwrap().push(reply.to_owned());
    }

    pub fn mails(&self) -> Vec<Received> {
        self.state.mails.lock().unwrap().clone()
    }

    /// `username:password` of each log-in.
    pub fn logins(&self) -> Vec<String> {
        self.state.logins.lock().unwrap().clone()
    }
}

impl Drop for SmtpServer {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Received {
    /// The link in the mail.
    pub fn link(&self) -> String {
        let line = self.body.lines().find(|line| line.starts_with("http"));
        line.unwrap_or_else(|| panic!("no link in {self:?}")).to_owned()
    }

    pub fn token(&self) -> String {
        self.link().split_once("?token=").unwrap().1.to_owned()
    }
}

async fn serve(connection: TcpStream, state: Arc<State>) {
    let (read, mut write) = connection.into_split();
    let mut lines = BufReader::new(read);
    let (mut from, mut to) = (String::new(), Vec::new());
    say(&mut write, "220 test").await;
    while let Some(line) = next_line(&mut lines).await {
        let (verb, rest) = line.split_at(line.len().min(4));
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => say(&mut write, "250-test\r\n250 AUTH PLAIN").await,
            "AUTH" => {
                let text = STANDARD.decode(rest.rsplit(' ').next().unwrap()).unwrap();
                let text = String::from_utf8(text).unwrap();
                let login = text.trim_start_matches('\0').replace('\0', ":");
                state.logins.lock().unwrap().push(login);
                say(&mut write, "235 welcome").await;
            }
            "MAIL" => {
                (from, to) = (address(rest), Vec::new());
                say(&mut write, "250 ok").await;
            }
            "RCPT" => {
                let reply = state.replies.lock().unwrap().pop();
                if reply.is_none() {
                    to.push(address(rest));
                }
                say(&mut write, reply.as_deref().unwrap_or("250 ok")).await;
            }
            "DATA" => {
                say(&mut write, "354 go on").await;
                let (head, body) = message(&mut lines).await;
                let (from, to) = (from.clone(), to.clone());
                state.mails.lock().unwrap().push(Received { from, to, head, body });
                say(&mut write, "250 taken").await;
            }
            "QUIT" => return say(&mut write, "221 bye").await,
            _ => say(&mut write, "250 ok").await,
        }
    }
}

async fn say(write: &mut OwnedWriteHalf, line: &str) {
    let _ = write.write_all(format!("{line}\r\n").as_bytes()).await;
}

async fn next_line(lines: &mut BufReader<OwnedReadHalf>) -> Option<String> {
    let mut line = String::new();
    let read = lines.read_line(&mut line).await.ok()?;
    (read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
}

fn address(rest: &str) -> String {
    let (_, address) = rest.split_once('<').unwrap();
    address.split_once('>').unwrap().0.to_owned()
}

/// Head and decoded body of a mail.
async fn message(lines: &mut BufReader<OwnedReadHalf>) -> (String, String) {
    let mut text = Vec::new();
    while let Some(line) = next_line(lines).await.filter(|line| line != ".") {
        text.push(line.strip_prefix('.').map_or(line.clone(), str::to_owned));
    }
    let text = text.join("\r\n");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let encoding = head.lines().find_map(|line| line.strip_prefix("Content-Transfer-Encoding: "));
    let body = match encoding {
        Some("base64") => STANDARD.decode(body.replace("\r\n", "")).unwrap(),
        Some("quoted-printable") => quoted_printable(body),
        _ => body.as_bytes().to_vec(),
    };
    (head.to_owned(), String::from_utf8(body).unwrap().replace("\r\n", "\n"))
}

fn quoted_printable(body: &str) -> Vec<u8> {
    let joined = body.replace("=\r\n", "");
    let mut bytes = joined.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte == b'=' {
            let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
            let digits = std::str::from_utf8(&digits).unwrap().to_owned();
            decoded.push(u8::from_str_radix(&digits, 16).unwrap());
        } else {
            decoded.push(byte);
        }
    }
    decoded
}
