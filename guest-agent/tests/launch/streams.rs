//! Pipes and terminals.

use crate::cases;
use crate::container::Container;

cases![
    a_terminal_is_the_containers_own,
    a_terminal_belongs_to_the_user,
    a_terminal_has_its_console,
    users_can_reopen_their_streams,
];

fn a_terminal_is_the_containers_own() {
    let container =
        Container::shell("tty; stty size; echo $TERM; ls -1 /dev/pts; [ -t 0 ] && echo yes");
    let output = container.start_on_terminal().finish();
    assert_eq!(output.stdout, "/dev/pts/0\n33 99\nxterm\n0\nptmx\nyes\n");
    assert_eq!(output.code, 0);
}

fn a_terminal_belongs_to_the_user() {
    let script = "stat -c '%u:%g %a' /dev/pts/0; echo open > /dev/tty";
    let container = Container::shell(script).user("web");
    let output = container.start_on_terminal().finish();
    assert_eq!(output.stdout, "33:5 620\nopen\n");
}

fn a_terminal_has_its_console() {
    let container = Container::shell("stat -c %t:%T /dev/console; echo here > /dev/console");
    let output = container.start_on_terminal().finish();
    assert_eq!(output.stdout, "88:0\nhere\n");
}

fn users_can_reopen_their_streams() {
    let script = "echo out > /dev/stdout; echo err > /dev/stderr";
    let output = Container::shell(script).user("web").run();
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("out\n", "err\n")
    );
}
