use std::fs;
use std::path::Path;

use ringward_telemetry::{ClosedSets, Limits};
use ringward_tls::{CrlFloors, DenyEntry, DenyList, DenyTarget, PathMemo};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::*;
use crate::trust::keys;
use crate::{load, pki, trust};

/// A process without workers.
struct Stage {
    dir: tempfile::TempDir,
    publisher: Arc<Publisher>,
    client: Vec<CertificateDer<'static>>,
}

fn loaded(dir: &Path) -> Arc<Loaded> {
    let gathered = load::gather(&dir.join("ringward.toml")).unwrap_or_else(|problems| panic!("{problems}"));
    Arc::new(gathered.build(None, &CrlFloors::new()).unwrap_or_else(|refused| panic!("{}", refused.problems)))
}

fn stage() -> Stage {
    let dir = tempfile::tempdir().unwrap();
    let pki = pki::create(&dir.path().join("pki"), &["localhost".to_owned()]).unwrap();
    let (server, client) = (&pki.server, &pki.clients[0].files);
    let text = format!(
        "[trust.t]\nca = [{:?}]\n[cluster.c]\nendpoints = [\"127.0.0.1:1\"]\n[[listener]]\nname = \"l\"\n\
         bind = [\"127.0.0.1:0\"]\n[[listener.host]]\nnames = [\"localhost\"]\n\
         certificate = {{ chain = {:?}, key = {:?} }}\nclient_auth = {{ mode = \"required\", trust = \"t\" }}\n\
         danger_no_policy = true\n[[listener.host.route]]\nmatch = {{ path = \"/\" }}\ncluster = \"c\"\n",
        pki.ca, server.chain, server.key
    );
    fs::write(dir.path().join("ringward.toml"), text).unwrap();
    let client = CertificateDer::pem_file_iter(&client.chain).unwrap().collect::<Result<_, _>>().unwrap();
    let loaded = loaded(dir.path());
    let trust = trust::without_state(&loaded.config);
    let registry = Registry::new(ClosedSets::default(), Limits::default());
    let (version, state) = trust.current();
    let snapshot =
        build(&loaded, &state, &trust, 1, &registry).unwrap_or_else(|problems| panic!("{problems}"));
    let control = Control::new(snapshot, 0);
    let publisher = Publisher::new(control, registry, Arc::default(), trust, loaded, version);
    Stage { dir, publisher: Arc::new(publisher), client }
}

impl Stage {
    /// Whether the snapshot in force lets the client in.
    fn admits(&self) -> bool {
        let snapshot = self.publisher.control.snapshot();
        let view = snapshot.host_tls("l", 0).unwrap().worker_view(&PathMemo::new(1)).unwrap();
        view.admit(&self.client).is_ok()
    }

    fn generation(&self) -> u64 {
        self.publisher.control.generation()
    }

    /// Puts the client, and whoever else is called so, on the deny list.
    fn deny(&self) -> TrustVersion {
        let facts = ringward_tls::CertificateFacts::read(&self.client[0]).unwrap();
        let mut list = DenyList::new();
        list.add(DenyEntry {
            target: DenyTarget::Spki(facts.spki_sha256),
            reason: "test".to_owned(),
            added_unix: 0,
            by: "test".to_owned(),
            expires_unix: None,
        })
        .unwrap();
        self.publisher.trust.update(|state| state.deny = Arc::new(list))
    }
}

#[tokio::test]
async fn a_change_of_trust_is_in_force_when_its_publication_returns() {
    let stage = stage();
    assert!(stage.admits());
    let version = stage.deny();
    assert!(stage.admits(), "not yet");
    let published = stage.publisher.publish(version).await.unwrap();
    assert!(!stage.admits());
    assert_eq!(published.generation, stage.generation());
    assert_eq!(stage.publisher.publish(version).await.unwrap(), published, "nothing is built twice");
}

#[tokio::test]
async fn a_reload_that_began_before_a_revocation_does_not_undo_it() {
    let stage = stage();
    // Read before the revocation, and put in force after it.
    let reloaded = loaded(stage.dir.path());
    let version = stage.deny();
    stage.publisher.publish(version).await.unwrap();
    stage.publisher.adopt(reloaded).await.unwrap();
    assert!(!stage.admits());
    assert_eq!(stage.generation(), 3);
}

#[tokio::test]
async fn a_reload_that_began_before_a_rotation_does_not_bring_the_old_keys_back() {
    let stage = stage();
    let (file, config) = (stage.dir.path().join("tickets.ring"), stage.dir.path().join("ringward.toml"));
    keys::new_file(&file, Duration::from_secs(3600)).unwrap();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("[keys]\nfile = {file:?}\nrotate = true\n{text}")).unwrap();
    let (before, trust) = (loaded(stage.dir.path()), &stage.publisher.trust);
    stage.publisher.adopt(before.clone()).await.unwrap();
    let now = UnixTime::now();
    let in_use = || trust.current().1.key_ring(&trust.loaded().unwrap()).status(now);
    let original = in_use();
    keys::rotate(trust, &before.config.keys, now).unwrap();
    let rotated = in_use();
    assert_ne!(rotated, original);
    stage.publisher.adopt(before).await.unwrap();
    assert_eq!(in_use(), rotated);
    // What somebody else puts into the file counts from the next reload on.
    fs::remove_file(&file).unwrap();
    keys::new_file(&file, Duration::from_secs(60)).unwrap();
    stage.publisher.adopt(loaded(stage.dir.path())).await.unwrap();
    assert!(in_use() != rotated && in_use() != original);
}

#[tokio::test]
async fn whoever_waits_for_a_build_builds_of_what_is_trusted_when_its_turn_comes() {
    let stage = stage();
    let first = stage.publisher.in_force.lock().await;
    let adopt = tokio::spawn({
        let (publisher, reloaded) = (stage.publisher.clone(), loaded(stage.dir.path()));
        async move { publisher.adopt(reloaded).await }
    });
    // It waits for the one that builds just now.
    tokio::task::yield_now().await;
    let version = stage.deny();
    drop(first);
    let adopted = adopt.await.unwrap().unwrap();
    assert!(!stage.admits(), "the revocation came before its snapshot");
    assert_eq!(stage.publisher.publish(version).await.unwrap(), adopted, "and is in force with it");
}

#[tokio::test]
async fn changes_are_published_without_being_asked_for() {
    let stage = stage();
    let follow = tokio::spawn(stage.publisher.clone().follow());
    stage.deny();
    while stage.admits() {
        tokio::task::yield_now().await;
    }
    follow.abort();
}
