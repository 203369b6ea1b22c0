//! The instance that Lima is asked for, as a pure function of what the machine is to be.
//! After Lima's `templates/default.yaml`. What is written is JSON, which YAML has in it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::machine::MachineError;

/// Where the guest has the folder with the agent's program in it.
const AGENT_FOLDER: &str = "/mnt/isolazi-agent";
/// What the program is called there.
pub const AGENT_FILE: &str = "isolazi-agent";
/// The agent listens there, in the guest.
const GUEST_SOCKET: &str = "/run/isolazi-agent/agent.sock";
/// What the agent wants to be shown, for root to read.
const TOKEN: &str = "/etc/isolazi/token";

/// Puts the agent in its place at every boot, so that a new one gets there, too, and
/// runs it as a service. Containers belong to their shims, so they outlive a restart.
const PROVISION: &str = r#"#!/bin/sh
set -eu
install -D -m 0755 @FOLDER@/@FILE@ /usr/local/libexec/isolazi-agent
cat >/etc/systemd/system/isolazi-agent.service <<'UNIT'
[Unit]
Description=isolazi's agent

[Service]
ExecStart=/usr/local/libexec/isolazi-agent service @SOCKET@ @TOKEN@ {{.UID}}
RuntimeDirectory=isolazi-agent
StateDirectory=isolazi
KillMode=process
LimitNOFILE=1048576
TasksMax=infinity
Restart=always

[Install]
WantedBy=multi-user.target
UNIT
systemctl daemon-reload
systemctl enable isolazi-agent.service
systemctl restart isolazi-agent.service
"#;

/// What Lima is told to make.
#[derive(Debug, Clone)]
pub struct Instance {
    /// Processors of the guest.
    pub cpus: usize,
    /// Its memory, in MiB.
    pub memory_mib: u64,
    /// Size of its disk, in bytes.
    pub disk_bytes: u64,
    /// Holds the agent's program on the host.
    pub agent_folder: PathBuf,
    /// Lima listens there for the agent.
    pub agent_socket: PathBuf,
    /// What the agent wants to be shown, in hexadecimal.
    pub token: String,
    /// Folders of the host that the guest has in the same place.
    pub shares: Vec<PathBuf>,
}

/// The template.
///
/// # Errors
/// A path that is not UTF-8.
pub fn template(instance: &Instance) -> Result<Value, MachineError> {
    let mut mounts = vec![json!({
        "location": literal(&instance.agent_folder)?,
        "mountPoint": AGENT_FOLDER,
        "writable": false,
    })];
    for folder in &instance.shares {
        mounts.push(json!({ "location": literal(folder)?, "writable": true }));
    }
    let script = [
        ("@FOLDER@", AGENT_FOLDER),
        ("@FILE@", AGENT_FILE),
        ("@SOCKET@", GUEST_SOCKET),
        ("@TOKEN@", TOKEN),
    ];
    let script = script
        .into_iter()
        .fold(PROVISION.to_owned(), |text, (place, value)| {
            text.replace(place, value)
        });
    Ok(json!({
        "minimumLimaVersion": "2.0.0",
        // Lima's default distribution; its default mounts are left out.
        "base": ["template:_images/ubuntu-lts"],
        "cpus": instance.cpus,
        "memory": format!("{}MiB", instance.memory_mib),
        "disk": format!("{}MiB", instance.disk_bytes >> 20),
        "containerd": { "system": false, "user": false },
        "mounts": mounts,
        "provision": [
            {
                "mode": "data",
                "path": TOKEN,
                "content": instance.token,
                "owner": "root:root",
                "permissions": "600",
            },
            { "mode": "system", "script": script },
        ],
        "portForwards": [
            { "guestSocket": GUEST_SOCKET, "hostSocket": literal(&instance.agent_socket)? },
            // Ports are published by the machine's supervisor, as on every backend.
            { "guestIP": "0.0.0.0", "guestIPMustBeZero": false, "proto": "any", "ignore": true },
        ],
    }))
}

/// A path as it is: two braces would begin an expression of Lima's.
fn literal(path: &Path) -> Result<&str, MachineError> {
    let plain = path.to_str().filter(|text| !text.contains("{{"));
    plain.ok_or_else(|| {
        MachineError::Failed(format!(
            "Lima takes no path with '{{{{' in it, nor one that is not UTF-8: rename {}",
            path.display()
        ))
    })
}

/// The arguments of limactl that make the instance `name` of the template in `file`, and
/// start it.
pub fn create_and_start(name: &str, file: &str) -> Vec<String> {
    words(&["start", "--tty=false", &format!("--name={name}"), file])
}

/// Those that start an instance that is there.
pub fn start(name: &str) -> Vec<String> {
    words(&["start", "--tty=false", name])
}

/// Those that shut it down, or cut its power.
pub fn stop(name: &str, force: bool) -> Vec<String> {
    match force {
        true => words(&["stop", "--force", name]),
        false => words(&["stop", name]),
    }
}

/// Those that remove it, with its disk.
pub fn delete(name: &str) -> Vec<String> {
    words(&["delete", "--force", name])
}

/// Those that list all instances, an object a line.
pub fn list() -> Vec<String> {
    words(&["list", "--format", "json"])
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance() -> Instance {
        Instance {
            cpus: 4,
            memory_mib: 1024,
            disk_bytes: 64 << 30,
            agent_folder: "/data/machine/lima".into(),
            agent_socket: "/data/machine/run/agent.sock".into(),
            token: "0a".repeat(32),
            shares: vec!["/Users/me".into(), "/Volumes/a \"b\"".into()],
        }
    }

    #[test]
    fn the_agent_is_a_service_whose_socket_comes_to_the_host() {
        let made = template(&instance()).unwrap();
        let forward = &made["portForwards"][0];
        assert_eq!(forward["hostSocket"], "/data/machine/run/agent.sock");
        let script = made["provision"][1]["script"].as_str().unwrap();
        let listens = forward["guestSocket"].as_str().unwrap();
        assert!(script.contains(&format!("service {listens} {TOKEN} {{{{.UID}}}}")));
        assert!(!script.contains('@'), "{script}");
        let token = &made["provision"][0];
        assert_eq!(token["content"], "0a".repeat(32));
        assert_eq!(
            (&token["path"], &token["permissions"]),
            (&json!(TOKEN), &json!("600"))
        );
        assert!(script.contains(&format!("{AGENT_FOLDER}/{AGENT_FILE}")));
    }

    #[test]
    fn folders_are_where_the_host_has_them_and_no_port_is_forwarded() {
        let made = template(&instance()).unwrap();
        let mounts = made["mounts"].as_array().unwrap();
        assert_eq!(mounts[0]["mountPoint"], AGENT_FOLDER);
        assert_eq!(mounts[0]["writable"], false);
        assert_eq!(
            mounts[2],
            json!({ "location": "/Volumes/a \"b\"", "writable": true })
        );
        assert_eq!(made["portForwards"][1]["ignore"], true);
        assert_eq!(
            made["containerd"],
            json!({ "system": false, "user": false })
        );
    }

    #[test]
    fn what_lima_would_expand_is_refused_by_name() {
        let odd = Instance {
            shares: vec!["/a/{{.Home}}".into()],
            ..instance()
        };
        let error = template(&odd).unwrap_err().to_string();
        assert!(error.contains("/a/{{.Home}}"), "{error}");
    }

    #[test]
    fn limactl_is_called_as_it_documents() {
        let create = create_and_start("isolazi-1", "/m/lima.yaml").join(" ");
        assert_eq!(create, "start --tty=false --name=isolazi-1 /m/lima.yaml");
        assert_eq!(start("isolazi-1").join(" "), "start --tty=false isolazi-1");
        assert_eq!(stop("isolazi-1", true).join(" "), "stop --force isolazi-1");
        assert_eq!(delete("isolazi-1").join(" "), "delete --force isolazi-1");
        assert_eq!(list().join(" "), "list --format json");
    }
}
