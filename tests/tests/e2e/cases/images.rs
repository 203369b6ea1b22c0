//! Images of real builders, in every form that registries serve them.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use isolazi_tests::command::same;
use isolazi_tests::handmade::{Image, Layer};
use isolazi_tests::stub::Stub;
use isolazi_tests::{Case, World};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            layers_are_stacked_right,
            every_kind_of_file_is_unpacked,
            a_distribution_works,
            zstd_layers_are_the_same,
            docker_manifests_are_the_same,
            archives_that_builders_leave_unfinished,
            pull_then_list,
            pull_by_digest,
            what_was_pulled_needs_no_registry,
            blobs_are_stored_by_their_digest,
            quiet_pull_prints_the_reference_only,
            short_ids_and_sizes_are_listed,
        ],
    }
}

/// Runs a script in the debootstrapped image.
fn in_debian(world: &World, image: &str, script: &str) -> Result<String> {
    let image = world.image(image);
    let output = world
        .isolazi(["run", "--rm", &image, "sh", "-c", script])
        .timeout(world.patience(120))
        .output()?;
    Ok(output.success()?.stdout_text())
}

const STACKED: &str = r"
cd /opt
test -e removed || echo 'removed is gone'
test -e old-name || cat new-name
cat folder-to-file file-to-folder/inside link-to-file
test -L link-to-file || echo 'not a link'
ls opaque
test -e /usr/share/doc || echo 'no doc'
find / -xdev -name '.wh.*' 2>/dev/null
";

const STACKED_RESULT: &str = "removed is gone
old content
a file now
in a folder now
no link now
not a link
above
no doc
";

fn layers_are_stacked_right(world: &World) -> Result<()> {
    same(
        "the stack",
        &&*in_debian(world, "debian", STACKED)?,
        &STACKED_RESULT,
    )
}

const KINDS: &str = r#"
cd /opt/kinds
[ "$(stat -c %i hard-a)" = "$(stat -c %i hard-b)" ] && stat -c 'links %h' hard-a
readlink symlink
stat -c '%n %u:%g %a' owned setuid setgid fifo
stat -c '%n %F %t:%T' null
getcap capable
getfattr --only-values -n user.isolazi attributed; echo
stat -c '%s' sparse; tail -c 3 sparse; echo
cat nnnn*/nnnn*/file grüße
stat -c '%Y' old
find . -type p -o -type c | sort
"#;

const KINDS_RESULT: &str = "links 2
../folder/hard-a
owned 1234:5678 640
setuid 0:0 4755
setgid 0:0 2775
fifo 0:0 600
null character special file 1:3
capable cap_net_bind_service=ep
an attribute
67108867
end
long
umlaut
981173106
./fifo
./null
";

fn every_kind_of_file_is_unpacked(world: &World) -> Result<()> {
    same(
        "the kinds",
        &&*in_debian(world, "debian", KINDS)?,
        &KINDS_RESULT,
    )
}

fn a_distribution_works(world: &World) -> Result<()> {
    let script = "dpkg --audit && dpkg-query -W libc6 | cut -f1 && perl -e 'print 6*7, \"\\n\"' && . /etc/os-release && test -n \"$NAME\" && id -un";
    let said = in_debian(world, "debian", script)?;
    ensure!(
        said.starts_with("libc6") && said.ends_with("42\nroot\n"),
        "{said}"
    );
    Ok(())
}

fn zstd_layers_are_the_same(world: &World) -> Result<()> {
    same(
        "the stack",
        &&*in_debian(world, "debian-zstd", STACKED)?,
        &STACKED_RESULT,
    )?;
    same(
        "the kinds",
        &&*in_debian(world, "debian-zstd", KINDS)?,
        &KINDS_RESULT,
    )
}

fn docker_manifests_are_the_same(world: &World) -> Result<()> {
    same(
        "the stack",
        &&*in_debian(world, "debian-docker", STACKED)?,
        &STACKED_RESULT,
    )
}

/// As umoci 0.4 writes them, and every runtime takes them: an archive without
/// its end, and the removal of what lay below a folder that is a file now.
fn archives_that_builders_leave_unfinished(world: &World) -> Result<()> {
    let stub = Stub::start()?;
    let below = Layer::default()
        .folder("was-folder/")?
        .file("was-folder/x", "below")?;
    let above = Layer::default()
        .file("was-folder", "a file")?
        .file("was-folder/.wh.x", "")?
        .unfinished("the last words")?;
    let reference = stub.serve("unfinished", &Image::new(&[below.tar()?, above])?);
    world.isolazi(["pull", &reference]).output()?.success()?;
    Ok(())
}

fn pull_then_list(world: &World) -> Result<()> {
    let folder = world.temp()?;
    // A new data root; natively only, the machine's layers are where they are.
    let fresh = match world.is_vm() {
        true => None,
        false => Some(world.fresh(folder.path())),
    };
    let world = fresh.as_ref().unwrap_or(world);
    let output = world
        .isolazi(["pull", &world.image("busybox")])
        .output()?
        .success()?;
    output.stdout_has(&world.image("busybox"))?;
    let listed = world.isolazi(["images"]).output()?.success()?;
    let text = listed.stdout_has("REPOSITORY")?.stdout_text();
    let repository = format!("{}/busybox", world.shared().registry);
    let line = text.lines().find(|line| line.starts_with(&repository));
    let line = line.with_context(|| format!("{repository} is not listed: {text}"))?;
    same("tag", &line.split_whitespace().nth(1), &Some("1"))
}

fn pull_by_digest(world: &World) -> Result<()> {
    let address = &world.shared().registry;
    let digest = manifest_digest(address, "busybox")?;
    let reference = format!("{address}/busybox@{digest}");
    world.isolazi(["pull", &reference]).output()?.success()?;
    let output = world
        .isolazi(["run", "--rm", &reference, "echo", "by digest"])
        .output()?;
    output.success()?.stdout_is("by digest\n")?;
    let wrong = format!("{address}/busybox@sha256:{}", "0".repeat(64));
    world
        .isolazi(["pull", &wrong])
        .output()?
        .fails_with(1, "0000")?;
    Ok(())
}

fn manifest_digest(address: &str, name: &str) -> Result<String> {
    let said = isolazi_tests::command::tool(
        "curl",
        [
            "--fail",
            "--silent",
            "--head",
            "-H",
            "Accept: application/vnd.oci.image.manifest.v1+json",
            &format!("http://{address}/v2/{name}/manifests/1"),
        ],
    )?;
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("Docker-Content-Digest: "));
    Ok(line
        .context("the registry names no digest")?
        .trim()
        .to_owned())
}

fn what_was_pulled_needs_no_registry(world: &World) -> Result<()> {
    // The second run must not say anything about pulling.
    let image = world.busybox();
    world.isolazi(["pull", &image]).output()?.success()?;
    let output = world.isolazi(["run", "--rm", &image, "true"]).output()?;
    output.success()?.stderr_is("")?;
    Ok(())
}

fn blobs_are_stored_by_their_digest(world: &World) -> Result<()> {
    let blobs = world.root().join("images/blobs/sha256");
    let mut seen = 0;
    for entry in fs::read_dir(&blobs)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // What another case is pulling right now has no such name yet.
        if name.len() != 64 || entry.metadata()?.len() > 1 << 20 {
            continue;
        }
        let content = fs::read(entry.path())?;
        let digest = isolazi_tests::handmade::digest(&content);
        same("digest", &digest, &format!("sha256:{name}"))?;
        seen += 1;
    }
    ensure!(seen > 1, "{} has {seen} blobs", blobs.display());
    Ok(())
}

fn quiet_pull_prints_the_reference_only(world: &World) -> Result<()> {
    let image = world.busybox();
    let output = world.isolazi(["pull", "-q", &image]).output()?;
    output
        .success()?
        .stdout_is(&format!("{image}\n"))?
        .stderr_is("")?;
    Ok(())
}

fn short_ids_and_sizes_are_listed(world: &World) -> Result<()> {
    let output = world.isolazi(["images", "-q"]).output()?.success()?;
    let text = output.stdout_text();
    let ids: BTreeSet<_> = text.lines().collect();
    let fine = |id: &&str| id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit());
    ensure!(!ids.is_empty() && ids.iter().all(fine), "{text}");
    Ok(())
}
