//! A directory that is not there, full, read-only, and back again.

use std::fs;

use crate::rig::{Disk, Expected, Host};

fn config(host: &Host) -> String {
    format!(
        "[[ship]]\nname = \"archive\"\nkind = \"directory\"\npath = \"{}\"\nretry_max = \"1s\"\n",
        host.path("disk").display()
    )
}

fn has(disk: &Disk, segment: &Expected) -> bool {
    fs::read(disk.0.join(&segment.name)).is_ok_and(|there| there == fs::read(&segment.path).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn not_mounted_full_read_only_and_back() {
    let mut host = Host::new();
    let first = host.seal(3_000_000).await;
    host.ship(&config(&host));
    host.fails("missing").await;
    let disk = Disk::new(host.path("disk"), "1m");
    host.fails("full").await;
    // What did not fit leaves nothing behind.
    host.until("room again", || {
        fs::read_dir(disk.0.join("h")).unwrap().count() == 0
    })
    .await;
    disk.grow("128m");
    host.shipped(1).await;
    assert!(has(&disk, &first));
    host.until("its end on record", || host.said("ship_recovered").len() == 1)
        .await;
    disk.read_only();
    let second = host.seal(100_000).await;
    host.fails("denied").await;
    disk.grow("128m");
    host.shipped(2).await;
    assert!(has(&disk, &second));
    assert!(host.said("ship_rejected").is_empty());
    host.stop().await;
}
