//! Images and requests that try to reach outside.

use std::os::unix::fs::symlink;

use isolazi_agent::launch::Stage;

use crate::cases;
use crate::container::Container;

cases![
    system_folders_that_are_links,
    a_working_directory_through_a_descriptor,
    a_bind_target_behind_a_link,
    a_bind_target_that_climbs,
    binds_over_the_root_and_proc,
    a_bind_source_that_is_not_there,
    passwd_that_is_a_link_to_the_outside,
    a_null_that_the_image_brings,
];

fn system_folders_that_are_links() {
    for name in ["proc", "dev", "sys"] {
        let container = Container::shell("true");
        let outside = container.scratch("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::remove_dir(container.layer().join(name)).unwrap();
        symlink(&outside, container.layer().join(name)).unwrap();
        let error = container.refused();
        assert_eq!(error.stage, Stage::System);
        assert!(error.to_string().contains(&format!("/{name}")), "{error}");
    }
    let container = Container::shell("true");
    std::fs::remove_dir(container.layer().join("proc")).unwrap();
    std::fs::write(container.layer().join("proc"), "").unwrap();
    assert_eq!(container.refused().stage, Stage::System);
}

fn a_working_directory_through_a_descriptor() {
    for cwd in [
        "/proc/self/fd/3",
        "/proc/self/fd/9/x",
        "/proc/1/cwd",
        "/proc/self/root/../..",
    ] {
        let error = Container::shell("true").cwd(cwd).refused();
        assert_eq!(error.stage, Stage::WorkingDir, "{cwd}");
    }
    let container = Container::new().command(&["pwd"]).cwd("/up/tmp");
    symlink("../../../..", container.layer().join("up")).unwrap();
    assert_eq!(container.run().stdout, "/tmp\n");
}

fn a_bind_target_behind_a_link() {
    let container = Container::shell("cat /inside/new/x");
    let source = container.scratch("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("x"), "x\n").unwrap();
    let outside = container.scratch("outside");
    std::fs::create_dir(&outside).unwrap();
    symlink("/inside", container.layer().join("absolute")).unwrap();
    symlink(&outside, container.layer().join("inside")).unwrap();
    // The last link names a path that is not there in the container, and is made.
    let container = container.bind(&source, "/absolute/new", false);
    assert_eq!(container.run().stdout, "x\n");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

fn a_bind_target_that_climbs() {
    let container = Container::shell("cat /new/x");
    let source = container.scratch("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("x"), "x\n").unwrap();
    let container = container.bind(&source, "/../../../new", false);
    assert_eq!(container.run().stdout, "x\n");
    assert!(!std::path::Path::new("/new").exists());
}

fn binds_over_the_root_and_proc() {
    for target in ["/", "/.", "/proc", "/proc/sys", "/tmp/.."] {
        let container = Container::shell("true");
        let source = container.scratch("source");
        std::fs::create_dir(&source).unwrap();
        let error = container.bind(&source, target, false).refused();
        assert_eq!(error.stage, Stage::Binds, "{target}");
    }
}

fn a_bind_source_that_is_not_there() {
    let container = Container::shell("true");
    let nowhere = container.scratch("nowhere");
    let error = container.bind(&nowhere, "/data", false).refused();
    assert!(error.to_string().contains("nowhere"), "{error}");
}

fn passwd_that_is_a_link_to_the_outside() {
    let container = Container::shell("true").user("intruder");
    let outside = container.scratch("passwd");
    std::fs::write(&outside, "intruder:x:0:0::/:/bin/sh\n").unwrap();
    let passwd = container.layer().join("etc/passwd");
    std::fs::remove_file(&passwd).unwrap();
    symlink(&outside, &passwd).unwrap();
    assert_eq!(container.refused().stage, Stage::User);
}

fn a_null_that_the_image_brings() {
    let container = Container::shell("stat -c %t:%T /dev/null");
    std::fs::write(container.layer().join("dev/null"), "not a device").unwrap();
    assert_eq!(container.run().stdout, "1:3\n");
}
