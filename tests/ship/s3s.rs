//! Another S3 than moto: s3s, in this process, on a file system that can be full. It knows no Object Lock.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use hyper_util::rt::TokioIo;
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::rig::{Disk, Expected, Host, write_keys};

/// A server.
struct Server {
    address: SocketAddr,
    root: PathBuf,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(root: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(serve(listener, root.into()));
        Self {
            address,
            root: root.into(),
            task,
        }
    }

    /// Ends it, and every connection.
    async fn kill(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    async fn restart(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.task = tokio::spawn(serve(listener, self.root.clone()));
    }

    fn config(&self, host: &Host, keys: &str) -> String {
        format!(
            "[[credential]]\nname = \"keys\"\naws_keys_file = \"{}\"\n\
             [[ship]]\nname = \"archive\"\nkind = \"s3\"\nbucket = \"audit\"\ncredential = \"keys\"\n\
             endpoint = \"http://{}\"\nallow_http = true\npart_bytes = \"5 MiB\"\nretry_max = \"1s\"\n{keys}\n",
            host.path("keys").display(),
            self.address
        )
    }

    fn has(&self, segment: &Expected) -> bool {
        let there = fs::read(self.root.join("audit").join(&segment.name));
        there.is_ok_and(|there| there == fs::read(&segment.path).unwrap())
    }
}

async fn serve(listener: TcpListener, root: PathBuf) {
    let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
    builder.set_auth(SimpleAuth::from_single("ID", "secret"));
    let service = builder.build();
    // With this task its connections end.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service.clone());
        connections.spawn(async move {
            // A client that goes away is no concern of the server.
            let _ = connection.await;
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_full_killed_and_what_is_there_already() {
    let mut host = Host::new();
    let disk = Disk::new(host.path("disk"), "4m");
    // This server makes a bucket that is missing; moto's test has one that stays so.
    fs::create_dir(disk.0.join("audit")).unwrap();
    let mut server = Server::start(&disk.0).await;
    write_keys(&host.path("keys"), "ID", "another");
    let segments = [host.seal(100_000).await, host.seal(12_000_000).await];
    host.ship(&server.config(&host, "timeout = \"5s\""));
    host.fails("denied").await;
    write_keys(&host.path("keys"), "ID", "secret");
    host.shipped(1).await;
    assert!(server.has(&segments[0]));
    // The disk is full for the second one, until it grows.
    host.fails("broken").await;
    assert_eq!(host.said("shipped").len(), 1);
    disk.grow("128m");
    host.shipped(2).await;
    assert!(server.has(&segments[1]));
    host.until("no failure any more", || host.status().error.is_none())
        .await;
    // Dead while the next one comes.
    server.kill().await;
    let third = host.seal(100_000).await;
    host.fails("unreachable").await;
    server.restart().await;
    host.shipped(3).await;
    assert!(server.has(&third));
    // A host that lost its position: what is there is compared, in parts or whole, and not sent again.
    host.stop().await;
    fs::remove_file(host.path("ship/archive.state")).unwrap();
    host.ship(&server.config(&host, ""));
    host.shipped(6).await;
    assert!(
        host.said("shipped")[3..]
            .iter()
            .all(|d| d["receipt"]["detail"]["was_there"] == true)
    );
    host.stop().await;
    server.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_content_of_the_same_size_is_found_out() {
    let mut host = Host::new();
    let root = host.path("root");
    fs::create_dir_all(root.join("audit/h")).unwrap();
    let mut server = Server::start(&root).await;
    write_keys(&host.path("keys"), "ID", "secret");
    let segment = host.seal(100_000).await;
    let mut other = fs::read(&segment.path).unwrap();
    *other.last_mut().unwrap() ^= 1;
    fs::write(root.join("audit").join(&segment.name), &other).unwrap();
    host.ship(&server.config(&host, ""));
    host.until("the record", || host.said("ship_rejected").len() == 1)
        .await;
    assert_eq!(host.said("ship_rejected")[0]["classes"]["conflict"], 1);
    assert_eq!(fs::read(root.join("audit").join(&segment.name)).unwrap(), other);
    host.stop().await;
    server.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_not_there_is_told() {
    let mut host = Host::new();
    let root = host.path("root");
    fs::create_dir_all(root.join("audit")).unwrap();
    let mut server = Server::start(&root).await;
    write_keys(&host.path("keys"), "ID", "secret");
    let segment = host.seal(100_000).await;
    host.ship(&server.config(&host, "object_lock = \"governance\"\nobject_lock_days = 1"));
    host.fails("missing").await;
    assert!(host.status().error.unwrap().why.contains("lock"));
    assert!(server.has(&segment) && host.said("shipped").is_empty());
    host.stop().await;
    server.kill().await;
}
