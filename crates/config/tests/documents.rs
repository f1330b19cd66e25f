//! The pieces of configuration that documents show are good where they belong.

use std::path::Path;

/// What such a piece leaves to the reader.
const BEFORE: &str = "[trust.partners]\nca = \"ca.pem\"\n[policy.main]\npath = \"policies\"\n[policy.orders]\npath = \"orders\"\n";
const LISTENER: &str = "[[listener]]\nname = \"edge\"\nbind = \"127.0.0.1:0\"\nhttp2 = true\n";
const HOST: &str = "[[listener.host]]\nnames = \"a.test\"\ncertificate = { chain = \"a.pem\", key = \"a.key\" }\n\
                    client_auth = { mode = \"required\", trust = \"partners\" }\npolicy = [\"main\", \"orders\"]\n";

#[test]
fn what_the_documents_show_is_good() {
    for (name, text, pieces) in [
        ("grpc.md", include_str!("../../../deploy/grpc.md"), 1),
        ("streaming.md", include_str!("../../../deploy/streaming.md"), 2),
        ("balancing.md", include_str!("../../../deploy/balancing.md"), 3),
        ("health-checks.md", include_str!("../../../deploy/health-checks.md"), 1),
        ("discovery.md", include_str!("../../../deploy/discovery.md"), 1),
        ("overload.md", include_str!("../../../deploy/overload.md"), 2),
        ("upstream-tls.md", include_str!("../../../deploy/upstream-tls.md"), 3),
    ] {
        let shown: Vec<&str> = text.split("```toml\n").skip(1).map(until_fence).collect();
        assert_eq!(shown.len(), pieces, "{name}");
        for piece in shown {
            let whole = complete(piece);
            let config = ringward_config::parse(&whole, Path::new(name));
            let config = config.unwrap_or_else(|found| panic!("{found}\n{whole}"));
            assert!(config.warnings.is_empty(), "{}\n{whole}", config.warnings);
        }
    }
}

fn until_fence(text: &str) -> &str {
    text.split_once("```").expect("the block ends").0
}

/// The file that `piece` is a part of.
fn complete(piece: &str) -> String {
    let tables = tables(piece);
    let those = |begin: &str| {
        tables.iter().filter(|table| table.starts_with(begin)).fold(String::new(), |all, table| all + table)
    };
    let (mut clusters, listener, mut routes) =
        (those("[cluster."), those("[[listener]]"), those("[[listener.host.route]]"));
    if routes.is_empty() {
        for name in clusters.lines().filter_map(|line| line.strip_prefix("[cluster.")) {
            let name = name.trim_end_matches(']');
            if name.contains('.') {
                // A table of a cluster's.
                continue;
            }
            routes +=
                &format!("[[listener.host.route]]\nmatch = {{ path = \"/{name}\" }}\ncluster = \"{name}\"\n");
        }
    }
    if routes.is_empty() {
        routes += "[[listener.host.route]]\nmatch = { path = \"/\" }\ncluster = \"any\"\n";
    }
    for name in routes.lines().filter_map(|line| line.strip_prefix("cluster")) {
        let name = name.trim_start_matches([' ', '=']).trim_matches('"');
        if !clusters.contains(&format!("[cluster.{name}]")) {
            clusters += &format!("[cluster.{name}]\nendpoints = \"127.0.0.1:80\"\n");
        }
    }
    let listener = if listener.is_empty() { LISTENER } else { &listener };
    let sections = those("[listener.");
    format!("{BEFORE}{}{clusters}{listener}{sections}{HOST}{routes}", those("[server]"))
}

/// The tables of a piece, each with its heading.
fn tables(piece: &str) -> Vec<String> {
    let mut tables: Vec<String> = Vec::new();
    for line in piece.lines() {
        if line.starts_with('[') {
            tables.push(String::new());
        }
        let table = tables.last_mut().expect("a piece begins with a table");
        table.push_str(line);
        table.push('\n');
    }
    tables
}
