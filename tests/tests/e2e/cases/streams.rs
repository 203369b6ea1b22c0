//! Standard input, output and error: whole, in order, and apart.

use std::time::Duration;

use anyhow::{Result, ensure};
use isolazi_tests::command::same;
use isolazi_tests::{Case, World};

pub(super) fn all() -> Vec<Case> {
    super::cases! {
        Both: [
            the_two_outputs_are_kept_apart,
            input_is_not_passed_without_i,
            input_is_passed_with_i,
            the_end_of_input_is_passed_on,
            binary_data_passes_whole_both_ways,
            many_lines_keep_their_order,
            output_without_a_newline_arrives,
            output_arrives_while_it_runs,
            a_closed_reader_ends_it_quietly,
            input_that_nobody_reads_does_not_block,
        ],
    }
}

fn the_two_outputs_are_kept_apart(world: &World) -> Result<()> {
    let output = world
        .sh("echo out; echo err >&2; echo out again")
        .output()?;
    output
        .success()?
        .stdout_is("out\nout again\n")?
        .stderr_is("err\n")?;
    Ok(())
}

fn input_is_not_passed_without_i(world: &World) -> Result<()> {
    let output = world.run(["cat"]).stdin("unheard").output()?;
    output.success()?.stdout_is("")?;
    Ok(())
}

fn input_is_passed_with_i(world: &World) -> Result<()> {
    let output = world
        .run_with(&["-i"], ["tr", "a-z", "A-Z"])
        .stdin("words\n")
        .output()?;
    output.success()?.stdout_is("WORDS\n")?;
    let output = world.run_with(&["-i"], ["cat"]).stdin("").output()?;
    output.success()?.stdout_is("")?;
    Ok(())
}

fn the_end_of_input_is_passed_on(world: &World) -> Result<()> {
    let mut running = world
        .run_with(
            &["-i"],
            [
                "sh",
                "-c",
                "while read line; do echo got $line; done; echo end",
            ],
        )
        .hold_stdin()
        .spawn()?;
    running.write(b"one\n")?;
    running.wait_for("got one\n")?;
    running.write(b"two\n")?;
    running.wait_for("got two\n")?;
    running.close_stdin();
    running
        .wait()?
        .success()?
        .stdout_is("got one\ngot two\nend\n")?;
    Ok(())
}

/// 64 MiB; less where every byte is copied by an emulated processor.
fn binary_data_passes_whole_both_ways(world: &World) -> Result<()> {
    let mebibytes = if world.is_vm() { 8 } else { 64 };
    let data = noise(mebibytes << 20);
    let output = world
        .run_with(&["-i"], ["cat"])
        .stdin(data.clone())
        .timeout(world.patience(60))
        .output()?
        .success()?
        .stderr_is("")?;
    ensure!(
        output.stdout == data,
        "{} of {} bytes came back, or others",
        output.stdout.len(),
        data.len()
    );
    Ok(())
}

/// Bytes that no compression or text mode would leave alone (xorshift).
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(size);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

fn many_lines_keep_their_order(world: &World) -> Result<()> {
    let lines = 50_000;
    let output = world
        .run(["seq", "1", &lines.to_string()])
        .timeout(world.patience(60))
        .output()?
        .success()?;
    let expected: String = (1..=lines).map(|n| format!("{n}\n")).collect();
    same("length", &output.stdout.len(), &expected.len())?;
    ensure!(
        output.stdout == expected.as_bytes(),
        "the lines are out of order"
    );
    Ok(())
}

fn output_without_a_newline_arrives(world: &World) -> Result<()> {
    let output = world.run(["printf", "no newline"]).output()?;
    output.success()?.stdout_is("no newline")?;
    Ok(())
}

fn output_arrives_while_it_runs(world: &World) -> Result<()> {
    let container = world.container();
    let mut running = world
        .run_with(
            &["--name", container.name()],
            ["sh", "-c", "echo early; sleep 1000"],
        )
        .spawn()?;
    running.wait_for("early\n")
}

fn a_closed_reader_ends_it_quietly(world: &World) -> Result<()> {
    // `head` goes away after one line; what it leaves must not be a panic or a
    // hang, and no words about a broken pipe.
    let container = world.container();
    let running = world
        .isolazi([
            "run",
            "--rm",
            "--name",
            container.name(),
            &world.busybox(),
            "yes",
        ])
        .through("sh", &["-c", "\"$@\" | head -n 1", "sh"])
        .timeout(world.patience(30))
        .output()?;
    running.success()?.stdout_is("y\n")?.stderr_is("")?;
    Ok(())
}

fn input_that_nobody_reads_does_not_block(world: &World) -> Result<()> {
    let output = world
        .run_with(&["-i"], ["sh", "-c", "echo done"])
        .stdin(noise(4 << 20))
        .output()?;
    let output = output.success()?.stdout_is("done\n")?;
    ensure!(
        output.elapsed < world.patience(20),
        "took {:?}",
        output.elapsed
    );
    // A program whose input stays open is not waited for once its container ended.
    let running = world.run_with(&["-i"], ["true"]).hold_stdin().spawn()?;
    std::thread::sleep(Duration::from_millis(100));
    running.wait()?.success()?;
    Ok(())
}
