use super::*;
use crate::container::plan::tests::spec;
use std::fs::TryLockError;

fn store() -> (tempfile::TempDir, VolumeStore, ContainerStore) {
    let folder = tempfile::tempdir().unwrap();
    let containers = ContainerStore::open(folder.path().join("containers")).unwrap();
    let volumes = VolumeStore::new(folder.path().join("volumes"), containers.clone());
    (folder, volumes, containers)
}

/// A container that exists and has the volumes.
fn container(containers: &ContainerStore, name: &str, volumes: &[VolumeMount]) -> PathBuf {
    let mut spec = spec();
    spec.name = Some(name.to_owned());
    spec.options.volumes = volumes.to_vec();
    let new = containers.create(spec).unwrap();
    new.dir.set_record(&new.record, false).unwrap();
    new.dir.path().to_owned()
}

fn mount(name: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        anonymous: name.is_empty(),
        target: "/v".to_owned(),
        ..VolumeMount::default()
    }
}

fn names(store: &VolumeStore) -> Vec<String> {
    store.list().into_iter().map(|it| it.name).collect()
}

#[test]
fn a_volume_is_made_once_and_keeps_its_labels() {
    let (_folder, store, _) = store();
    assert!(store.list().is_empty());
    let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let made = store.create(Some("data"), labels.clone()).unwrap();
    assert!(Path::new(&made.mountpoint).is_dir());
    assert_eq!(made.labels, labels);
    let again = store.create(Some("data"), BTreeMap::new()).unwrap();
    assert_eq!(again, made);
    assert_eq!(names(&store), ["data"]);
}

#[test]
fn names_that_are_none_are_refused() {
    let (_folder, store, _) = store();
    for name in ["", "x", "..", "../x", "a/b", ".new-x", "a b", "\0\0"] {
        let made = store.create(Some(name), BTreeMap::new());
        assert!(matches!(made, Err(VolumeError::BadName(_))), "{name}");
        assert!(matches!(store.detail(name), Err(VolumeError::NotFound(_))));
        assert!(matches!(store.remove(name), Err(VolumeError::NotFound(_))));
    }
}

#[test]
fn a_volume_in_use_stays_and_its_user_is_named() {
    let (_folder, store, containers) = store();
    store.create(Some("data"), BTreeMap::new()).unwrap();
    let user = container(&containers, "web", &[mount("data")]);
    let error = store.remove("data").unwrap_err();
    assert!(error.to_string().contains("container web"), "{error}");
    assert_eq!(store.prune(true).unwrap().0, [""; 0]);
    fs::remove_dir_all(user).unwrap();
    store.remove("data").unwrap();
    assert!(store.list().is_empty());
}

#[test]
fn anonymous_volumes_go_with_their_container() {
    let (_folder, store, _) = store();
    let hold = store.hold().unwrap();
    let mut mounts = [mount(""), mount("named")];
    store.settle(&hold, &mut mounts, false).unwrap();
    drop(hold);
    assert_eq!(mounts[0].name.len(), 64);
    assert_eq!(names(&store).len(), 2);
    store.remove_of(&mounts).unwrap();
    assert_eq!(names(&store), ["named"]);
}

#[test]
fn a_container_that_cannot_have_all_its_volumes_leaves_none_behind() {
    let (_folder, store, _) = store();
    let hold = store.hold().unwrap();
    let mut mounts = [mount(""), mount("not/a/name")];
    assert!(store.settle(&hold, &mut mounts, false).is_err());
    assert!(store.list().is_empty());
}

#[test]
fn pruning_spares_what_the_user_named_unless_told() {
    let (_folder, store, _) = store();
    let anonymous = store.create(None, BTreeMap::new()).unwrap();
    store.create(Some("named"), BTreeMap::new()).unwrap();
    fs::write(Path::new(&anonymous.mountpoint).join("f"), "12345").unwrap();
    assert_eq!(store.prune(false).unwrap(), (vec![anonymous.name], 5));
    assert_eq!(store.prune(true).unwrap().0, ["named"]);
}

#[test]
fn what_volumes_take_is_told_and_who_is_used() {
    let (_folder, store, containers) = store();
    assert_eq!(store.usage(), []);
    for (name, content) in [("used", "123"), ("idle", "12345")] {
        let made = store.create(Some(name), BTreeMap::new()).unwrap();
        fs::write(Path::new(&made.mountpoint).join("f"), content).unwrap();
    }
    container(&containers, "web", &[mount("used")]);
    let usage = |name: &str, bytes, in_use| VolumeUsage {
        name: name.to_owned(),
        bytes,
        in_use,
    };
    let expected = [usage("idle", 5, false), usage("used", 3, true)];
    assert_eq!(store.usage(), expected);
}

#[test]
fn nothing_is_removed_while_a_container_is_made() {
    let (_folder, store, _) = store();
    store.create(Some("data"), BTreeMap::new()).unwrap();
    let hold = store.hold().unwrap();
    let lock = store.lock_file().unwrap();
    assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
    drop(hold);
    assert!(lock.try_lock().is_ok());
}

#[test]
fn what_was_interrupted_is_swept() {
    let (_folder, store, _) = store();
    store.create(Some("data"), BTreeMap::new()).unwrap();
    for name in [".new-1", ".gone-1"] {
        fs::create_dir_all(store.root.join(name).join("_data/x")).unwrap();
    }
    let hold = store.hold().unwrap();
    store.sweep();
    assert!(store.root.join(".new-1").exists(), "somebody works here");
    drop(hold);
    store.sweep();
    assert_eq!(store.entries().filter(|name| name != LOCK).count(), 1);
}
