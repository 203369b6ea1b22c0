//! Programs that keep secrets for Docker: `docker-credential-NAME get`, `store`
//! and `erase`, which speak JSON over their standard streams.

use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

use super::super::text::escape;
use super::{Credential, CredentialError};

/// A keychain may have to ask its user.
const PATIENCE: Duration = Duration::from_secs(120);
const MAX_ANSWER: u64 = 256 << 10;
/// What helpers say when they have nothing, and Docker compares with.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// In place of a user's name: the secret is an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Store<'a> {
    #[serde(rename = "ServerURL")]
    server: &'a str,
    username: &'a str,
    secret: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

pub(super) async fn get(name: &str, server: &str) -> Result<Option<Credential>, CredentialError> {
    let answer = match run(name, "get", server).await? {
        Ok(answer) => answer,
        Err(said) if said.contains(NOT_FOUND) => return Ok(None),
        Err(said) => return Err(failed(name, escape(&said))),
    };
    let malformed = |_| failed(name, "its answer is not what it should be".to_owned());
    let answer: Answer = serde_json::from_slice(&answer).map_err(malformed)?;
    match answer.username == TOKEN_USER {
        true => Err(CredentialError::IdentityToken(server.to_owned())),
        false => Ok(Some(Credential {
            username: answer.username,
            secret: answer.secret,
        })),
    }
}

pub(super) async fn store(
    name: &str,
    server: &str,
    credential: &Credential,
) -> Result<(), CredentialError> {
    let message = Store {
        server,
        username: &credential.username,
        secret: &credential.secret,
    };
    let message = serde_json::to_string(&message)
        .map_err(|_| failed(name, "the login cannot be written as JSON".to_owned()))?;
    let outcome = run(name, "store", &message).await?;
    outcome
        .map(drop)
        .map_err(|said| failed(name, escape(&said)))
}

pub(super) async fn erase(name: &str, server: &str) -> Result<(), CredentialError> {
    let outcome = run(name, "erase", server).await?;
    outcome
        .map(drop)
        .map_err(|said| failed(name, escape(&said)))
}

fn failed(name: &str, reason: String) -> CredentialError {
    CredentialError::Helper {
        program: format!("docker-credential-{}", escape(name)),
        reason,
    }
}

/// Runs a helper; its standard output, where it succeeds, else what it said.
async fn run(
    name: &str,
    verb: &str,
    input: &str,
) -> Result<Result<Vec<u8>, String>, CredentialError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if !name.bytes().all(plain) {
        return Err(failed(name, "this is not a helper's name".to_owned()));
    }
    let conversation = converse(name, verb, input);
    match tokio::time::timeout(PATIENCE, conversation).await {
        Ok(outcome) => outcome.map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => failed(
                name,
                "it is not installed, but config.json names it".to_owned(),
            ),
            _ => failed(name, error.to_string()),
        }),
        Err(_) => Err(failed(name, "it does not answer".to_owned())),
    }
}

async fn converse(name: &str, verb: &str, input: &str) -> std::io::Result<Result<Vec<u8>, String>> {
    let mut child = Command::new(format!("docker-credential-{name}"))
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let give = async {
        if let Some(mut stdin) = stdin {
            // A helper that needs no input may not read it.
            let _ = stdin.write_all(input.as_bytes()).await;
            let _ = stdin.shutdown().await;
        }
    };
    let mut answer = Vec::new();
    let take = async {
        match stdout {
            Some(stdout) => stdout.take(MAX_ANSWER).read_to_end(&mut answer).await,
            None => Ok(0),
        }
    };
    let ((), read) = tokio::join!(give, take);
    read?;
    Ok(match child.wait().await?.success() {
        true => Ok(answer),
        false => Err(String::from_utf8_lossy(&answer).trim().to_owned()),
    })
}
