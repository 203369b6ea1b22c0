use super::*;
use crate::container::plan::tests::spec;
use isolazi_protocol::ContainerState;

fn store() -> (tempfile::TempDir, ContainerStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = ContainerStore::open(folder.path().join("containers")).unwrap();
    (folder, store)
}

fn create(store: &ContainerStore, name: Option<&str>) -> Result<NewContainer, StoreError> {
    let mut spec = spec();
    spec.name = name.map(str::to_owned);
    let new = store.create(spec)?;
    new.dir.set_record(&new.record, false).unwrap();
    Ok(new)
}

#[test]
fn a_name_belongs_to_one_container_until_it_is_removed() {
    let (_folder, store) = store();
    let first = create(&store, Some("web")).unwrap();
    assert!(matches!(
        create(&store, Some("web")),
        Err(StoreError::NameTaken(_))
    ));
    assert_eq!(store.list(true).len(), 1, "the loser leaves nothing");
    let dir = first.dir.clone();
    drop(first.lock);
    store.remove(&dir).unwrap();
    create(&store, Some("web")).unwrap();
}

#[test]
fn a_container_is_found_by_name_id_and_prefix() {
    let (_folder, store) = store();
    let one = create(&store, Some("one")).unwrap();
    create(&store, Some("two")).unwrap();
    for reference in ["one", one.record.id.as_str(), one.record.id.short()] {
        assert_eq!(store.find(reference).unwrap().path(), one.dir.path());
    }
    for reference in ["", "three", "../one", "/", "\0"] {
        assert!(matches!(
            store.find(reference),
            Err(StoreError::NotFound(_))
        ));
    }
}

#[test]
fn a_renamed_container_gives_its_old_name_back() {
    let (_folder, store) = store();
    let one = create(&store, Some("one")).unwrap();
    create(&store, Some("two")).unwrap();
    assert!(matches!(
        store.rename(&one.dir, "two"),
        Err(StoreError::NameTaken(_))
    ));
    assert!(matches!(
        store.rename(&one.dir, "a/b"),
        Err(StoreError::BadName(_))
    ));
    store.rename(&one.dir, "three").unwrap();
    assert_eq!(store.find("three").unwrap().path(), one.dir.path());
    assert!(matches!(store.find("one"), Err(StoreError::NotFound(_))));
    create(&store, Some("one")).unwrap();
}

#[test]
fn a_renaming_that_was_cut_short_leaves_the_old_name() {
    let (_folder, store) = store();
    let one = create(&store, Some("one")).unwrap();
    assert!(store.reserve_once("new", &one.record.id).unwrap());
    assert!(matches!(store.find("new"), Err(StoreError::NotFound(_))));
    assert_eq!(store.find("one").unwrap().path(), one.dir.path());
    create(&store, Some("new")).unwrap();
}

#[test]
fn a_living_container_is_not_removed() {
    let (_folder, store) = store();
    let new = create(&store, None).unwrap();
    assert!(matches!(
        store.remove(&new.dir),
        Err(StoreError::Running(_))
    ));
    assert!(new.dir.is_alive());
}

#[test]
fn a_corrupt_container_does_not_hide_the_others() {
    let (_folder, store) = store();
    create(&store, Some("good")).unwrap();
    let bad = create(&store, Some("bad")).unwrap();
    fs::write(bad.dir.path().join("config.json"), "{").unwrap();
    let names: Vec<_> = store.list(true).into_iter().map(|c| c.name).collect();
    assert_eq!(names, ["good"]);
}

#[test]
fn what_a_container_has_written_is_measured() {
    let (_folder, store) = store();
    let new = create(&store, Some("web")).unwrap();
    let upper = new.dir.path().join("upper");
    let size = || store.measure(store.list(true))[0].size;
    assert_eq!(size(), None, "it has no files yet");
    fs::create_dir(&upper).unwrap();
    assert_eq!(size(), Some(0));
    fs::write(upper.join("file"), vec![1; 1 << 20]).unwrap();
    assert!(size() >= Some(1 << 20), "{:?}", size());
    assert_eq!(store.list(true)[0].size, None, "only where it is asked for");
}

#[test]
fn layers_of_containers_are_known_or_it_is_an_error() {
    let (_folder, store) = store();
    let new = create(&store, Some("web")).unwrap();
    let layers = store.layers_in_use().unwrap();
    assert_eq!(layers, new.record.spec.layers.into_iter().collect());
    assert!(store.usage()[0].bytes > 0);
    fs::write(new.dir.path().join("config.json"), "{").unwrap();
    let error = store.layers_in_use().unwrap_err();
    assert!(error.to_string().contains("isolazi rm -f"), "{error}");
}

#[test]
fn sweeping_takes_half_made_folders_only() {
    let (_folder, store) = store();
    let whole = create(&store, None).unwrap();
    let half = store.create(spec()).unwrap();
    let path = half.dir.path().to_owned();
    let age = || {
        let then = std::time::SystemTime::now() - 2 * MAKING;
        fs::File::open(&path).unwrap().set_modified(then).unwrap();
    };
    age();
    store.sweep();
    assert!(path.exists(), "its maker still holds the lock");
    drop(half.lock);
    drop(whole.lock);
    fs::write(path.join("made"), "").unwrap();
    store.sweep();
    assert!(path.exists(), "it is still being made");
    age();
    store.sweep();
    assert!(!path.exists());
    assert!(whole.dir.path().exists());
}

#[test]
fn a_name_without_a_container_is_swept_and_can_be_taken() {
    let (_folder, store) = store();
    let mut gone = Vec::new();
    for name in ["swept", "created", "renamed"] {
        let new = create(&store, Some(name)).unwrap();
        fs::remove_dir_all(new.dir.path()).unwrap();
        gone.push(new);
    }
    create(&store, Some("created")).unwrap();
    let other = create(&store, Some("other")).unwrap();
    store.rename(&other.dir, "renamed").unwrap();
    store.sweep();
    let mut names: Vec<_> = fs::read_dir(store.root.join(NAMES))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["created", "renamed"]);
}

#[test]
fn a_removal_that_was_cut_short_is_completed() {
    let (_folder, store) = store();
    for lock in [true, false] {
        let new = create(&store, None).unwrap();
        let path = new.dir.path();
        fs::remove_file(path.join("config.json")).unwrap();
        if !lock {
            fs::remove_file(path.join("lock")).unwrap();
        }
        drop(new.lock);
        let then = std::time::SystemTime::now() - 2 * MAKING;
        fs::File::open(path).unwrap().set_modified(then).unwrap();
        store.sweep();
        assert!(!path.exists(), "with a lock: {lock}");
    }
}

#[test]
fn what_is_left_of_a_container_is_swept_away() {
    let (_folder, store) = store();
    let new = create(&store, Some("gone")).unwrap();
    let remains = store.root.join(format!("{REMAINS}{}", new.record.id));
    fs::rename(new.dir.path(), &remains).unwrap();
    store.sweep();
    assert!(remains.exists(), "somebody is at it");
    assert!(store.list(true).is_empty());
    drop(new.lock);
    store.sweep();
    assert!(!remains.exists());
    create(&store, Some("gone")).unwrap();
}

#[test]
fn a_lock_that_comes_after_the_removal_is_none() {
    let (_folder, store) = store();
    let new = create(&store, None).unwrap();
    drop(new.lock);
    store.remove(&new.dir).unwrap();
    assert!(matches!(
        store.remove(&new.dir),
        Err(StoreError::NotFound(_))
    ));
    assert!(!new.dir.path().exists());
}

#[test]
fn a_container_whose_state_a_power_cut_took_has_ended() {
    let (_folder, store) = store();
    let new = create(&store, None).unwrap();
    fs::write(new.dir.path().join("state.json"), "").unwrap();
    drop(new.lock);
    let state = new.dir.state().unwrap();
    assert!(matches!(
        state,
        ContainerState::Exited {
            code: 137,
            started_at: None,
            ..
        }
    ));
    assert_eq!(new.dir.state().unwrap(), state);
    fs::write(new.dir.path().join("state.json"), "{").unwrap();
    assert!(new.dir.state().is_err(), "that is something else");
}

#[test]
fn a_container_that_lost_its_shim_is_reported_as_killed() {
    let (_folder, store) = store();
    let new = create(&store, None).unwrap();
    let running = ContainerState::Running {
        pid: 1,
        started_at: 5,
    };
    new.dir.set_state(&running, false).unwrap();
    assert_eq!(new.dir.state().unwrap(), running);
    drop(new.lock);
    assert!(matches!(
        new.dir.state().unwrap(),
        ContainerState::Exited { code: 137, .. }
    ));
}
