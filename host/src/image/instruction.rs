//! Dockerfile instructions that change an image's configuration
//! (`commit --change`).

use serde_json::{Map, Value, json};

use super::health::ImageHealth;
use crate::go_duration;

/// Why an instruction cannot be applied.
#[derive(Debug, thiserror::Error)]
#[error("cannot apply '{instruction}': {why}")]
pub struct InstructionError {
    instruction: String,
    why: String,
}

/// Applies instructions to `config`, the `config` object of an image's
/// configuration.
pub(super) fn apply(
    config: &mut Map<String, Value>,
    instructions: &[String],
) -> Result<(), InstructionError> {
    let mut command_given = false;
    for instruction in instructions {
        let (verb, rest) = instruction
            .trim()
            .split_once(char::is_whitespace)
            .unwrap_or((instruction.trim(), ""));
        let verb = verb.to_ascii_uppercase();
        let applied = one(config, &verb, rest.trim());
        applied.map_err(|why| InstructionError {
            instruction: instruction.clone(),
            why,
        })?;
        command_given |= verb == "CMD";
        if verb == "ENTRYPOINT" && !command_given {
            // What was meant for another program.
            config.remove("Cmd");
        }
    }
    Ok(())
}

fn one(config: &mut Map<String, Value>, verb: &str, rest: &str) -> Result<(), String> {
    if rest.is_empty() {
        return Err("it lacks its value".to_owned());
    }
    match verb {
        "CMD" => set(config, "Cmd", command(rest)?),
        "ENTRYPOINT" => set(config, "Entrypoint", command(rest)?),
        "ENV" => {
            for (key, value) in pairs(rest, &environment(config))? {
                set_variable(config, &key, &value);
            }
        }
        "LABEL" => {
            for (key, value) in pairs(rest, &environment(config))? {
                object(config, "Labels").insert(key, value.into());
            }
        }
        "EXPOSE" => {
            for word in words(rest, &environment(config))? {
                for port in ports(&word)? {
                    object(config, "ExposedPorts").insert(port, json!({}));
                }
            }
        }
        "VOLUME" => {
            let list = match rest.starts_with('[') {
                true => strings(rest)?,
                false => words(rest, &environment(config))?,
            };
            for path in list {
                object(config, "Volumes").insert(path, json!({}));
            }
        }
        "HEALTHCHECK" => set(config, "Healthcheck", health(rest)?),
        "ONBUILD" => {
            trigger(rest)?;
            list(config, "OnBuild").push(rest.into());
        }
        "USER" => set(config, "User", single(rest, config)?.into()),
        "STOPSIGNAL" => set(config, "StopSignal", single(rest, config)?.into()),
        "WORKDIR" => {
            let path = single(rest, config)?;
            let folder = folder(text(config, "WorkingDir"), &path);
            set(config, "WorkingDir", folder.into());
        }
        _ => {
            return Err(
                "it must be CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME or WORKDIR"
                    .to_owned(),
            );
        }
    }
    Ok(())
}

fn set(config: &mut Map<String, Value>, key: &str, value: Value) {
    config.insert(key.to_owned(), value);
}

fn text<'a>(config: &'a Map<String, Value>, key: &str) -> &'a str {
    config.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The object `key`, in the place of anything else (Go writes `null`).
fn object<'a>(config: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    let value = config.entry(key).or_insert(Value::Null);
    if !value.is_object() {
        *value = json!({});
    }
    match value {
        Value::Object(object) => object,
        _ => unreachable!("it was just made one"),
    }
}

/// The list `key`, in the place of anything else.
fn list<'a>(config: &'a mut Map<String, Value>, key: &str) -> &'a mut Vec<Value> {
    let value = config.entry(key).or_insert(Value::Null);
    if !value.is_array() {
        *value = json!([]);
    }
    match value {
        Value::Array(list) => list,
        _ => unreachable!("it was just made one"),
    }
}

/// `NONE`, or `[--interval=DURATION …] CMD …`.
fn health(rest: &str) -> Result<Value, String> {
    let mut check = ImageHealth::default();
    let mut rest = rest;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, behind) = option
            .split_once(char::is_whitespace)
            .ok_or("it lacks NONE or CMD")?;
        let (name, value) = option
            .split_once('=')
            .ok_or_else(|| format!("'--{option}' must be --NAME=VALUE"))?;
        let bad = |why: &dyn std::fmt::Display| format!("'--{option}': {why}");
        if name == "retries" {
            let count: u32 = value.parse().map_err(|_| bad(&"it must be a count"))?;
            check.retries = count.into();
        } else {
            let field = match name {
                "interval" => &mut check.interval,
                "timeout" => &mut check.timeout,
                "start-period" => &mut check.start_period,
                "start-interval" => &mut check.start_interval,
                _ => return Err(bad(&"there is no such option")),
            };
            let duration = go_duration::parse(value).map_err(|why| bad(&why))?;
            *field = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        }
        rest = behind.trim_start();
    }
    let (kind, line) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let (line, has_options) = (line.trim(), check != ImageHealth::default());
    check.test = match kind.to_ascii_uppercase().as_str() {
        "NONE" if line.is_empty() && !has_options => vec!["NONE".to_owned()],
        "NONE" => return Err("NONE takes nothing else".to_owned()),
        "CMD" if line.is_empty() => return Err("CMD lacks its command".to_owned()),
        "CMD" if line.starts_with('[') => {
            let command = strings(line)?;
            ["CMD".to_owned()].into_iter().chain(command).collect()
        }
        "CMD" => vec!["CMD-SHELL".to_owned(), line.to_owned()],
        _ => return Err("it must be NONE or CMD".to_owned()),
    };
    Ok(check.described())
}

/// An instruction for whoever builds on the image: any but those that Docker refuses there.
fn trigger(rest: &str) -> Result<(), String> {
    let verb = rest.split_whitespace().next().unwrap_or_default();
    match verb.to_ascii_uppercase().as_str() {
        verb @ ("ONBUILD" | "FROM" | "MAINTAINER") => {
            Err(format!("it cannot be followed by {verb}"))
        }
        _ => Ok(()),
    }
}

/// The `KEY=VALUE`s of a configuration.
fn environment(config: &Map<String, Value>) -> Vec<String> {
    let list = config.get("Env").and_then(Value::as_array);
    let texts = list.into_iter().flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

fn set_variable(config: &mut Map<String, Value>, key: &str, value: &str) {
    let mut variables = environment(config);
    let assignment = format!("{key}={value}");
    let is_key = |variable: &String| variable.split('=').next() == Some(key);
    match variables.iter_mut().find(|variable| is_key(variable)) {
        Some(variable) => *variable = assignment,
        None => variables.push(assignment),
    }
    set(config, "Env", variables.into());
}

/// `["a", "b"]`, or a line for the shell.
fn command(rest: &str) -> Result<Value, String> {
    match rest.starts_with('[') {
        true => Ok(strings(rest)?.into()),
        false => Ok(json!(["/bin/sh", "-c", rest])),
    }
}

fn strings(rest: &str) -> Result<Vec<String>, String> {
    serde_json::from_str(rest).map_err(|_| "it is not a JSON list of strings".to_owned())
}

/// `KEY=VALUE …`, or `KEY VALUE` with all of the rest as the value.
fn pairs(rest: &str, environment: &[String]) -> Result<Vec<(String, String)>, String> {
    let words = words(rest, environment)?;
    let first = words.first().map(String::as_str).unwrap_or_default();
    if !first.contains('=') {
        let (key, value) = rest
            .split_once(char::is_whitespace)
            .ok_or("it must be KEY=VALUE")?;
        return Ok(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    let pairs = words.iter().map(|word| match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("'{word}' must be KEY=VALUE")),
    });
    pairs.collect()
}

fn single(rest: &str, config: &Map<String, Value>) -> Result<String, String> {
    match words(rest, &environment(config))?.as_slice() {
        [one] if !one.is_empty() => Ok(one.clone()),
        _ => Err("it takes one value".to_owned()),
    }
}

/// `80`, `80/udp`, `8000-8002/tcp`.
fn ports(word: &str) -> Result<Vec<String>, String> {
    let bad = || format!("'{word}' is not PORT[-PORT][/tcp|udp|sctp]");
    let (range, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let port = |text: &str| {
        text.parse::<u16>()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(bad)
    };
    let (first, last) = (port(first)?, port(last)?);
    let protocol = protocol.to_ascii_lowercase();
    if first > last || !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(bad());
    }
    Ok((first..=last)
        .map(|port| format!("{port}/{protocol}"))
        .collect())
}

/// `path`, from the folder `from` where it is relative.
fn folder(from: &str, path: &str) -> String {
    let whole = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("{from}/{path}"),
    };
    let mut parts = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Words as a shell splits them: quotes, backslashes, `$NAME` and `${NAME}`.
fn words(text: &str, environment: &[String]) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        let current = word.get_or_insert_default();
        match (character, quote) {
            (closing, Some(open)) if closing == open => quote = None,
            ('"' | '\'', None) => quote = Some(character),
            ('\\', None | Some('"')) => current.extend(rest.next()),
            ('$', None | Some('"')) => current.push_str(&variable(&mut rest, environment)?),
            (space, None) if space.is_whitespace() => {
                let whole = word.take().unwrap_or_default();
                // An empty word was never begun, or begun and ended by quotes.
                if !whole.is_empty() {
                    words.push(whole);
                }
            }
            (character, _) => current.push(character),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    words.extend(word.filter(|word| !word.is_empty()));
    Ok(words)
}

fn variable(
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
    environment: &[String],
) -> Result<String, String> {
    let braced = rest.next_if_eq(&'{').is_some();
    let mut name = String::new();
    while let Some(character) = rest.next_if(|it| it.is_ascii_alphanumeric() || *it == '_') {
        name.push(character);
    }
    if braced && rest.next() != Some('}') {
        return Err("only ${NAME} is understood, without modifiers".to_owned());
    }
    if name.is_empty() {
        return Ok("$".to_owned());
    }
    let mut values = environment
        .iter()
        .filter_map(|variable| variable.split_once('='));
    let value = values.find(|(key, _)| *key == name);
    Ok(value.map(|(_, value)| value.to_owned()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(instructions: &[&str]) -> Value {
        let mut config = json!({
            "Cmd": ["old"], "Env": ["PATH=/bin", "A=1"], "Labels": null, "WorkingDir": "/w",
            "Healthcheck": {"Test": ["NONE"]},
        });
        let list: Vec<_> = instructions.iter().map(|it| (*it).to_owned()).collect();
        apply(config.as_object_mut().unwrap(), &list).unwrap();
        config
    }

    fn refusal(instruction: &str) -> String {
        apply(&mut Map::new(), &[instruction.to_owned()])
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn every_instruction_changes_its_field() {
        let config = changed(&[
            r#"CMD ["a", "b c"]"#,
            r#"ENV A=2 B="x $A" C='$A' D=\$A"#,
            "env E one two",
            r#"LABEL k=v "with space"="y z""#,
            "EXPOSE 80 53/udp 8000-8001",
            "USER 1000:1001",
            r#"VOLUME ["/data"]"#,
            "VOLUME /a /b",
            "WORKDIR sub/../${A}",
            "STOPSIGNAL SIGQUIT",
            "ONBUILD COPY . /src",
            "ONBUILD RUN make",
        ]);
        assert_eq!(config["Cmd"], json!(["a", "b c"]));
        assert_eq!(
            config["Env"],
            json!(["PATH=/bin", "A=2", "B=x 1", "C=$A", "D=$A", "E=one two"])
        );
        assert_eq!(config["Labels"], json!({"k": "v", "with space": "y z"}));
        let ports = json!({"80/tcp": {}, "53/udp": {}, "8000/tcp": {}, "8001/tcp": {}});
        assert_eq!(config["ExposedPorts"], ports);
        assert_eq!(config["Volumes"], json!({"/data": {}, "/a": {}, "/b": {}}));
        assert_eq!(
            (&config["User"], &config["WorkingDir"]),
            (&json!("1000:1001"), &json!("/w/2"))
        );
        assert_eq!(config["StopSignal"], json!("SIGQUIT"));
        assert_eq!(config["OnBuild"], json!(["COPY . /src", "RUN make"]));
        assert_eq!(config["Healthcheck"], json!({"Test": ["NONE"]}));
    }

    #[test]
    fn health_checks_are_as_docker_writes_them() {
        for (instruction, expected) in [
            ("HEALTHCHECK NONE", json!({"Test": ["NONE"]})),
            (
                "HEALTHCHECK CMD curl -f http://localhost/ || exit 1",
                json!({"Test": ["CMD-SHELL", "curl -f http://localhost/ || exit 1"]}),
            ),
            (
                r#"healthcheck --interval=1m30s --retries=5 --start-interval=1ms cmd ["/check", "a b"]"#,
                json!({
                    "Test": ["CMD", "/check", "a b"], "Interval": 90_000_000_000_u64,
                    "StartInterval": 1_000_000, "Retries": 5,
                }),
            ),
            (
                "HEALTHCHECK --timeout=2s  --start-period=0s CMD true",
                json!({"Test": ["CMD-SHELL", "true"], "Timeout": 2_000_000_000_u64}),
            ),
        ] {
            assert_eq!(changed(&[instruction])["Healthcheck"], expected);
        }
    }

    #[test]
    fn an_entry_point_drops_the_old_command_only() {
        let config = changed(&[r#"ENTRYPOINT ["/e"]"#]);
        assert_eq!(
            (&config["Entrypoint"], config.get("Cmd")),
            (&json!(["/e"]), None)
        );
        let config = changed(&["CMD new", "ENTRYPOINT /e"]);
        assert_eq!(config["Cmd"], json!(["/bin/sh", "-c", "new"]));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (instruction, why) in [
            ("RUN true", "must be CMD"),
            ("CMD", "lacks its value"),
            ("CMD [1]", "JSON list"),
            ("ENV X", "KEY=VALUE"),
            ("ENV A=1 B", "KEY=VALUE"),
            ("EXPOSE 0", "is not PORT"),
            ("EXPOSE 9-8", "is not PORT"),
            ("EXPOSE 80/ip", "is not PORT"),
            ("USER a b", "one value"),
            ("LABEL a=\"b", "not closed"),
            ("LABEL a=${b:-c}", "modifiers"),
            ("HEALTHCHECK true", "NONE or CMD"),
            ("HEALTHCHECK CMD", "lacks its command"),
            ("HEALTHCHECK CMD [1]", "JSON list"),
            ("HEALTHCHECK NONE x", "nothing else"),
            ("HEALTHCHECK --retries=1 NONE", "nothing else"),
            ("HEALTHCHECK --retries=-1 CMD x", "a count"),
            ("HEALTHCHECK --interval=1 CMD x", "use a number with"),
            ("HEALTHCHECK --often=1s CMD x", "no such option"),
            ("HEALTHCHECK --interval CMD x", "--NAME=VALUE"),
            ("HEALTHCHECK --interval=1s", "lacks NONE or CMD"),
            ("ONBUILD", "lacks its value"),
            ("ONBUILD onbuild RUN x", "followed by ONBUILD"),
        ] {
            let said = refusal(instruction);
            assert!(said.contains(why) && said.contains(instruction), "{said}");
        }
    }
}
