//! The health check of a container: the user's, the image's, or both merged.

use std::time::Duration;

use isolazi_protocol::{HealthCheck, HealthTest};

use super::OptionError;
use crate::cli::HealthArgs;
use crate::image::{ImageConfig, shell_test};

/// The check that a container of an image gets.
pub fn health(args: &HealthArgs, image: &ImageConfig) -> Result<Option<HealthCheck>, OptionError> {
    let from_image = image.healthcheck.as_ref();
    let from_image = from_image.and_then(|it| it.check(&image.shell));
    let disabled = || HealthCheck {
        test: HealthTest::Disabled,
        interval: 0,
        timeout: 0,
        start_period: 0,
        start_interval: 0,
        retries: 0,
    };
    if args.no_healthcheck {
        return Ok(Some(disabled()));
    }
    let command = args.health_cmd.as_deref().filter(|it| !it.is_empty());
    let has_check = from_image
        .as_ref()
        .is_some_and(|it| it.test != HealthTest::Disabled);
    if command.is_none() && !has_check {
        return match is_given(args) {
            true => Err(OptionError::NoHealthCheck),
            false => Ok(from_image),
        };
    }
    let mut check = from_image.unwrap_or_else(disabled);
    if let Some(line) = command {
        check.test = shell_test(line, &image.shell);
    }
    let set = |field: &mut u64, given: Option<Duration>| {
        // 0 is as if it were not given, as with Docker.
        if let Some(given) = given.filter(|it| !it.is_zero()) {
            *field = u64::try_from(given.as_nanos()).unwrap_or(u64::MAX);
        }
    };
    set(&mut check.interval, args.health_interval);
    set(&mut check.timeout, args.health_timeout);
    set(&mut check.start_period, args.health_start_period);
    set(&mut check.start_interval, args.health_start_interval);
    if let Some(retries) = args.health_retries.filter(|it| *it != 0) {
        check.retries = retries;
    }
    Ok(Some(check))
}

fn is_given(args: &HealthArgs) -> bool {
    let times = [
        args.health_interval,
        args.health_timeout,
        args.health_start_period,
        args.health_start_interval,
    ];
    times.iter().any(Option::is_some) || args.health_retries.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageHealth;

    fn image(test: &[&str]) -> ImageConfig {
        ImageConfig {
            healthcheck: Some(ImageHealth {
                test: test.iter().map(ToString::to_string).collect(),
                interval: 7_000_000,
                retries: 9,
                ..ImageHealth::default()
            }),
            ..ImageConfig::default()
        }
    }

    #[test]
    fn the_users_options_win_over_the_images() {
        let args = HealthArgs {
            health_retries: Some(2),
            health_timeout: Some(Duration::from_secs(1)),
            ..HealthArgs::default()
        };
        let check = health(&args, &image(&["CMD", "/check"])).unwrap().unwrap();
        assert_eq!(check.test, HealthTest::Command(vec!["/check".to_owned()]));
        assert_eq!(
            (check.interval, check.timeout, check.retries),
            (7_000_000, 1_000_000_000, 2)
        );
        let args = HealthArgs {
            health_cmd: Some("true".to_owned()),
            ..HealthArgs::default()
        };
        let check = health(&args, &ImageConfig::default()).unwrap().unwrap();
        assert_eq!(check.test.command().unwrap(), ["/bin/sh", "-c", "true"]);
    }

    #[test]
    fn no_check_is_none_or_disabled() {
        let none = HealthArgs {
            no_healthcheck: true,
            ..HealthArgs::default()
        };
        let check = health(&none, &image(&["CMD", "/check"])).unwrap().unwrap();
        assert_eq!(check.test, HealthTest::Disabled);
        let nothing = HealthArgs::default();
        assert_eq!(health(&nothing, &ImageConfig::default()).unwrap(), None);
        let kept = health(&nothing, &image(&["NONE"])).unwrap().unwrap();
        assert_eq!(kept.test, HealthTest::Disabled);
    }

    #[test]
    fn options_without_a_check_are_refused() {
        let args = HealthArgs {
            health_retries: Some(1),
            ..HealthArgs::default()
        };
        assert!(health(&args, &ImageConfig::default()).is_err());
        assert!(health(&args, &image(&["NONE"])).is_err());
    }
}
