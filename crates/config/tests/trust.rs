//! What good files mean for trust: modes of hosts and routes, bundles, tenants, revocation, resumption, our certificates.

use std::path::Path;
use std::time::Duration;

use ringward_config::{
    Certificate, CipherSuite, ClientAuthMode, Config, CrlMode, Diagnostics, Disk, FileKind, Group, Host,
    KeyKind, OcspMode, Passphrase, Resumption, RevocationDepth, StapleMode, TlsVersion, parse, parse_at,
};
use ringward_identity::{IdentitySource, TenantMatch};

const NOW: i64 = 1_798_761_600; // 2027-01-01T00:00:00Z

const PINS: &str = "pins = [\"sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\", \
                    \"sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE=\"]";

fn read(source: &str) -> Result<Config, Diagnostics> {
    parse_at(source, Path::new("/etc/ringward/ringward.toml"), &mut Disk, NOW)
}

fn good(source: &str) -> Config {
    read(source).unwrap_or_else(|found| panic!("{found}\n{source}"))
}

/// A file with bundles `partners` (which has OCSP) and `staff`, then `sections`, then a listener with `listener` and a
/// host with `host` for each entry of `hosts`: the keys of its `client_auth`, and what stands in each of its routes.
fn file(sections: &str, listener: &str, hosts: &[(&str, &[&str])]) -> String {
    let mut text = format!(
        "[server]\nstate_dir = \"state\"\nfetch_ca = \"fetch.pem\"\n[trust.partners]\nca = \"p.pem\"\nocsp_url = \"http://o.test/\"\n\
         [trust.staff]\nca = \"s.pem\"\n[policy.main]\npath = \"p\"\n[cluster.c]\nendpoints = \"127.0.0.1:80\"\n\
         {sections}\n[[listener]]\nname = \"l\"\nbind = \"127.0.0.1:0\"\n{listener}\n"
    );
    for (index, (client_auth, routes)) in hosts.iter().enumerate() {
        text += &format!(
            "[[listener.host]]\nnames = \"h{index}.test\"\ncertificate = {{ chain = \"a\", key = \"b\" }}\n\
             client_auth = {{ {client_auth} }}\npolicy = \"main\"\n"
        );
        for (index, route) in routes.iter().enumerate() {
            text += &format!(
                "[[listener.host.route]]\nmatch = {{ path = \"/{index}\" }}\ncluster = \"c\"\n{route}\n"
            );
        }
    }
    text
}

fn trust(sections: &str) -> Config {
    good(&file(sections, "", &[("mode = \"off\"", &[])]))
}

fn host(client_auth: &str, routes: &[&str]) -> Host {
    good(&file("", "", &[(client_auth, routes)])).listeners[0].hosts[0].clone()
}

fn messages(config: &Config) -> Vec<&str> {
    config.warnings.iter().map(|warning| warning.message.as_str()).collect()
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// The handshake asks as the weakest route does: it may refuse nobody whom a route would serve.
#[test]
fn the_handshake_asks_as_the_weakest_route() {
    use ClientAuthMode::{Observe, Off, Optional, Required};
    for (mode, routes, handshake) in [
        (Off, &[][..], Off),
        (Observe, &[], Observe),
        (Optional, &[], Optional),
        (Required, &[], Required),
        (Required, &[Required, Required], Required),
        (Required, &[Required, Optional], Optional),
        (Required, &[Required, Off], Optional),
        (Required, &[Optional, Optional], Optional),
        (Required, &[Optional, Off], Optional),
        (Off, &[Off, Required], Optional),
        (Off, &[Required], Required),
        (Off, &[Optional], Optional),
        (Off, &[Off, Observe], Observe),
        (Off, &[Off, Off], Off),
        (Optional, &[Required, Required], Required),
        (Observe, &[Off, Observe], Observe),
        (Required, &[Required, Observe], Observe),
        (Required, &[Optional, Observe, Off], Observe),
    ] {
        let own: Vec<String> =
            routes.iter().map(|mode| format!("client_auth = \"{}\"", mode.as_str())).collect();
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        let bundle = if handshake == Off { "" } else { ", trust = \"partners\"" };
        let host = host(&format!("mode = \"{}\"{bundle}", mode.as_str()), &own);
        assert_eq!(host.client_auth.handshake, handshake, "{mode:?} {routes:?}");
        assert_eq!(host.client_auth.verification.is_some(), handshake != Off);
        let modes: Vec<_> = host.routes.iter().map(|route| route.client_auth).collect();
        assert_eq!(modes, routes);
    }
    // Routes that say nothing want what the host wants.
    let host = host("mode = \"required\", trust = \"partners\"", &["", "client_auth = \"optional\""]);
    let modes: Vec<_> = host.routes.iter().map(|route| route.client_auth).collect();
    assert_eq!((host.client_auth.handshake, modes), (Optional, vec![Required, Optional]));
}

/// A route may observe on a host that knows its clients. The other way round the next route would be open by itself.
#[test]
fn a_host_that_observes_has_no_stricter_routes() {
    let base = "mode = \"required\", trust = \"partners\", ocsp = \"soft_fail\", max_auth_age = \"1h\"";
    let host = host(base, &["", "client_auth = \"observe\""]);
    let modes: Vec<_> = host.routes.iter().map(|route| (route.client_auth, route.ocsp)).collect();
    let expected = [(ClientAuthMode::Required, OcspMode::SoftFail), (ClientAuthMode::Observe, OcspMode::Off)];
    assert_eq!((host.client_auth.handshake, modes.as_slice()), (ClientAuthMode::Observe, &expected[..]));
    for route in ["optional", "required"] {
        let own = format!("client_auth = \"{route}\"");
        for routes in [&[own.as_str()][..], &["", &own]] {
            let found =
                read(&file("", "", &[("mode = \"observe\", trust = \"partners\"", routes)])).unwrap_err();
            let expected = format!("client_auth is \"{route}\", but the host's `mode` is \"observe\"");
            assert!(found.iter().any(|diagnostic| diagnostic.message == expected), "{found}");
        }
    }
}

#[test]
fn routes_inherit_ocsp_where_it_can_be_asked() {
    let host = host(
        "mode = \"required\", trust = \"partners\", ocsp = \"soft_fail\", ocsp_timeout = \"100ms\"",
        &[
            "",
            "ocsp = \"hard_fail\"",
            "ocsp = \"off\"",
            "client_auth = \"off\"",
            "client_auth = \"optional\"",
        ],
    );
    let ocsp: Vec<_> = host.routes.iter().map(|route| route.ocsp).collect();
    use OcspMode::{HardFail, Off, SoftFail};
    assert_eq!(ocsp, [SoftFail, HardFail, Off, Off, SoftFail]);
    let verification = host.client_auth.verification.unwrap();
    assert_eq!((verification.ocsp, verification.ocsp_timeout), (SoftFail, Duration::from_millis(100)));
    assert!(Off < SoftFail && SoftFail < HardFail);
}

/// Each pair of hosts with the first as default host: it passes only if it is not laxer in any way.
#[test]
fn a_default_host_is_not_laxer_in_any_key() {
    let tenants = "[tenant.a]\ntrust = \"partners\"\nmatch = [{ ou = \"a\" }]\n[tenant.b]\ntrust = \"partners\"\n\
                   match = [{ ou = \"b\" }]";
    let base = "mode = \"required\", trust = \"partners\"";
    let both = "mode = \"required\", trust = [\"partners\", \"staff\"]";
    let observe = "mode = \"observe\", trust = \"partners\"";
    let key = |keys: &str| format!("{base}, {keys}");
    let (one, two) = (key("tenants = \"a\""), key("tenants = [\"b\", \"a\"]"));
    let (brief, long) = (key("max_auth_age = \"1h\""), key("max_auth_age = \"2h\""));
    let (soft, hard) = (key("ocsp = \"soft_fail\""), key("ocsp = \"hard_fail\""));
    let other_order = "mode = \"required\", trust = [\"staff\", \"partners\"]";
    for (strict, lax) in [
        (base, observe),
        (observe, "mode = \"off\""),
        ("mode = \"optional\", trust = \"partners\"", observe),
        (&one, base),
        (&one, &two),
        (&brief, &long),
        (&soft, base),
        (&hard, &soft),
    ] {
        for (default, other, passes) in [(strict, lax, true), (lax, strict, false)] {
            let hosts = [(default, &[][..]), (other, &[])];
            let source = file(tenants, "default_host = \"h0.test\"", &hosts);
            assert_eq!(read(&source).is_ok(), passes, "{default} as default beside {other}");
        }
    }
    let staff = "mode = \"required\", trust = \"staff\"";
    let observing_staff = "mode = \"observe\", trust = \"staff\"";
    for (default, other, passes) in [
        (base, both, true),
        (both, base, false),
        (both, other_order, true),
        (base, staff, false),
        (base, observing_staff, true),
    ] {
        let source = file(tenants, "default_host = \"h0.test\"", &[(default, &[]), (other, &[])]);
        assert_eq!(read(&source).is_ok(), passes, "{default} as default beside {other}");
    }
    // The weakest route counts, not the host's own mode.
    let routes: &[&str] = &["client_auth = \"off\"", ""];
    let source = file(tenants, "default_host = \"h0.test\"", &[(base, routes), (base, &[])]);
    let found = read(&source).unwrap_err().to_string();
    assert!(
        found.contains("its handshake has client_auth \"optional\", the other's \"required\""),
        "{found}"
    );
}

#[test]
fn bundles_are_taken_as_written() {
    let config = trust(&format!(
        "[trust.full]\nca = \"f.pem\"\nspiffe_trust_domain = \"prod.example.com\"\nhints = true\n{PINS}\n\
         crl = [\"crl\", \"a.crl\"]\ncrl_urls = \"https://pki.test:8443/a.crl?b\"\n\
         crl_distribution_points = [\"PKI.test\", \"10.0.0.1\"]\ncrl_issuers = \"i.pem\"\nocsp_hosts = \"o.test\"\n\
         profile = {{ keys = [\"ed25519\", \"rsa\"], rsa_bits_min = 8192, policies = \"1.2.3\", path_length_max = 0, \
         leaf_lifetime_max = \"1m\" }}\n\
         revocation = {{ crl = \"if_present\", stale = \"7d\", refresh = \"1m\", crl_bytes_max = \"256MiB\", depth = \"leaf\" }}"
    ));
    let bundle = &config.trust["full"];
    assert_eq!(bundle.spiffe_trust_domain.as_deref(), Some("prod.example.com"));
    assert!(bundle.hints && bundle.has_ocsp());
    assert_eq!((bundle.pins.len(), bundle.pins[0][0], bundle.pins[1][31]), (2, 0xe3, 1));
    let url = &bundle.crl_urls[0].url;
    assert_eq!((url.is_https(), url.port(), url.target().as_str()), (true, 8443, "/a.crl?b"));
    assert_eq!(bundle.crl_distribution_points[0].as_str(), "pki.test");
    assert_eq!((bundle.crl.len(), bundle.crl_issuers.len(), bundle.ocsp_hosts.len()), (2, 1, 1));
    assert_eq!(bundle.profile.keys, [KeyKind::Ed25519, KeyKind::Rsa]);
    assert_eq!((bundle.profile.rsa_bits_min, bundle.profile.path_length_max), (8192, Some(0)));
    assert_eq!(bundle.profile.policies[0].as_str(), "1.2.3");
    assert_eq!(bundle.profile.leaf_lifetime_max, Some(seconds(60)));
    let revocation = &bundle.revocation;
    assert_eq!((revocation.crl, revocation.depth), (CrlMode::IfPresent, RevocationDepth::Leaf));
    assert_eq!((revocation.stale, revocation.refresh), (Some(seconds(7 * 86_400)), seconds(60)));
    assert_eq!(revocation.crl_bytes_max, 256 << 20);
}

/// Whoever names lists means them: without a word about it, a certificate without a list is refused.
#[test]
fn lists_are_required_as_soon_as_there_are_some() {
    for (keys, crl) in [
        ("", CrlMode::Off),
        ("ocsp_hosts = \"o.test\"", CrlMode::Off),
        ("crl = \"a.crl\"", CrlMode::Required),
        ("crl_urls = \"http://p.test/\"", CrlMode::Required),
        ("crl_distribution_points = \"p.test\"", CrlMode::Required),
        ("crl = \"a.crl\"\nrevocation = { stale = \"1m\" }", CrlMode::Required),
        ("crl = \"a.crl\"\nrevocation = { crl = \"if_present\" }", CrlMode::IfPresent),
        ("revocation = { crl = \"off\" }", CrlMode::Off),
    ] {
        let config = trust(&format!("[trust.x]\nca = \"x.pem\"\n{keys}"));
        let revocation = &config.trust["x"].revocation;
        assert_eq!(revocation.crl, crl, "{keys}");
        assert_eq!((revocation.refresh, revocation.crl_bytes_max), (seconds(3600), 64 << 20));
        assert_eq!(revocation.depth, RevocationDepth::Chain);
        assert_eq!(revocation.stale, keys.contains("stale").then_some(seconds(60)));
    }
    let bundle =
        &trust("[trust.x]\nca = \"x.pem\"\nrevocation = { stale = \"deny\" }\ncrl = \"c\"").trust["x"];
    assert_eq!((bundle.revocation.stale, &bundle.pins, bundle.hints), (None, &Vec::new(), false));
    assert_eq!((bundle.profile.keys.as_slice(), bundle.profile.rsa_bits_min), (&KeyKind::ALL[..], 2048));
}

#[test]
fn values_at_their_bounds() {
    let pins: Vec<String> = (0..64).map(|n| format!("sha256/{}AAA=", format!("{n:02}").repeat(20))).collect();
    for keys in [
        format!("pins = {pins:?}"),
        format!("crl_distribution_points = {:?}", (0..64).map(|n| format!("h{n}.test")).collect::<Vec<_>>()),
        format!("crl_urls = {:?}", (0..64).map(|n| format!("http://h{n}.test/")).collect::<Vec<_>>()),
        "profile = { path_length_max = 4, leaf_lifetime_max = \"3650d\" }".to_owned(),
        "crl_urls = \"http://a.test/\"\nrevocation = { stale = \"1m\", refresh = \"1d\", crl_bytes_max = \"1KiB\" }"
            .to_owned(),
    ] {
        trust(&format!("[trust.x]\nca = \"x.pem\"\n{keys}"));
    }
    for keys in [
        "max_auth_age = \"1m\", ocsp = \"soft_fail\", ocsp_timeout = \"100ms\"",
        "max_auth_age = \"30d\", ocsp = \"hard_fail\", ocsp_timeout = \"10s\"",
    ] {
        host(&format!("mode = \"required\", trust = \"partners\", {keys}"), &[""]);
    }
    let off: &[(&str, &[&str])] = &[("mode = \"off\"", &[])];
    for keys in [
        "session_cache = { entries = 64, bytes_max = \"256KiB\" }\ntrust_grace = \"0s\"\ntrust_drain_rate = 1",
        "session_cache = { entries = 10000000, bytes_max = \"64GiB\" }\ntrust_grace = \"1h\"\ntrust_drain_rate = 1000000",
    ] {
        good(&file("", "", off).replacen("[server]", &format!("[server]\n{keys}"), 1));
    }
    for every in ["1h", "24h"] {
        good(&file(&format!("[keys]\nrotate_every = \"{every}\""), "", off));
    }
    let rules = |count| {
        let rules: Vec<String> = (0..count).map(|n| format!("{{ ou = \"{n}\" }}")).collect();
        format!(
            "[tenant.t]\ntrust = \"staff\"\nmatch = [{}]\nlimits = {{ connections_max = 10000000 }}",
            rules.join(", ")
        )
    };
    good(&file(&rules(64), "", off));
    assert!(read(&file(&rules(65), "", off)).is_err());
    good(&file(&rules(1).replace("\"0\"", &format!("\"{}\"", "ü".repeat(512))), "", off));
    assert!(read(&file(&rules(1).replace("\"0\"", &format!("\"{}\"", "ü".repeat(513))), "", off)).is_err());
}

/// Beyond these, what a generator has written is not compared any more: it would take minutes.
#[test]
fn the_number_of_tenants_is_bounded() {
    let tenants = |count: usize, rules: usize| {
        let mut text = String::new();
        for tenant in 0..count {
            let rules: Vec<String> =
                (0..rules).map(|rule| format!("{{ ou = \"{tenant} {rule}\" }}")).collect();
            text += &format!("[tenant.t{tenant}]\ntrust = \"staff\"\nmatch = [{}]\n", rules.join(", "));
        }
        read(&file(&text, "", &[("mode = \"off\"", &[])]))
    };
    assert_eq!(tenants(4096, 1).unwrap().tenants.len(), 4096);
    let found = tenants(4097, 1).unwrap_err().to_string();
    assert!(found.contains("there are 4097 tenants: up to 4096 are allowed"), "{found}");
    let found = tenants(300, 55).unwrap_err().to_string();
    assert!(found.contains("there are 16500 conditions of tenants: up to 16384 are allowed"), "{found}");
}

#[test]
fn the_path_of_the_socket_fits_the_kernel() {
    for (bytes, passes) in [(107, true), (108, false)] {
        let path = format!("/run/{}", "s".repeat(bytes - 5));
        let source = file(&format!("[admin]\nsocket = \"{path}\""), "", &[("mode = \"off\"", &[])]);
        let found = read(&source);
        assert_eq!(found.is_ok(), passes, "{bytes}");
        if let Ok(config) = found {
            assert_eq!(config.admin.socket.unwrap().path, Path::new(&path));
        }
    }
}

#[test]
fn the_process_keeps_what_is_written_of_it() {
    let config = trust("");
    let server = &config.server;
    assert_eq!(server.state_dir.as_ref().unwrap().path, Path::new("/etc/ringward/state"));
    assert_eq!(server.fetch_ca.as_ref().unwrap().path, Path::new("/etc/ringward/fetch.pem"));
    let is_fetch_ca = |path: &Path| path == Path::new("/etc/ringward/fetch.pem");
    assert!(config.files().iter().any(|file| is_fetch_ca(file.path) && file.kind == FileKind::TrustAnchors));
    assert_eq!((server.session_cache.entries, server.session_cache.bytes_max), (20_000, 64 << 20));
    assert_eq!((server.trust_grace, server.trust_drain_rate.unwrap().get()), (seconds(30), 1000));
    assert!(config.admin.socket.is_none() && config.keys.file.is_none() && !config.keys.rotate);
    assert_eq!(config.keys.rotate_every, seconds(4 * 3600));
    let source = file("", "", &[("mode = \"off\"", &[])]);
    let config = good(&source.replacen("[server]", "[server]\ntrust_drain_rate = \"unlimited\"", 1));
    assert!(config.server.trust_drain_rate.is_none());
}

#[test]
fn https_needs_its_cas() {
    let source = file("", "", &[("mode = \"off\"", &[])]).replace("http://o.test/", "https://o.test/");
    assert!(good(&source).trust["partners"].ocsp_url.as_ref().unwrap().url.is_https());
    let refused = read(&source.replace("fetch_ca = \"fetch.pem\"\n", "")).unwrap_err().to_string();
    let expected =
        "error: `ocsp_url`: https://o.test/ needs a `fetch_ca`: the CAs of the system are not used";
    assert!(refused.contains(expected), "{refused}");
}

#[test]
fn tenants_and_their_rules() {
    let config = good(&file(
        "[tenant.acme]\ntrust = [\"partners\", \"staff\"]\nmatch = [{ spiffe_trust_domain = \"acme.example\" }, \
         { san_uri = \"https://acme.example/*\" }]\nidentity = \"common_name\"\nlimits = { connections_max = 5 }\n\
         [[tenant.globex.match]]\nsan_uri = \"https://globex.example/*\"\n[tenant.globex]\ntrust = \"partners\"",
        "",
        &[("mode = \"required\", trust = \"partners\", tenants = [\"acme\"]", &[""])],
    ));
    assert_eq!(
        messages(&config),
        [
            "no OCSP responder is asked about clients of the bundle \"partners\"",
            "the trust bundle \"staff\" is not used"
        ]
    );
    let acme = &config.tenants["acme"];
    assert_eq!((acme.trust.len(), acme.connections_max), (2, Some(5)));
    assert_eq!(acme.identity, IdentitySource::CommonName);
    assert_eq!(acme.matches[0].rule, TenantMatch::SpiffeTrustDomain("acme.example".into()));
    assert_eq!(acme.matches[1].rule.to_string(), "san_uri = \"https://acme.example/*\"");
    assert_eq!(config.tenants["globex"].identity, IdentitySource::Name);
    let names: Vec<String> = config.tenant_map.definitions().map(|tenant| tenant.name.to_string()).collect();
    assert_eq!(names, ["acme", "globex"]);
    let verification = config.listeners[0].hosts[0].client_auth.verification.as_ref().unwrap();
    assert_eq!(verification.tenants, ["acme"]);
    assert_eq!(config.tenant_map.definition("acme").unwrap().matches.len(), 2);
    assert_eq!(trust("").tenant_map.definitions().len(), 0);
}

/// All conditions have a name of their own in the file, and none ends as another.
#[test]
fn every_condition_is_what_it_says() {
    for (key, value) in [
        ("spiffe_trust_domain", "acme.example"),
        ("san_uri", "https://acme.example/a"),
        ("san_dns", "*.acme.example"),
        ("san_email", "@acme.example"),
        ("ou", "Acme"),
        ("organization", "Acme Ltd"),
        ("organization_identifier", "PSDGB-FCA-123456"),
        ("issuer", "CN=Acme CA,O=Acme Ltd"),
    ] {
        let config = trust(&format!("[tenant.t]\ntrust = \"staff\"\nmatch = [{{ {key} = \"{value}\" }}]"));
        assert_eq!(config.tenants["t"].matches[0].rule.to_string(), format!("{key} = {value:?}"));
    }
    for word in ["name", "spiffe_id", "san_uri", "san_dns", "san_email", "common_name", "fingerprint"] {
        let config = trust(&format!("[tenant.t]\ntrust = \"staff\"\nidentity = \"{word}\""));
        assert_eq!(config.tenants["t"].identity.as_str(), word);
    }
}

/// Revocation is suspended for a day at most. Afterwards the file stays good and the suspension is void: a restart in the
/// night must come up, and with revocation in force.
#[test]
fn a_suspension_ends_by_itself() {
    let until = "2027-01-01T00:00:00Z";
    let tenant = format!("[tenant.t]\ntrust = \"staff\"\ndanger_suspend_revocation_until = {until}");
    let source = file(&tenant, "", &[("mode = \"required\", trust = \"staff\"", &[""])]);
    let at = |now| parse_at(&source, Path::new("r.toml"), &mut Disk, now);
    let end = |config: &Config| config.tenants["t"].danger_suspend_revocation_until_unix;
    let day = 86_400;
    assert!(at(NOW - day - 1).unwrap_err().to_string().contains("is more than 1d ahead"));
    for left in [day, 1] {
        let config = at(NOW - left).unwrap();
        assert_eq!(end(&config), Some(NOW));
        assert!(
            config
                .warnings
                .to_string()
                .contains("are not looked up in revocation lists or with OCSP until then")
        );
    }
    for over in [0, 1, day * 365] {
        let config = at(NOW + over).unwrap();
        assert_eq!(end(&config), None);
        assert!(config.warnings.to_string().contains("the suspension of revocation is over"));
    }
    let offset = source.replace(until, "2027-01-01 01:30:00.5+01:30");
    assert_eq!(end(&parse_at(&offset, Path::new("r.toml"), &mut Disk, NOW - 1).unwrap()), Some(NOW));
    // The wall clock is asked where no other is given.
    assert!(parse(&source.replace(until, "9999-01-01T00:00:00Z"), Path::new("r.toml")).is_err());
    assert_eq!(
        end(&parse(&source.replace(until, "1999-01-01T00:00:00Z"), Path::new("r.toml")).unwrap()),
        None
    );
}

/// Alerts are silenced for a day at most, and the file stays good when that is over.
#[test]
fn a_maintenance_ends_by_itself() {
    let until = "2027-01-01T00:00:00Z";
    let source =
        |keys: &str| file(&format!("[admin]\nmaintenance = {{ {keys} }}"), "", &[("mode = \"off\"", &[])]);
    let whole = source(&format!("until = {until}, reason = \" upgrade \""));
    let at = |source: &str, now| parse_at(source, Path::new("r.toml"), &mut Disk, now);
    let day = 86_400;
    assert!(at(&whole, NOW - day - 1).unwrap_err().to_string().contains("`until` is more than 1d ahead"));
    for left in [day, 1] {
        let announced = at(&whole, NOW - left).unwrap().admin.maintenance.unwrap();
        assert_eq!((announced.until_unix, announced.reason.as_str()), (NOW, "upgrade"));
    }
    for over in [0, day * 365] {
        let config = at(&whole, NOW + over).unwrap();
        assert_eq!(config.admin.maintenance, None);
        assert!(config.warnings.to_string().contains("the maintenance is over"));
    }
    assert_eq!(trust("").admin.maintenance, None);
    let long = "x".repeat(201);
    for (keys, said) in [
        (format!("until = {until}"), "reason"),
        ("reason = \"upgrade\"".to_owned(), "until"),
        (format!("until = {until}, reason = \" \""), "`reason` has 0 bytes: 1 to 200 are allowed"),
        (format!("until = {until}, reason = {long:?}"), "`reason` has 201 bytes: 1 to 200 are allowed"),
        ("until = 2027-01-01T00:00:00, reason = \"upgrade\"".to_owned(), "is not a moment"),
        (format!("until = {until}, reason = \"upgrade\", silence = true"), "unknown key `silence`"),
    ] {
        let refused = at(&source(&keys), NOW - 1).unwrap_err().to_string();
        assert!(refused.contains(said), "{keys}: {refused}");
    }
}

#[test]
fn resumption_and_tls_of_a_listener() {
    let listener = |keys: &str| good(&file("", keys, &[("mode = \"off\"", &[])])).listeners[0].clone();
    let default = listener("");
    assert_eq!((default.resumption, default.tls.min_version), (Resumption::Tickets, TlsVersion::Tls13));
    assert_eq!(default.tls.cipher_suites, CipherSuite::ALL[..3]);
    assert_eq!(default.tls.groups, Group::DEFAULT);
    assert_eq!(default.tls.groups[0], Group::X25519MLKEM768);
    let both = listener("tls = { min_version = \"1.2\" }");
    assert_eq!(
        (both.tls.min_version, both.tls.cipher_suites.as_slice()),
        (TlsVersion::Tls12, &CipherSuite::ALL[..])
    );
    let own = listener(
        "resumption = \"cache\"\ntls = { min_version = \"1.2\", groups = [\"secp384r1\", \"SecP256r1MLKEM768\"], \
         cipher_suites = [\"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256\", \"TLS_CHACHA20_POLY1305_SHA256\"] }",
    );
    assert_eq!(own.resumption, Resumption::Cache);
    assert_eq!(own.tls.groups, [Group::Secp384r1, Group::SecP256r1MLKEM768]);
    assert_eq!(
        own.tls.cipher_suites,
        [CipherSuite::EcdheRsaChacha20Poly1305Sha256, CipherSuite::Chacha20Poly1305Sha256]
    );
    assert_eq!(listener("resumption = \"off\"").resumption, Resumption::Off);
}

/// Every suite has its registered name and version; a name that led to another suite would weaken a listener silently.
#[test]
fn suites_are_what_their_names_say() {
    for suite in CipherSuite::ALL {
        let name = suite.as_str();
        let version = if name.contains("_WITH_") { TlsVersion::Tls12 } else { TlsVersion::Tls13 };
        assert_eq!(suite.version(), version, "{name}");
        let all =
            format!("\"{name}\", \"TLS_AES_256_GCM_SHA384\", \"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384\"");
        let source = file(
            "",
            &format!("tls = {{ min_version = \"1.2\", cipher_suites = [{all}] }}"),
            &[("mode = \"off\"", &[])],
        );
        match read(&source) {
            Ok(config) => assert_eq!(config.listeners[0].tls.cipher_suites[0], suite),
            Err(found) => assert!(found.to_string().contains("has this entry twice"), "{name}: {found}"),
        }
    }
    for group in Group::ALL {
        let keys = format!("tls = {{ groups = [\"{}\"] }}", group.as_str());
        assert_eq!(good(&file("", &keys, &[("mode = \"off\"", &[])])).listeners[0].tls.groups, [group]);
    }
}

#[test]
fn certificates_of_a_host() {
    let certificates = |keys: &str| -> Vec<Certificate> {
        let source = file("", "", &[("mode = \"off\"", &[])]);
        let source = source.replace("certificate = { chain = \"a\", key = \"b\" }", keys);
        good(&source).listeners[0].hosts[0].certificates.clone()
    };
    let plain = &certificates("certificate = { chain = \"a.pem\", key = \"a.key\" }")[0];
    assert!(
        plain.passphrase.is_none() && plain.ocsp_url.is_none() && matches!(plain.staple, StapleMode::Off)
    );
    let list = certificates(
        "certificate = [{ chain = \"a\", key = \"k\", passphrase = \"credential:api.key\", staple = \"fetch\", \
         ocsp_url = \"http://o.test/x\" }, { chain = \"b\", key = \"k\", passphrase = \"b.pass\", staple = { file = \"b.ocsp\" } }]",
    );
    assert!(matches!(&list[0].passphrase, Some(Passphrase::Credential { name, .. }) if name == "api.key"));
    assert!(matches!(list[0].staple, StapleMode::Fetch));
    assert_eq!(list[0].ocsp_url.as_ref().unwrap().url.as_str(), "http://o.test/x");
    assert!(
        matches!(&list[1].passphrase, Some(Passphrase::File(file)) if file.path == Path::new("/etc/ringward/b.pass"))
    );
    assert!(
        matches!(&list[1].staple, StapleMode::File(file) if file.path == Path::new("/etc/ringward/b.ocsp"))
    );
    let source = file("", "", &[("mode = \"off\"", &[])]);
    let source = source.replace("certificate = { chain = \"a\", key = \"b\" }\n", "");
    let tables = "[[listener.host.certificate]]\nchain = \"a\"\nkey = \"a\"\n\
                  [[listener.host.certificate]]\nchain = \"b\"\nkey = \"b\"";
    assert_eq!(good(&(source + tables)).listeners[0].hosts[0].certificates.len(), 2);
}

/// What we only write is not watched: every write would be a reload.
#[test]
fn what_is_watched() {
    let kinds = |source: &str| -> Vec<(String, FileKind)> {
        let config = good(source);
        let files = config.files();
        files.iter().map(|file| (file.path.display().to_string(), file.kind)).collect()
    };
    let has = |files: &[(String, FileKind)], name: &str, kind| {
        files.contains(&(format!("/etc/ringward/{name}"), kind))
    };
    let source = file(
        "[admin]\nsocket = \"admin.sock\"\n[keys]\nfile = \"ring\"\n[trust.x]\nca = \"x.pem\"\ncrl = \"crl\"\ncrl_issuers = \"i.pem\"",
        "",
        &[("mode = \"off\"", &[])],
    );
    let source = source.replace(
        "certificate = { chain = \"a\", key = \"b\" }",
        "certificate = { chain = \"a\", key = \"b\", passphrase = \"pass\", staple = { file = \"a.ocsp\" } }",
    );
    let files = kinds(&source);
    for (name, kind) in [
        ("crl", FileKind::Crl),
        ("i.pem", FileKind::CrlIssuers),
        ("a.ocsp", FileKind::StapleFile),
        ("pass", FileKind::Passphrase),
        ("ring", FileKind::KeyRing),
    ] {
        assert!(has(&files, name, kind), "{name}");
    }
    assert!(!files.iter().any(|(path, _)| path.ends_with("state") || path.ends_with("admin.sock")));
    // The ring is read from its file also by the process that writes it.
    let files = kinds(&source.replace("file = \"ring\"", "file = \"ring\"\nrotate = true"));
    assert!(has(&files, "ring", FileKind::KeyRing));
    let files = kinds(&source.replace("passphrase = \"pass\"", "passphrase = \"credential:pass\""));
    assert!(!files.iter().any(|(_, kind)| *kind == FileKind::Passphrase));
}

/// Each warning on its own, in a file that is good otherwise.
#[test]
fn warnings() {
    let hosts: &[(&str, &[&str])] =
        &[("mode = \"required\", trust = [\"partners\", \"staff\"], ocsp = \"soft_fail\"", &[""])];
    let soft = file("", "", hosts);
    assert_eq!(messages(&good(&soft)), [""; 0]);
    let tenant = "[trust.other]\nca = \"o.pem\"\n[tenant.t]\ntrust = \"other\"";
    for (source, expected) in [
        (
            soft.replace(", ocsp = \"soft_fail\"", ""),
            &["no OCSP responder is asked about clients of the bundle \"partners\""][..],
        ),
        (
            file(tenant, "", hosts),
            &[
                "the trust bundle \"other\" is not used",
                "the tenant \"t\" is not used: no host trusts a bundle of its own",
            ],
        ),
        (
            file("[keys]\nfile = \"ring\"", "resumption = \"cache\"", hosts),
            &["the key ring is not used: no listener has resumption = \"tickets\""],
        ),
        (
            soft.replacen("[server]", "[server]\nsession_cache = { entries = 100 }", 1),
            &["the session cache is not used: no listener has resumption = \"cache\""],
        ),
        (
            file("", "", &[("mode = \"observe\", trust = [\"partners\", \"staff\"]", &[""])])
                .replace("ocsp_url = \"http://o.test/\"\n", "")
                .replacen("policy = \"main\"", "policy = \"main\"\nforward = { client_cert = true }", 1),
            &["`client_cert` has no effect: this host knows no client by a certificate"],
        ),
    ] {
        assert_eq!(messages(&good(&source)), expected, "{source}");
    }
}
