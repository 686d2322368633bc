//! moto: AWS's own rules for signatures and Object Lock.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use e2e::{
    child::{Process, Said},
    pki::Authority,
    wait::{DEADLINE, wait_until},
};

use crate::{
    install,
    proxy::{Proxy, Way},
    rig::{Host, hash, write_keys},
};

/// A server with one key; its objects live as long as it does.
struct Moto {
    programs: PathBuf,
    dir: PathBuf,
    address: SocketAddr,
    process: Process,
}

impl Moto {
    fn start(dir: &Path) -> Self {
        let programs = install::programs().unwrap();
        let authority = Authority::new("moto").unwrap();
        let leaf = authority.leaf(&["127.0.0.1"]).unwrap();
        fs::write(dir.join("roots.pem"), authority.pem()).unwrap();
        fs::write(dir.join("moto.pem"), leaf.chain).unwrap();
        fs::write(dir.join("moto.key"), leaf.key).unwrap();
        // Free a moment ago; nobody else asks for ports of this kind meanwhile.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let process = Self::run(&programs, dir, address);
        Self {
            programs,
            dir: dir.into(),
            address,
            process,
        }
    }

    fn run(programs: &Path, dir: &Path, address: SocketAddr) -> Process {
        let _ = fs::remove_file(dir.join("keys"));
        let mut python = Command::new(programs.join("python"));
        python.arg(install::source().join("server.py"));
        python.args([address.ip().to_string(), address.port().to_string()]);
        for file in ["moto.pem", "moto.key", "keys", "seen"] {
            python.arg(dir.join(file));
        }
        let process = Process::start("moto", dir, &mut python).unwrap();
        wait_until("moto to listen", DEADLINE * 3, || {
            TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
        })
        .unwrap_or_else(|e| panic!("{e}: {}", process.log()));
        process
    }

    /// Dead, with everything it had.
    fn kill(&mut self) {
        self.process.kill9();
    }

    /// Another one in its place, with other keys.
    fn restart(&mut self) {
        self.process = Self::run(&self.programs, &self.dir, self.address);
    }

    /// `bucket.py`, with the real keys.
    fn does(&self, words: &[&str]) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("ship/bucket.py");
        let mut python = Command::new(self.programs.join("python"));
        python
            .arg(script)
            .args(words)
            .env("AWS_SHARED_CREDENTIALS_FILE", self.dir.join("keys"))
            .env("AWS_CA_BUNDLE", self.dir.join("roots.pem"))
            .env("AWS_ENDPOINT_URL", format!("https://{}", self.address))
            .env("AWS_DEFAULT_REGION", "us-east-1");
        Said::by(&mut python).unwrap().ok().unwrap()
    }

    fn config(&self, at: SocketAddr, keys: &str) -> String {
        let dir = self.dir.display();
        format!(
            "[[credential]]\nname = \"keys\"\naws_keys_file = \"{dir}/keys\"\n\
             [[ship]]\nname = \"archive\"\nkind = \"s3\"\nbucket = \"audit\"\ncredential = \"keys\"\n\
             endpoint = \"https://{at}\"\nca_file = \"{dir}/roots.pem\"\nprefix = \"site/a\"\npart_bytes = \"5 MiB\"\n\
             retry_max = \"1s\"\n{keys}\n"
        )
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn locked_and_encrypted() {
    let mut host = Host::new();
    let moto = Moto::start(host.dir.path());
    moto.does(&["make", "audit", "lock"]);
    let segments = [host.seal(100_000).await, host.seal(1_000_000).await];
    let keys = "object_lock = \"compliance\"\nobject_lock_days = 30\nlegal_hold = true\nencryption = \"s3\"\nrequired = true";
    host.ship(&moto.config(moto.address, keys));
    host.shipped(2).await;
    for (at, segment) in segments.iter().enumerate() {
        let key = format!("site/a/{}", segment.name);
        let facts: serde_json::Value = serde_json::from_str(&moto.does(&["facts", "audit", &key])).unwrap();
        assert_eq!(facts["sha256"], hash(&fs::read(&segment.path).unwrap()));
        assert_eq!(
            (&facts["mode"], &facts["hold"]),
            (&"COMPLIANCE".into(), &"ON".into())
        );
        assert_eq!(
            (&facts["encryption"], &facts["deleted"]),
            (&"AES256".into(), &"AccessDenied".into())
        );
        assert!((29..=30).contains(&facts["days"].as_i64().unwrap()), "{facts}");
        assert_eq!(facts["metadata"]["sha256"], facts["sha256"]);
        let receipt = &host.said("shipped")[at]["receipt"];
        assert_eq!(receipt["detail"]["lock"], "COMPLIANCE");
        assert_eq!(receipt["detail"]["was_there"], false);
        assert_eq!(
            receipt["place"],
            format!("s3://audit/{key} at https://{}", moto.address)
        );
    }
    assert_eq!(host.shipping().held_back().segment, Some(2));
    // A host that lost its position finds what is there, and makes nothing twice.
    host.stop().await;
    fs::remove_file(host.path("ship/archive.state")).unwrap();
    host.ship(&moto.config(moto.address, keys));
    host.shipped(4).await;
    assert!(
        host.said("shipped")[2..]
            .iter()
            .all(|d| d["receipt"]["detail"]["was_there"] == true)
    );
    assert_eq!(moto.does(&["versions", "audit"]).trim(), "2");
    assert!(host.said("ship_failing").is_empty());
    // moto forgets the lock of what is sent in parts. What is not locked as it was to be does not count as shipped.
    let parts = host.seal(11_000_000).await;
    host.fails("missing").await;
    let why = host.status().error.unwrap().why;
    assert!(
        why.contains(&parts.name) && why.contains("without its lock"),
        "{why}"
    );
    assert_eq!(host.shipping().held_back().segment, Some(2));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_bucket_lock_and_name() {
    let mut host = Host::new();
    let moto = Moto::start(host.dir.path());
    let real = fs::read_to_string(host.path("keys")).unwrap();
    let first = host.seal(50_000).await;
    write_keys(&host.path("keys"), "AKIAWRONGWRONGWRONG0", "wrong");
    let locked = "object_lock = \"governance\"\nobject_lock_days = 1";
    host.ship(&moto.config(moto.address, locked));
    host.fails("denied").await;
    assert!(
        !host.status().error.unwrap().why.contains("wrong"),
        "a secret is told"
    );
    let keys = |name: &str| {
        real.lines()
            .find_map(|l| l.strip_prefix(&format!("{name} = ")))
            .unwrap()
    };
    write_keys(
        &host.path("keys"),
        keys("aws_access_key_id"),
        keys("aws_secret_access_key"),
    );
    host.fails("missing").await;
    // A bucket that knows no lock must not pass for one that does.
    moto.does(&["make", "audit", "plain"]);
    host.until("the lock to be asked for", || {
        host.status()
            .error
            .is_some_and(|e| e.why.contains("Lock") || e.why.contains("lock"))
    })
    .await;
    assert!(host.said("shipped").is_empty());
    moto.does(&["drop", "audit"]);
    moto.does(&["make", "audit", "lock"]);
    host.shipped(1).await;
    host.until("the end of it on record", || {
        host.said("ship_recovered").len() == 1
    })
    .await;
    // Something else under the name of the next one.
    host.stop().await;
    let second = host.seal(50_000).await;
    let key = format!("site/a/{}", second.name);
    moto.does(&["put", "audit", &key, "something else"]);
    host.ship(&moto.config(moto.address, locked));
    host.until("the record", || host.said("ship_rejected").len() == 1)
        .await;
    assert_eq!(host.said("ship_rejected")[0]["classes"]["conflict"], 1);
    assert_eq!(moto.does(&["get", "audit", &key]), "something else");
    let letters = host.shipping().dead_letters("archive", 10).unwrap();
    assert_eq!(letters[0].id, second.name);
    // Mended by an admin, and sent again.
    moto.does(&["delete", "audit", &key]);
    host.shipping().requeue("archive").unwrap();
    host.shipped(2).await;
    assert_ne!(first.name, second.name);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stuck_cut_slow_and_killed() {
    let mut host = Host::new();
    let mut moto = Moto::start(host.dir.path());
    moto.does(&["make", "audit", "plain"]);
    let proxy = Proxy::start(moto.address, Way::Stuck).await;
    let segment = host.seal(12_000_000).await;
    host.ship(&moto.config(proxy.address, "timeout = \"2s\""));
    host.fails("timeout").await;
    // Cut in the middle of a part, again and again.
    proxy.set(Way::Cut(6_000_000));
    host.until("parts that were cut", || proxy.passed() > 12_000_000)
        .await;
    assert!(host.said("shipped").is_empty());
    // Slower than the time without an answer, but never without progress.
    proxy.set(Way::Slow(4_000_000));
    host.shipped(1).await;
    let key = format!("site/a/{}", segment.name);
    let facts: serde_json::Value = serde_json::from_str(&moto.does(&["facts", "audit", &key])).unwrap();
    assert_eq!(facts["sha256"], hash(&fs::read(&segment.path).unwrap()));
    assert_eq!(
        moto.does(&["uploads", "audit"]).trim(),
        "0",
        "parts were left behind"
    );
    // Killed on the way; the next one has nothing, and other keys.
    let second = host.seal(12_000_000).await;
    let before = proxy.passed();
    host.until("the second on its way", || proxy.passed() > before + 3_000_000)
        .await;
    moto.kill();
    host.fails("broken").await;
    moto.restart();
    moto.does(&["make", "audit", "plain"]);
    proxy.set(Way::Open);
    host.shipped(2).await;
    let key = format!("site/a/{}", second.name);
    let facts: serde_json::Value = serde_json::from_str(&moto.does(&["facts", "audit", &key])).unwrap();
    assert_eq!(facts["sha256"], hash(&fs::read(&second.path).unwrap()));
    assert!(!host.said("ship_recovered").is_empty());
    host.stop().await;
}
