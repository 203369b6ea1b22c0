//! What a registry says of an image: a line with an index or a manifest, and
//! then the configuration. All of it is refused in one line, or comes to an
//! image that can be shown and, if the agent agrees, be run.

#![no_main]

use std::collections::BTreeMap;
use std::time::SystemTime;

use isolazi::cli::{HealthArgs, RunArgs};
use isolazi::image::{Image, ImageConfig, Platform, Reference, fuzzing, health_described};
use isolazi::spec::{self, Surroundings};
use isolazi_agent::container::plan;
use isolazi_protocol::{ContainerOptions, HealthCheck, decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (manifest, config) = match data.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&data[..end], &data[end + 1..]),
        None => (data, data),
    };
    let platform = Platform::new("linux", "amd64", None);
    if let Err(reason) = fuzzing::choice(manifest, &platform) {
        one_line(&reason);
    }
    let reference = Reference::parse("example.com/app:1").expect("a name");
    match fuzzing::image(&reference, manifest, config) {
        Ok(image) => {
            assemble(&image);
            show(&image, config);
            run(&image);
        }
        Err(reason) => one_line(&reason),
    }
});

fn one_line(text: &str) {
    assert!(
        !text.is_empty() && !text.contains(char::is_control),
        "{text:?}"
    );
    assert!(text.chars().count() < 2000, "{text}");
}

/// It is no larger than its bounds, and its numbers agree.
fn assemble(image: &Image) {
    assert!((1..=500).contains(&image.layers.len()));
    let once: BTreeMap<_, _> = image
        .layers
        .iter()
        .map(|it| (&it.digest, it.size))
        .collect();
    assert_eq!(image.size, once.values().sum::<u64>());
    if let Some(platform) = &image.platform {
        one_line(&platform.to_string());
    }
    let kept = serde_json::to_string(&image.config).expect("it can be written");
    let read: ImageConfig = serde_json::from_str(&kept).expect("and read");
    assert_eq!(read, image.config);
}

/// What `history` and `inspect` show can be printed, and leaves no layer out.
fn show(image: &Image, config: &[u8]) {
    let date = |it: SystemTime| humantime::format_rfc3339_seconds(it).to_string();
    image.created.map(date);
    match fuzzing::history(image, config) {
        Ok(steps) => {
            let total: u64 = steps.iter().map(|step| step.size).sum();
            assert_eq!(total, image.layers.iter().map(|it| it.size).sum::<u64>());
            steps
                .iter()
                .filter_map(|step| step.created)
                .for_each(|it| drop(date(it)));
        }
        Err(error) => one_line(&error.to_string()),
    }
    match fuzzing::inspect(image, config) {
        Ok(value) => assert_eq!(value["Size"], image.size),
        Err(error) => one_line(&error.to_string()),
    }
}

/// What it comes to on the command line reaches the agent as it was sent.
fn run(image: &Image) {
    let health = isolazi::options::health(&HealthArgs::default(), &image.config)
        .expect("nothing was asked for");
    health
        .iter()
        .for_each(|check| check_is_docker_s(image, check));
    let surroundings = Surroundings {
        options: ContainerOptions {
            health,
            ..ContainerOptions::default()
        },
        ..Surroundings::default()
    };
    let spec = spec::container(image, &RunArgs::default(), surroundings);
    let sent = encode(&spec).expect("it can be sent");
    assert_eq!(decode(&sent).ok().as_ref(), Some(&spec));
    let _ = plan::validate(&spec);
}

/// The check as `inspect` shows it is an image's check again.
fn check_is_docker_s(image: &Image, check: &HealthCheck) {
    let shown = ImageConfig {
        healthcheck: serde_json::from_value(health_described(check)).expect("Docker's form"),
        shell: image.config.shell.clone(),
        ..ImageConfig::default()
    };
    let again = isolazi::options::health(&HealthArgs::default(), &shown);
    assert_eq!(again.expect("nothing was asked for").as_ref(), Some(check));
}
