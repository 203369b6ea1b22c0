//! Real servers under the profiles that are meant for them. They are talked to
//! from inside, over the loopback, and by other containers, by name.

use anyhow::Result;
use isolazi_tests::command::eventually;
use isolazi_tests::{Case, Container, World, fixture};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            nginx_redis_and_postgresql_run_under_default_and_strict,
        ],
    }
}

const IMAGE: &str = "servers:1";
/// Where clients find them by name.
const NETWORK: &str = "servers";
/// Seconds, natively, until a server answers: initdb included.
const PATIENCE: u64 = 60;

fn nginx_redis_and_postgresql_run_under_default_and_strict(world: &World) -> Result<()> {
    let archive = fixture::servers()?.display().to_string();
    let load = world.isolazi(["load", "-q", "-i", &archive]);
    load.timeout(world.patience(120)).output()?.success()?;
    world
        .isolazi(["network", "create", NETWORK])
        .output()?
        .success()?;
    for profile in ["default", "strict"] {
        nginx(world, profile)?;
        redis(world, profile)?;
        postgresql(world, profile)?;
    }
    world
        .isolazi(["network", "rm", NETWORK])
        .output()?
        .success()?;
    world.isolazi(["rmi", IMAGE]).output()?.success()?;
    Ok(())
}

fn serve<'a>(world: &'a World, profile: &str, user: &str, script: &str) -> Result<Container<'a>> {
    let container = world.container();
    let run = world.isolazi([
        "run",
        "-d",
        "--name",
        container.name(),
        "--seccomp",
        profile,
        "--network",
        NETWORK,
    ]);
    run.args(["-u", user, IMAGE, "sh", "-c", script])
        .timeout(world.patience(120))
        .output()?
        .success()?;
    Ok(container)
}

/// Asks until the answer has `text`.
fn answers(world: &World, container: &Container<'_>, command: &[&str], text: &str) -> Result<()> {
    let what = format!("{command:?} says {text:?}");
    eventually(world.patience(PATIENCE), &what, || {
        let output = container.exec(&[], command).output()?;
        let found = output.is_success() && output.stdout_text().contains(text);
        Ok(found.then_some(()))
    })
}

/// Asks from another container, by name.
fn answers_others(world: &World, command: &[&str], text: &str) -> Result<()> {
    let run = world.isolazi(["run", "--rm", "--network", NETWORK, IMAGE]);
    let output = run.args(command).timeout(world.patience(60)).output()?;
    output.success()?.stdout_has(text)?;
    Ok(())
}

/// Ends it as its image's user would, and wants it to have ended well.
fn stops(world: &World, container: &Container<'_>) -> Result<()> {
    let stop = world.isolazi(["stop", "-t", "60", container.name()]);
    stop.timeout(world.patience(60)).output()?.success()?;
    let described = container.inspect()?;
    let code = &described["State"]["ExitCode"];
    anyhow::ensure!(*code == 0, "{} ended with {code}", container.name());
    Ok(())
}

fn nginx(world: &World, profile: &str) -> Result<()> {
    let command = "exec nginx -c /etc/nginx.conf -g 'daemon off;'";
    let container = serve(world, profile, "root", command)?;
    let get = ["wget", "-q", "-O", "-", "http://127.0.0.1/index.html"];
    answers(world, &container, &get, "served by nginx")?;
    let url = format!("http://{}/index.html", container.name());
    answers_others(world, &["wget", "-q", "-O", "-", &url], "served by nginx")?;
    // New workers come up beside the old ones.
    container
        .exec(&[], &["nginx", "-c", "/etc/nginx.conf", "-s", "reload"])
        .output()?
        .success()?;
    answers(world, &container, &get, "served by nginx")?;
    stops(world, &container)
}

fn redis(world: &World, profile: &str) -> Result<()> {
    let command = "exec redis-server --dir /tmp --appendonly yes --protected-mode no";
    let container = serve(world, profile, "redis", command)?;
    answers(
        world,
        &container,
        &["redis-cli", "set", "key", "value"],
        "OK",
    )?;
    answers(
        world,
        &container,
        &["redis-cli", "bgsave"],
        "Background saving started",
    )?;
    answers(
        world,
        &container,
        &["redis-cli", "info", "persistence"],
        "rdb_last_bgsave_status:ok",
    )?;
    answers(world, &container, &["redis-cli", "get", "key"], "value")?;
    let get = ["redis-cli", "-h", container.name(), "get", "key"];
    answers_others(world, &get, "value")?;
    stops(world, &container)
}

fn postgresql(world: &World, profile: &str) -> Result<()> {
    let command = "set -e; initdb -D /tmp/data -A trust --no-sync >/dev/null; \
                   echo 'host all all samenet trust' >>/tmp/data/pg_hba.conf; \
                   exec postgres -D /tmp/data -h '*' -k /tmp -c shared_buffers=16MB";
    let container = serve(world, profile, "postgres", command)?;
    let sql = |statement: &'static str| {
        [
            "psql",
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-At",
            "-c",
            statement,
        ]
    };
    answers(world, &container, &sql("select 6 * 7"), "42")?;
    container
        .exec(
            &[],
            &sql("create table t as select generate_series(1, 1000) n"),
        )
        .output()?
        .success()?;
    container
        .exec(&[], &sql("create index on t (n)"))
        .output()?
        .success()?;
    container
        .exec(&[], &sql("vacuum analyze t"))
        .output()?
        .success()?;
    answers(world, &container, &sql("select sum(n) from t"), "500500")?;
    container
        .exec(&[], &sql("checkpoint"))
        .output()?
        .success()?;
    let mut sql = sql("select sum(n) from t").map(str::to_owned);
    sql[2] = container.name().to_owned();
    let sql: Vec<&str> = sql.iter().map(String::as_str).collect();
    answers_others(world, &sql, "500500")?;
    // A fast shutdown is what SIGINT asks for; SIGTERM waits for clients.
    stops(world, &container)
}
