//! Sessions, and how operations ended.

use serde_json::Value;

use super::{
    super::view::{HostFacts, View},
    event::{
        self, NETWORK, OTHER, connection, destination, observable, observables, source, text, workload_actor,
    },
    out::Out,
};

/// A session's opening or closing.
pub(super) fn session(view: &View<'_>, host: &HostFacts) -> String {
    let activity = match view.event() {
        "open" => (1, "Open"),
        "close" => (2, "Close"),
        other => (OTHER, other),
    };
    let mapped = [
        "bytes_down",
        "bytes_up",
        "event",
        "protocol",
        "session",
        "tls",
        "workload",
    ];
    event::write(view, host, &NETWORK, activity, &mapped, |o| {
        observed(o);
        workload_actor(o, view);
        source(o, view, host);
        let to = &view.body["destination"];
        destination(o, to);
        connection(o, view);
        o.text("app_name", view.text("protocol"));
        traffic(o, view);
        tls(o, "tls", &view.body["tls"]["downstream"]);
        tls(o, "proxy_tls", &view.body["tls"]["upstream"]);
        observables(
            o,
            &[("dst_endpoint.ip", observable::ADDRESS, text(to, "address"))],
        );
    })
}

/// How an operation ended.
pub(super) fn outcome(view: &View<'_>, host: &HostFacts) -> String {
    let mapped = ["bytes_down", "bytes_up", "operation", "workload"];
    event::write(view, host, &NETWORK, (6, "Traffic"), &mapped, |o| {
        observed(o);
        workload_actor(o, view);
        source(o, view, host);
        traffic(o, view);
        if let Some(took) = view.body["duration_us"].as_i64() {
            o.number("duration", took / 1000);
            o.number("start_time", (view.at_ns() / 1000).saturating_sub(took) / 1000);
            o.number("end_time", view.at_ns() / 1_000_000);
        }
    })
}

/// Nothing is decided here: that is the operation's.
fn observed(o: &mut Out) {
    o.number("action_id", 3);
    o.text("action", "Observed");
    o.number("disposition_id", 17);
    o.text("disposition", "Logged");
}

/// `bytes_out` leaves the host. Not before the end is it known.
fn traffic(o: &mut Out, view: &View<'_>) {
    let (up, down) = (view.body["bytes_up"].as_i64(), view.body["bytes_down"].as_i64());
    o.object("traffic", |o| {
        if let (Some(up), Some(down)) = (up, down) {
            o.number("bytes", up.saturating_add(down));
            o.number("bytes_in", down);
            o.number("bytes_out", up);
        }
    });
}

/// What was agreed on one side; nothing where it was not encrypted, or not agreed.
fn tls(o: &mut Out, key: &str, side: &Value) {
    if text(side, "version").is_empty() {
        return;
    }
    o.object(key, |o| {
        o.text("version", text(side, "version"));
        o.text("cipher", text(side, "cipher"));
        o.text("sni", text(side, "sni"));
        let chain = text(side, "chain_sha256");
        o.array("certificate_chain", |o| {
            if !chain.is_empty() {
                o.item(&format!("sha256:{chain}"));
            }
        });
        o.array("tls_extension_list", |o| {
            let alpn = text(side, "alpn");
            if !alpn.is_empty() {
                o.element(|o| {
                    o.number("type_id", 16);
                    o.text("type", "application_layer_protocol_negotiation");
                    o.object("data", |o| o.array("alpn", |o| o.item(alpn)));
                });
            }
        });
    });
}
