//! `ringward-load compare` as its caller sees it: what it reports, what it refuses to measure, and that nothing of it is left.
//! nginx is the proxy, as Debian has it.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// A comparison whose temporary files are in `dir`.
fn compare(dir: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringward-load"));
    command.arg("compare").args(arguments.split_whitespace()).env("TMPDIR", dir).stdin(Stdio::null());
    for variable in ["NGINX_BIN", "HAPROXY_BIN", "PINGORA_BIN", "RINGWARD_BIN"] {
        command.env_remove(variable);
    }
    command
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn is_empty(dir: &TempDir) -> bool {
    fs::read_dir(dir.path()).unwrap().next().is_none()
}

/// A program in the place of Pingora's.
fn program(dir: &TempDir, text: &str) -> PathBuf {
    let path = dir.path().join("proxy");
    fs::write(&path, format!("#!/bin/sh\n{text}")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
    path
}

/// Waits for something that is under way.
fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn nginx_is_measured_in_every_case_that_is_asked_for() {
    let dir = TempDir::new().unwrap();
    let cases = "policy,h2,handshake-resumed,upload,download,idle,latency";
    let output = compare(dir.path(), &format!("--quick --proxy nginx,pingora --case {cases} --json"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report = json(&output);
    let [nginx, pingora] = &report["proxies"].as_array().unwrap()[..] else { panic!("{report}") };
    assert!(nginx["version"].as_str().unwrap().contains("nginx/"), "{nginx}");
    assert!(pingora["version"].is_null(), "it is named, and left out: {pingora}");
    for probe in ["probe", "probe_with_policy"] {
        let seen = nginx[probe].as_array().unwrap();
        assert!(seen.len() > 6 && seen.iter().all(|seen| seen["right"] == true), "{nginx}");
    }
    let rows = report["table"].as_array().unwrap();
    let mut measured: Vec<_> = rows.iter().map(|row| row["case"].as_str().unwrap()).collect();
    let mut wanted: Vec<_> = cases.split(',').collect();
    measured.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(measured, wanted);
    for row in rows {
        let case = row["case"].as_str().unwrap();
        assert_eq!((&row["proxy"], &row["runs"]), (&"nginx".into(), &1.into()), "{row}");
        assert!(row["figure"]["median"].as_f64().unwrap() >= 0.0, "{row}");
        assert_eq!(row["busy"].is_object(), case != "idle", "{row}");
        assert!(row["load_busy"]["median"].as_f64().unwrap() >= 0.0, "{row}");
        assert_eq!(row["p999_us"].is_object(), case == "latency", "{row}");
        assert_eq!(row["resumed"].is_object(), case == "handshake-resumed", "{row}");
    }
    assert!(report["rates"]["latency"].as_u64().unwrap() > 0);
    assert!(is_empty(&dir), "nothing is left");
}

#[test]
fn a_proxy_that_asks_nobody_for_a_certificate_is_not_measured() {
    let (dir, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let lax = program(
        &other,
        r#"cat > "$PKI/nginx.conf" <<EOF
daemon off; master_process off; pid "$PKI/nginx.pid"; error_log "$PKI/error.log";
events {}
http {
  access_log off; client_body_temp_path "$PKI/b"; proxy_temp_path "$PKI/p"; fastcgi_temp_path "$PKI/f";
  uwsgi_temp_path "$PKI/u"; scgi_temp_path "$PKI/s";
  server {
    listen $LISTEN ssl http2;
    ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate "$PKI/server.pem"; ssl_certificate_key "$PKI/server.key";
    location / { return 200 served; }
  }
}
EOF
PATH=$PATH:/usr/sbin exec nginx -e "$PKI/error.log" -c "$PKI/nginx.conf"
"#,
    );
    let mut command = compare(dir.path(), "--quick --proxy pingora --case keepalive,policy --json");
    let output = command.env("PINGORA_BIN", lax).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let report = json(&output);
    let wrong = |probe: &str| {
        let seen = report["proxies"][0][probe].as_array().unwrap().iter();
        let wrong = seen.filter(|seen| seen["right"] == false);
        wrong.map(|seen| seen["what"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let strangers = [
        "no certificate",
        "no certificate, HTTP/2",
        "expired certificate",
        "certificate of a stranger",
        "no certificate, TLS 1.2",
    ];
    assert_eq!(wrong("probe"), strangers);
    let denied = [
        "policy: client-a, /public/",
        "policy: client-a, /",
        "policy: client-b, /api/",
        "policy: client-b, /api/, HTTP/2",
    ];
    assert_eq!(wrong("probe_with_policy"), [&strangers[..], &denied].concat());
    assert!(report["proxies"][0]["refused"].as_str().unwrap().contains("no certificate: status 200"));
    assert_eq!(report["runs"], Value::Array(Vec::new()));
    assert_eq!(report["failures"].as_array().unwrap().len(), 2);
    assert!(is_empty(&dir));
}

#[test]
fn a_proxy_that_does_not_start_says_why() {
    let (dir, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let broken = program(&other, "echo one; echo 'fatal error: no keys'; echo two; exit 1");
    let mut command = compare(dir.path(), "--quick --proxy pingora --case keepalive");
    let output = command.env("PINGORA_BIN", broken).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("NOT MEASURED: it did not start: fatal error: no keys\n"), "{text}");
}

#[test]
fn a_program_that_is_not_there_is_told() {
    let dir = TempDir::new().unwrap();
    let mut command = compare(dir.path(), "--quick --proxy nginx,pingora --case keepalive");
    let output = command.env("PINGORA_BIN", "/nowhere/pingora").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("left out: PINGORA_BIN names `/nowhere/pingora`, which is no file\n"), "{text}");
}

#[test]
fn what_cannot_begin_is_told() {
    let dir = TempDir::new().unwrap();
    let nobody = "none of the proxies is installed: pingora; give --install, or name programs by PINGORA_BIN";
    for (arguments, reason) in [
        ("--quick --proxy pingora", nobody),
        ("--quick --proxy nginx --proxy-cpus 1023", "may not use processor 1023"),
        ("--proxy nginx --idle-connections 0", "0 is not in 1..=50000"),
        ("--quick --runs 3", "cannot be used with"),
    ] {
        let output = compare(dir.path(), arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments}: {output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(reason), "{arguments}: {said}");
    }
    assert!(is_empty(&dir));
}

/// Also if the proxy itself has ended as it was asked to.
#[test]
fn nothing_is_left_of_what_a_proxy_has_started() {
    let (dir, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let started = other.path().join("started");
    let text = format!(
        "case \"$*\" in *-c*) sleep 600 >/dev/null 2>&1 & echo $! >> {};; esac\nPATH=$PATH:/usr/sbin exec nginx \"$@\"\n",
        started.display()
    );
    let mut command = compare(dir.path(), "--quick --proxy nginx --case keepalive");
    let output = command.env("NGINX_BIN", program(&other, &text)).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let started = fs::read_to_string(started).unwrap();
    assert!(!started.is_empty());
    for id in started.lines() {
        // Whoever adopted it may not have looked yet.
        let ended = || match fs::read_to_string(Path::new("/proc").join(id).join("stat")) {
            Ok(stat) => stat.contains(") Z ").then_some(()),
            Err(_) => Some(()),
        };
        wait_until("what nginx has started goes on", ended);
    }
}

/// A comparison that takes long, and its nginx.
fn under_way(dir: &TempDir) -> (Child, PathBuf) {
    let mut command = compare(dir.path(), "--proxy nginx --case keepalive --seconds 600");
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let inside = |path: &Path| -> Option<Vec<PathBuf>> {
        Some(fs::read_dir(path).ok()?.flatten().map(|entry| entry.path()).collect())
    };
    let process = wait_until("nginx does not start", || {
        let work = inside(dir.path())?;
        let proxies = inside(work.first()?)?;
        let id = proxies.iter().find_map(|path| fs::read_to_string(path.join("nginx.pid")).ok())?;
        let process = Path::new("/proc").join(id.trim());
        // Until it has a worker, nginx may overlook that it is told to end.
        let workers = fs::read_to_string(process.join("task").join(id.trim()).join("children")).ok()?;
        (!workers.trim().is_empty()).then_some(process)
    });
    (child, process)
}

#[test]
fn nothing_is_left_of_a_comparison_that_is_interrupted() {
    let dir = TempDir::new().unwrap();
    let (child, nginx) = under_way(&dir);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("interrupted"), "{output:?}");
    assert!(!nginx.exists() && is_empty(&dir));
}

#[test]
fn no_process_is_left_of_a_comparison_that_is_killed() {
    let dir = TempDir::new().unwrap();
    let (mut child, nginx) = under_way(&dir);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("nginx does not end", || (!nginx.exists()).then_some(()));
}
