//! From an image's configuration and the command line to what the agent is
//! asked for. Pure: no file is touched and no one is asked.

use std::path::Path;

use isolazi_protocol::{
    BindMount, CgroupLimits, ContainerOptions, ContainerSpec, ExecSpec, ImageIdentity, NetworkMode,
    ProcessSpec, Resources, SeccompProfile, VolumeMount, WindowSize,
};

use crate::cli::{ProcessArgs, RunArgs};
use crate::image::{Image, ImageConfig};
use crate::options;

/// What is known besides the image and the options.
#[derive(Debug, Default)]
pub struct Surroundings {
    /// The terminal to attach, if any.
    pub terminal: Option<WindowSize>,
    /// Pass standard input on.
    pub open_stdin: bool,
    /// Mounts, their sources as the agent sees them.
    pub mounts: Vec<BindMount>,
    /// Content for `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// Which network the container joins.
    pub network: NetworkMode,
    /// The options, without what the image adds.
    pub options: ContainerOptions,
    /// Variables that files set.
    pub env_files: Vec<String>,
    /// What it may use.
    pub limits: CgroupLimits,
    /// Its system-call filter.
    pub seccomp: SeccompProfile,
}

/// Merges them the way Docker does.
pub fn container(image: &Image, args: &RunArgs, surroundings: Surroundings) -> ContainerSpec {
    let config = &image.config;
    let process = &args.process;
    let given = surroundings.env_files.into_iter();
    let given = given.chain(environment(&process.env));
    let options = complete(surroundings.options, config, &surroundings.mounts);
    ContainerSpec {
        name: args.name.clone(),
        image: ImageIdentity {
            reference: args.image.clone(),
            id: image.config_digest.clone(),
        },
        layers: image
            .layers
            .iter()
            .map(|layer| layer.diff_id.clone())
            .collect(),
        process: ProcessSpec {
            args: command(config, args.entrypoint.as_deref(), &args.command),
            env: merge_env(config.env.iter().cloned().chain(given)),
            cwd: first_given(
                &[process.workdir.as_deref(), Some(&config.working_dir)],
                "/",
            ),
            user: first_given(&[process.user.as_deref(), Some(&config.user)], ""),
            terminal: surroundings.terminal,
            open_stdin: surroundings.open_stdin,
        },
        hostname: args.hostname.clone(),
        mounts: surroundings.mounts,
        stop_signal: args
            .settings
            .stop_signal
            .clone()
            .or_else(|| config.stop_signal.clone())
            .filter(|signal| !signal.is_empty()),
        auto_remove: args.rm,
        network: surroundings.network,
        seccomp: surroundings.seccomp,
        resources: resources(args, surroundings.limits),
        resolv_conf: surroundings.resolv_conf,
        restart: args.life.restart,
        options,
    }
}

/// Adds the image's labels, below the user's, and an anonymous volume for each
/// of its `VOLUME`s where the user has nothing mounted.
fn complete(
    mut options: ContainerOptions,
    image: &ImageConfig,
    mounts: &[BindMount],
) -> ContainerOptions {
    for (key, value) in &image.labels {
        let label = options.labels.entry(key.clone());
        label.or_insert_with(|| value.clone());
    }
    for target in &image.volumes {
        let binds = mounts.iter().map(|mount| &mount.target);
        let volumes = options.volumes.iter().map(|volume| &volume.target);
        let tmpfs = options.tmpfs.iter().map(|tmpfs| &tmpfs.target);
        let mut taken = binds.chain(volumes).chain(tmpfs);
        // Compared by its components, so that /data/ is /data.
        if !taken.any(|taken| Path::new(taken) == Path::new(target)) {
            options.volumes.push(VolumeMount {
                anonymous: true,
                target: target.clone(),
                ..VolumeMount::default()
            });
        }
    }
    options
}

fn resources(args: &RunArgs, limits: CgroupLimits) -> Resources {
    let mut resources = Resources {
        limits,
        ..Resources::default()
    };
    if let Some(limit) = args.settings.pids_limit {
        resources.pids_limit = options::pids_limit(limit);
    }
    resources
}

/// A further process for a running container. `files` are the variables that
/// files set.
pub fn exec(
    args: &ProcessArgs,
    privileged: bool,
    files: Vec<String>,
    command: &[String],
    terminal: Option<WindowSize>,
) -> ExecSpec {
    ExecSpec {
        args: command.to_vec(),
        env: merge_env(files.into_iter().chain(environment(&args.env))),
        cwd: args.workdir.clone(),
        user: args.user.clone(),
        terminal,
        open_stdin: args.interactive,
        privileged,
    }
}

/// Entrypoint and command (image-spec `config`): a command given replaces the
/// image's, an entrypoint given drops both of the image's.
fn command(config: &ImageConfig, entrypoint: Option<&str>, given: &[String]) -> Vec<String> {
    let (mut args, default) = match entrypoint {
        Some("") => (vec![], &[][..]),
        Some(program) => (vec![program.to_owned()], &[][..]),
        None => (config.entrypoint.clone(), &config.cmd[..]),
    };
    args.extend_from_slice(if given.is_empty() { default } else { given });
    args
}

fn first_given(candidates: &[Option<&str>], fallback: &str) -> String {
    let given = candidates.iter().flatten().find(|text| !text.is_empty());
    (*given.unwrap_or(&fallback)).to_owned()
}

/// What the `-e` options set. `KEY` alone passes on the host's variable, if
/// there is one.
fn environment(options: &[String]) -> impl Iterator<Item = String> {
    options
        .iter()
        .flat_map(|option| split_env(option))
        .filter_map(|entry| match entry.contains('=') {
            true => Some(entry.to_owned()),
            false => std::env::var(entry)
                .ok()
                .map(|value| format!("{entry}={value}")),
        })
}

/// Splits `A=1,B=2` where each part is KEY=VALUE, and nowhere else: a value
/// that contains commas survives.
fn split_env(option: &str) -> Vec<&str> {
    let parts: Vec<&str> = option.split(',').collect();
    match parts.iter().all(|part| is_assignment(part)) {
        true => parts,
        false => vec![option],
    }
}

fn is_assignment(part: &str) -> bool {
    part.split_once('=').is_some_and(|(key, _)| {
        let mut bytes = key.bytes();
        bytes
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    })
}

/// Later entries replace earlier ones of the same key, in place.
fn merge_env(entries: impl Iterator<Item = String>) -> Vec<String> {
    let key = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let mut merged: Vec<String> = Vec::new();
    for entry in entries {
        match merged.iter_mut().find(|known| key(known) == key(&entry)) {
            Some(known) => *known = entry,
            None => merged.push(entry),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    fn config() -> ImageConfig {
        ImageConfig {
            entrypoint: strings(&["/entry", "-x"]),
            cmd: strings(&["serve"]),
            ..ImageConfig::default()
        }
    }

    #[test]
    fn an_images_labels_and_volumes_are_below_the_users() {
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let image = ImageConfig {
            labels: [label("a", "image"), label("b", "image")].into(),
            volumes: strings(&["/one", "/two/", "/three", "/four"]),
            ..ImageConfig::default()
        };
        let given = ContainerOptions {
            labels: [label("a", "user")].into(),
            volumes: vec![VolumeMount {
                name: "data".to_owned(),
                target: "/two".to_owned(),
                ..VolumeMount::default()
            }],
            tmpfs: vec![crate::mount::tmpfs("/three")],
            ..ContainerOptions::default()
        };
        let bind = BindMount {
            source: isolazi_protocol::BindSource::Path("/".to_owned()),
            host_path: "/".to_owned(),
            target: "/four/".to_owned(),
            read_only: false,
            propagation: isolazi_protocol::Propagation::default(),
            recursion: isolazi_protocol::BindRecursion::default(),
        };
        let options = complete(given, &image, &[bind]);
        assert_eq!(
            (options.labels["a"].as_str(), options.labels["b"].as_str()),
            ("user", "image")
        );
        let anonymous = options.volumes.iter().filter(|it| it.anonymous);
        let targets: Vec<_> = anonymous.map(|it| it.target.as_str()).collect();
        assert_eq!(targets, ["/one"]);
    }

    #[test]
    fn entrypoint_and_command_combine_as_in_docker() {
        let given = strings(&["a", "b"]);
        let cases: [(Option<&str>, &[String], &[&str]); 6] = [
            (None, &[], &["/entry", "-x", "serve"]),
            (None, &given, &["/entry", "-x", "a", "b"]),
            (Some("/bin/sh"), &[], &["/bin/sh"]),
            (Some("/bin/sh"), &given, &["/bin/sh", "a", "b"]),
            (Some(""), &[], &[]),
            (Some(""), &given, &["a", "b"]),
        ];
        for (entrypoint, given, expected) in cases {
            assert_eq!(command(&config(), entrypoint, given), strings(expected));
        }
    }

    #[test]
    fn env_splits_only_where_every_part_is_an_assignment() {
        assert_eq!(split_env("A=1,B=2"), ["A=1", "B=2"]);
        assert_eq!(
            split_env("POSTGRES_PASSWORD=secret,POSTGRES_USER=u,POSTGRES_DB=d").len(),
            3
        );
        for whole in [
            "A=1,2,3",
            "A=x,y=",
            "A=1, B=2",
            "A=1,",
            "A",
            "A=b=c,d",
            "OPTS=-a,-b=1",
        ] {
            let expected: Vec<&str> = match whole {
                // `y=` is a key with an empty value, so this one does split.
                "A=x,y=" => vec!["A=x", "y="],
                _ => vec![whole],
            };
            assert_eq!(split_env(whole), expected, "{whole}");
        }
    }

    #[test]
    fn a_later_variable_replaces_an_earlier_one() {
        let merged = merge_env(strings(&["PATH=/bin", "A=1", "PATH=/sbin", "A="]).into_iter());
        assert_eq!(merged, ["PATH=/sbin", "A="]);
    }
}
