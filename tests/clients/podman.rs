//! A container of podman(1), rootful: a network namespace of its own behind podman's bridge, made inside of the workload.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use e2e::{child::Said, container::Bundle, ledger::Reader, site::Site};

use super::{shown, with_site};

/// The first connect in the container may come before the agent has seen its network namespace; that one is refused.
const SCRIPT: &str = "ip -4 addr show dev eth0; until wget -q -O - --header 'Host: api.internal' \
    http://192.0.2.2/customers; do n=x$n; [ ${#n} -lt 500 ] || exit 1; done; \
    wget -q -O - http://192.0.2.99:81/ && exit 2; nc -w 1 -u 192.0.2.2 9 </etc/passwd; echo over";

/// Everything that podman keeps is the test's own. It is shown cgroup2 alone, as crun(1) knows no other layout, and has no
/// cgroup made: what it starts stays in the workload's. Attached it would connect to a UNIX socket, which is not listed.
fn podman(site: &Site<'_>, bundle: &Bundle, script: &str) -> Result<Said> {
    let own = site.world.path("podman");
    let own = own.display();
    let run = format!(
        "set -e; mount -t cgroup2 cgroup2 /sys/fs/cgroup\n\
         p() {{ podman --root {own}/root --runroot {own}/run --tmpdir {own}/tmp --cgroup-manager=cgroupfs \
         --events-backend=file \"$@\"; }}\n\
         id=$(p run -d --log-driver=k8s-file --cgroups=disabled --ulimit nofile=1024:1024 --ulimit nproc=1000:1000 \
         --rootfs {root} /bin/sh -c \"$0\")\n\
         code=$(p wait $id); p logs $id; p rm $id >&2; exit $code",
        root = bundle.rootfs().display()
    );
    let mut command = site.workload().tagged("unshare");
    command
        .args(["-m", "sh", "-c", &run, script])
        .stdin(Stdio::null());
    Said::by(&mut command)
}

#[test]
fn a_container_of_podman_is_gated_and_named() {
    with_site("podman", |site| {
        let bundle = Bundle::busybox("")?;
        let said = podman(site, &bundle, SCRIPT)?.ok()?;
        ensure!(said.contains("inet 10.") && said.ends_with("over\n"), "{said}");
        ensure!(said.contains("Ada Lovelace") && shown(&said).is_empty(), "{said}");
        // Of whom, from where, and that it was another network namespace than the host's, in which curl asks then.
        site.workload()
            .tagged("curl")
            .args(["-sS", "-H", "Host: api.internal", "http://192.0.2.2/customers"])
            .output()?;
        let reader = Reader::open(&site.daemon.ledger())?;
        let operations = reader.rows(
            "SELECT json_extract(body, '$.resource.id') || ' ' || json_extract(body, '$.decision') || ' ' || \
             json_extract(body, '$.workload') || ' ' || json_extract(body, '$.process.exe') FROM entry \
             WHERE json_extract(body, '$.action') = 'http:request' ORDER BY seq",
        )?;
        let expected = [
            "api.internal/customers allow deploy-bot /bin/busybox",
            "192.0.2.99:81/ deny deploy-bot /bin/busybox",
            "api.internal/customers allow deploy-bot /usr/bin/curl",
        ];
        ensure!(operations.concat() == expected, "{operations:?}");
        let namespaces = reader.rows(
            "SELECT DISTINCT json_extract(body, '$.netns') || ' ' || json_extract(body, '$.process.exe') FROM entry \
             WHERE json_extract(body, '$.netns') != ''",
        )?;
        let namespaces = namespaces.concat();
        let (inside, host) = match namespaces.as_slice() {
            [inside, host] => (inside.split_once(' '), host.split_once(' ')),
            _ => (None, None),
        };
        let (inside, host) = inside.zip(host).context(format!("{namespaces:?}"))?;
        ensure!(
            (inside.1, host.1) == ("/bin/busybox", "/usr/bin/curl"),
            "{namespaces:?}"
        );
        ensure!(inside.0 != host.0, "{namespaces:?}");
        Ok(())
    });
}
