//! Which sockets may stay, of those that meet the hooks of a workload but are older than its tag.

use std::net::IpAddr;

use super::diag::{LISTEN, Listed, Protocol};

/// Whether a socket that was made inside may go on: it is connected to the agent, and so was redirected; or to nobody,
/// and bound where the bind hooks would let it. From now on each of its connects, sends and packets is decided.
pub(super) fn stays(listed: &Listed, port: u16) -> bool {
    if listed.protocol == Protocol::Raw {
        return true;
    }
    let listens = listed.protocol == Protocol::Tcp && listed.state == LISTEN;
    match listed.remote {
        Some(remote) if !listens => is_loopback(remote.ip()) && remote.port() == port,
        // TCP in another state is on its way to somewhere, or back.
        None if listed.protocol == Protocol::Tcp && !listens => false,
        _ => listed.local.ip().is_unspecified() || is_loopback(listed.local.ip()),
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redirect::older::diag::tests::listed;

    #[test]
    fn what_is_connected_ends_unless_it_was_redirected() {
        let stays = |protocol, state, local, remote| stays(&listed(protocol, state, local, remote), 15_001);
        assert!(!stays(Protocol::Tcp, 1, "10.0.0.1:4000", Some("192.0.2.1:80")));
        assert!(
            !stays(Protocol::Tcp, 2, "127.0.0.1:4000", Some("127.0.0.1:80")),
            "on its way"
        );
        assert!(stays(Protocol::Tcp, 1, "127.0.0.1:4000", Some("127.0.0.1:15001")));
        assert!(stays(Protocol::Tcp, 1, "[::1]:4000", Some("[::1]:15001")));
        assert!(!stays(Protocol::Tcp, 1, "10.0.0.1:4000", Some("192.0.2.1:15001")));
        assert!(!stays(Protocol::Udp, 1, "10.0.0.1:4000", Some("192.0.2.53:53")));
        assert!(stays(Protocol::Udp, 1, "127.0.0.1:4000", Some("127.0.0.1:15001")));
    }

    #[test]
    fn what_is_bound_is_as_the_bind_hooks_have_it() {
        for (protocol, state) in [(Protocol::Tcp, LISTEN), (Protocol::Udp, 7)] {
            let stays = |local| stays(&listed(protocol, state, local, None), 15_001);
            for good in [
                "0.0.0.0:80",
                "[::]:80",
                "127.0.0.1:80",
                "[::1]:80",
                "127.9.9.9:80",
            ] {
                assert!(stays(good), "{good}");
            }
            assert!(!stays("192.0.2.1:80") && !stays("[2001:db8::1]:80"));
        }
    }
}
