//! `isolazi login` and `logout`.

use std::io::{BufRead, IsTerminal, Read, Write};

use anyhow::{Context as _, Result, anyhow, bail};

use crate::cli::{LoginArgs, LogoutArgs};
use crate::commands::Context;
use crate::image::{self, Credential, Credentials, Kept, registry_of};
use crate::{output, terminal};

/// Longer than any token.
const MAX_SECRET: u64 = 64 << 10;

pub(super) async fn login(context: &Context, args: &LoginArgs) -> Result<()> {
    let registry = registry_of(args.server.as_deref())?;
    let credentials = credentials()?;
    let credential = ask(args)?;
    image::check_login(&registry, &credential, &context.network()?).await?;
    match credentials.store(&registry, &credential).await? {
        Kept::Helper(_) => {}
        Kept::File(path) => output::warning(&format!(
            "the password is stored unencrypted in {}; a credential helper (credsStore) would protect it",
            path.display()
        )),
    }
    output::result("Login Succeeded");
    Ok(())
}

pub(super) async fn logout(args: &LogoutArgs) -> Result<()> {
    let registry = registry_of(args.server.as_deref())?;
    match credentials()?.erase(&registry).await? {
        true => output::result(format!("Removing login credentials for {registry}")),
        false => output::result(format!("Not logged in to {registry}")),
    }
    Ok(())
}

fn credentials() -> Result<Credentials> {
    Credentials::of_user()
        .ok_or_else(|| anyhow!("no home folder to keep logins in; name one with DOCKER_CONFIG"))
}

/// What the options leave open, from the terminal.
fn ask(args: &LoginArgs) -> Result<Credential> {
    if args.password.is_some() {
        output::warning(
            "a password on the command line can be seen by others; use --password-stdin",
        );
    }
    if args.password_stdin && args.username.is_none() {
        bail!("--password-stdin needs a user name: give one with -u");
    }
    let username = match &args.username {
        Some(name) => name.clone(),
        None => from_terminal("Username: ", false)?,
    };
    let secret = match &args.password {
        Some(password) => password.clone(),
        None if args.password_stdin => from_stdin()?,
        None => from_terminal("Password: ", true)?,
    };
    if username.is_empty() || secret.is_empty() {
        bail!("a login needs a user name and a password");
    }
    if username.contains(':') {
        bail!("a user name cannot contain ':'");
    }
    Ok(Credential { username, secret })
}

fn from_stdin() -> Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(MAX_SECRET)
        .read_to_string(&mut text)
        .context("cannot read the password from standard input")?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn from_terminal(prompt: &str, secret: bool) -> Result<String> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        bail!("nobody to ask: give -u and --password-stdin");
    }
    let _quiet = match secret {
        true => terminal::NoEcho::enter().context("cannot turn the terminal's echo off")?,
        false => None,
    };
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{prompt}")?;
    stderr.flush()?;
    let mut line = String::new();
    stdin.lock().take(MAX_SECRET).read_line(&mut line)?;
    if secret {
        writeln!(stderr)?;
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
