//! Takes the place of limactl: reads its command line and its templates strictly, and
//! runs the instance that they describe in namespaces of this machine's.
//!
//! Commands and options are those of limactl's reference
//! (lima-vm.io/docs/reference/limactl), templates those of `templates/default.yaml` and
//! `pkg/limayaml/validate.go` of github.com/lima-vm/lima, as far as isolazi uses them;
//! whatever else is given is refused. Unlike limactl, it lets root call it.
//!
//! ```text
//!  Lima                            here
//!  host agent, its guest           a process, namespaces whose init is its child
//!  image, disk                     this machine's programs, a folder
//!  mounts                          binds
//!  user network, 192.168.5.0/24    slirp4netns with the same addresses
//!  ssh -L SOCKET                   a listener that goes to the guest's socket
//!  systemd                         what `systemctl` needs to run one kind of service
//! ```
//!
//! ```text
//! $LIMA_HOME/<name>/lima.yaml, ha.pid, ha.stdout.log, ha.stderr.log, disk/
//! ```

mod arguments;
mod guest;
mod host_agent;
mod instance;
mod systemd;
mod template;

use std::env;
use std::process::ExitCode;

use anyhow::{Result, bail, ensure};

use arguments::Command;
use instance::Store;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().collect();
    let name = words.first().map(String::as_str).unwrap_or_default();
    let rest = words.get(1..).unwrap_or_default();
    let result = match name {
        host_agent::ROLE => host_agent::run(rest),
        guest::ROLE => guest::run(rest),
        systemd::KEEPER => systemd::keep(rest),
        path if path.rsplit('/').next() == Some(systemd::CONTROL) => systemd::control(rest),
        _ => run(rest),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("level=fatal msg={:?}", format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<()> {
    let store = Store::open()?;
    match Command::parse(words)? {
        Command::Create { name, template } => {
            store.create(&name, &template)?.start()?;
        }
        Command::Start(name) => {
            let instance = store.find(&name)?;
            match instance.host_agent() {
                Some(_) => eprintln!("level=info msg=\"The instance {name} is already running\""),
                None => instance.start()?,
            }
        }
        Command::Stop { name, force: true } => store.find(&name)?.stop_forcibly()?,
        Command::Stop { name, force: false } => store.find(&name)?.stop()?,
        Command::Delete { name, force } => match store.find(&name) {
            Ok(instance) => {
                let runs = instance.host_agent().is_some();
                ensure!(force || !runs, "expected status \"Stopped\"");
                instance.delete()?;
            }
            Err(error) if !force => return Err(error),
            Err(_) => eprintln!("level=warning msg=\"Ignoring non-existent instance {name:?}\""),
        },
        Command::List => {
            let all = store.all()?;
            if all.is_empty() {
                eprintln!("level=warning msg=\"No instance found\"");
            }
            for instance in all {
                println!("{}", instance.described()?);
            }
        }
    }
    Ok(())
}

/// What a name of an instance is made of (`pkg/identifiers`).
fn check_name(name: &str) -> Result<()> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > 76 || !name.bytes().all(good) {
        bail!("identifier {name:?} must match pattern ^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$");
    }
    Ok(())
}
