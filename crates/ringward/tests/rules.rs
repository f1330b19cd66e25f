//! The Prometheus rules of `deploy/prometheus`, as Prometheus itself reads and tests them, and the runbooks that they link to.
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ringward_telemetry::metrics::{CATALOGUE, Kind, Metric};

#[test]
fn promtool_takes_the_rules() {
    promtool(&["check", "rules", RULES]);
}

#[test]
fn every_test_of_the_rules_passes() {
    promtool(&["test", "rules", TESTS]);
    promtool(&["test", "rules", TESTS_OF_DAYS]);
}

#[test]
fn promtool_takes_the_scrape_configuration() {
    let readme = read("prometheus/README.md");
    let block = readme.split("```yaml prometheus.yml\n").nth(1).unwrap().split("```").next().unwrap();
    let directory = tempfile::tempdir().unwrap();
    fs::copy(deploy().join("prometheus").join(RULES), directory.path().join(RULES)).unwrap();
    fs::write(directory.path().join("prometheus.yml"), block).unwrap();
    promtool_in(directory.path(), &["check", "config", "prometheus.yml"]);
}

#[test]
fn every_alert_is_tested_both_ways() {
    let tests = read("prometheus/ringward.rules.test.yml") + &read("prometheus/ringward.rules.days.test.yml");
    // Nothing may be there in the test of nodes that are well; a test that expects an alert names it.
    assert!(tests.contains("{expr: 'ALERTS', eval_time: 4h, exp_samples: []}"));
    for alert in alerts() {
        let name = &alert.name;
        let is_expected = tests.contains(&format!("labels: '{{alertname=\"{name}\""))
            || tests.contains(&format!("labels: 'ALERTS{{alertname=\"{name}\""))
            || tests.contains(&format!("expr: count by (instance) (ALERTS{{alertname=\"{name}\""))
            || tests.contains(&format!("alertname: {name}\n        exp_alerts:\n"));
        assert!(is_expected, "no test expects {name}");
    }
}

/// An alert whose series are not there is silent for no reason.
#[test]
fn the_test_of_nodes_that_are_well_has_every_series() {
    let (rules, tests) = (read("prometheus/ringward.rules.yml"), read("prometheus/ringward.rules.test.yml"));
    let well = tests.split("\n  - name: ").nth(1).unwrap();
    assert!(well.starts_with("two nodes that are well"));
    let there: BTreeSet<&str> = names(well).map(|(_, name)| name).collect();
    for (name, _) in metrics(&uncommented(&rules)) {
        assert!(there.contains(name.as_str()), "{name}");
    }
}

#[test]
fn every_metric_of_the_rules_is_in_the_catalogue_with_these_labels() {
    let rules = uncommented(&read("prometheus/ringward.rules.yml"));
    let found = metrics(&rules);
    for (name, behind) in &found {
        let metric = catalogued(name);
        let metric = metric.unwrap_or_else(|| panic!("{name} is not in the catalogue"));
        let Some(matchers) = behind.strip_prefix('{') else { continue };
        for matcher in matchers.split('}').next().unwrap().split(", ") {
            let label = matcher.split(['=', '!']).next().unwrap();
            assert!(label == "job" || metric.labels.contains(&label), "{name} has no label {label}");
        }
    }
    assert!(found.len() > 60, "{} names found", found.len());
}

/// What a window silences is exactly what the label says.
#[test]
fn maintenance_silences_what_may_be_silenced_and_nothing_else() {
    let mut silenced = 0;
    for Alert { name, body } in alerts() {
        let expression = body.split("labels: ").next().unwrap();
        let is_silenced = [
            "unless on (job, instance) instance:ringward_maintenance:active",
            "unless on (job) instance:ringward_maintenance:active",
            "unless on (job) job:ringward_maintenance:all",
        ]
        .iter()
        .any(|ending| expression.contains(ending));
        assert_eq!(is_silenced, body.contains(", maintenance: mute}"), "{name}");
        silenced += usize::from(is_silenced);
    }
    assert!(silenced > 10, "{silenced} alerts");
}

#[test]
fn every_recorded_series_that_is_used_is_recorded() {
    let rules = read("prometheus/ringward.rules.yml");
    let recorded: BTreeSet<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- record: ")).collect();
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':');
    let used = rules.split(word).filter(|word| word.contains(":ringward_"));
    for name in used {
        assert!(recorded.contains(name), "{name} is not recorded");
    }
}

#[test]
fn every_alert_says_what_an_operator_needs() {
    let mut names = BTreeSet::new();
    for alert in alerts() {
        let Alert { name, body } = &alert;
        assert!(names.insert(name.clone()), "{name} is there twice");
        let severity = ["page", "urgent", "ticket", "notice"];
        assert!(severity.iter().any(|word| body.contains(&format!("{{severity: {word}, "))), "{name}");
        let owner = ["platform", "pki", "application"];
        assert!(owner.iter().any(|word| body.contains(&format!(", owner: {word}, "))), "{name}");
        let maintenance = ["mute", "never"];
        assert!(maintenance.iter().any(|word| body.contains(&format!(", maintenance: {word}}}"))), "{name}");
        if !body.contains("annotations: *") {
            for annotation in ["summary: ", "description: ", "runbook_url: runbooks/"] {
                assert!(body.contains(annotation), "{name} has no {annotation}");
            }
        }
    }
    assert!(names.len() > 50, "{} alerts", names.len());
}

#[test]
fn every_link_to_a_runbook_resolves_and_every_runbook_is_linked_and_names_its_alerts() {
    let rules = read("prometheus/ringward.rules.yml");
    let linked: BTreeSet<String> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("runbook_url: runbooks/"))
        .map(str::to_owned)
        .collect();
    let mut texts = String::new();
    let mut there = BTreeSet::new();
    for entry in fs::read_dir(deploy().join("runbooks")).unwrap() {
        let entry = entry.unwrap();
        texts += &fs::read_to_string(entry.path()).unwrap();
        there.insert(entry.file_name().into_string().unwrap());
    }
    assert_eq!(linked, there);
    for Alert { name, .. } in alerts() {
        assert!(texts.contains(&format!("`{name}`")), "no runbook names {name}");
    }
}

#[test]
fn runbooks_keep_to_their_form_and_their_links_resolve() {
    for entry in fs::read_dir(deploy().join("runbooks")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let headings = ["## Who is affected", "## Check", "## Fix", "## Roll back", "## Verify"];
        for heading in headings {
            assert!(text.contains(heading), "{}: {heading}", path.display());
        }
        assert!(text.lines().count() <= 60, "{} is longer than a page", path.display());
        for link in text.split("](").skip(1) {
            let target = link.split(')').next().unwrap();
            assert!(path.with_file_name(target).exists(), "{}: {target}", path.display());
        }
    }
}

/// Between backticks in prose, where what a command needs may be left out.
#[test]
fn commands_that_runbooks_mention_exist() {
    let mut seen = 0;
    for (path, text) in runbooks() {
        for part in text.split(['\n', '`', ';', '|']) {
            let part = part.trim().trim_start_matches("sudo -u ringward ");
            let Some(arguments) = part.strip_prefix("ringward ") else { continue };
            let words: Vec<&str> = arguments.split_whitespace().collect();
            let commands: Vec<&str> = words
                .iter()
                .copied()
                .take_while(|word| word.chars().all(|c| c.is_ascii_lowercase()))
                .collect();
            let help =
                Command::new(env!("CARGO_BIN_EXE_ringward")).args(&commands).arg("--help").output().unwrap();
            assert!(help.status.success(), "{path}: {part}");
            let help = String::from_utf8(help.stdout).unwrap();
            for option in words.iter().filter(|word| word.starts_with('-')) {
                assert!(help.contains(option), "{path}: {part}: {option}");
            }
            seen += 1;
        }
    }
    assert!(seen > 30, "{seen} commands");
}

/// In blocks. There is no such configuration here, and no process, so all they can do is to say so; what they must not say is that they
/// were used wrongly.
#[test]
fn commands_of_runbooks_are_taken() {
    let (directory, mut seen) = (tempfile::tempdir().unwrap(), 0);
    for (path, line) in lines() {
        for command in commands(&line) {
            let Some(arguments) = command.trim_start_matches("sudo -u ringward ").strip_prefix("ringward ")
            else {
                continue;
            };
            let arguments = arguments.replace("/etc/ringward/", "");
            let mut ringward = Command::new(env!("CARGO_BIN_EXE_ringward"));
            let output =
                ringward.args(arguments.split_whitespace()).current_dir(directory.path()).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!said.contains("Usage:"), "{path}: {command}: {said}");
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen} commands");
}

#[test]
fn blocks_of_runbooks_are_shell_and_their_filters_are_jq() {
    let log = fs::read_to_string(deploy().join("manual/logs.md")).unwrap();
    let mut seen = 0;
    for (path, line) in lines() {
        run(Command::new("bash").args(["-n", "-c", &line]), &format!("{path}: {line}"));
        for command in commands(&line).into_iter().filter(|command| command.starts_with("jq ")) {
            let program = command.split('\'').nth(1).unwrap_or_else(|| panic!("{path}: {command}"));
            // A number that is the reader's to fill in.
            let program = program.replace("WORKER", "0");
            run(Command::new("jq").arg(&program).stdin(Stdio::null()), &format!("{path}: {command}"));
            for member in program.split(".\"").skip(1) {
                let member = member.split('"').next().unwrap();
                assert!(log.contains(&format!("`{member}`")), "{path}: logs.md has no {member}");
            }
            seen += 1;
        }
    }
    assert!(seen > 8, "{seen} filters");
}

#[test]
fn options_of_openssl_in_runbooks_exist() {
    let mut seen = 0;
    for (path, line) in lines() {
        for command in commands(&line) {
            let Some(arguments) = command.strip_prefix("openssl ") else { continue };
            let words: Vec<&str> = arguments.split_whitespace().collect();
            let help = Command::new("openssl").args([words[0], "-help"]).output().unwrap();
            let help = String::from_utf8_lossy(&[help.stdout, help.stderr].concat()).into_owned();
            for option in words.iter().filter(|word| word.starts_with('-')) {
                let is_known = help.split_whitespace().any(|word| word == *option);
                assert!(is_known, "{path}: {command}: {option}");
            }
            seen += 1;
        }
    }
    assert!(seen > 5, "{seen} commands");
}

/// Whole, or the beginning of some.
#[test]
fn metrics_that_runbooks_name_are_in_the_catalogue() {
    let mut seen = 0;
    for (path, text) in runbooks() {
        // `ringward_(a|b)` of `grep -E` stands for two.
        let mut wanted: Vec<String> = Vec::new();
        for (at, name) in names(&text) {
            match text[at + name.len()..].strip_prefix('(') {
                Some(choices) => {
                    let choices = choices.split(')').next().unwrap();
                    wanted.extend(choices.split('|').map(|choice| format!("{name}{choice}")));
                }
                None => wanted.push(name.to_owned()),
            }
        }
        for name in wanted {
            let is_known = CATALOGUE.iter().any(|metric| metric.name.starts_with(&name));
            assert!(is_known || catalogued(&name).is_some(), "{path}: {name}");
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen} names");
}

/// One alert of the rules.
struct Alert {
    name: String,
    /// All of its lines.
    body: String,
}

fn alerts() -> Vec<Alert> {
    let rules = read("prometheus/ringward.rules.yml");
    let mut all = Vec::new();
    for rule in rules.split("\n      - alert: ").skip(1) {
        let name = rule.lines().next().unwrap().to_owned();
        all.push(Alert { name, body: rule.to_owned() });
    }
    all
}

/// Names and texts of all runbooks.
fn runbooks() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(deploy().join("runbooks")).unwrap() {
        let entry = entry.unwrap();
        all.push((entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap()));
    }
    all.sort();
    all
}

/// The lines of all blocks of shell in the runbooks, each with the name of its runbook.
fn lines() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (path, text) in runbooks() {
        for block in text.split("```sh\n").skip(1) {
            let block = block.split("```").next().unwrap();
            all.extend(block.lines().map(|line| (path.clone(), line.to_owned())));
        }
    }
    all
}

/// The commands of a line, without what their output goes to. Quotes are kept, and what is between them stays together.
fn commands(line: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut quote = None;
    for c in line.chars() {
        match quote {
            Some(open) => quote = (c != open).then_some(open),
            None if c == '\'' || c == '"' => quote = Some(c),
            None if matches!(c, '|' | ';' | '<' | '>') => {
                all.push(String::new());
                continue;
            }
            None => {}
        }
        all.last_mut().unwrap().push(c);
    }
    all.iter().map(|command| command.trim().trim_start_matches("do ").to_owned()).collect()
}

fn run(command: &mut Command, what: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The rules without comments.
fn uncommented(rules: &str) -> String {
    rules.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n")
}

/// Every series of Ringward itself that is named, and what stands behind it. What recording rules make has a level in front and what was
/// done behind, both set off by colons.
fn metrics(uncommented: &str) -> Vec<(String, &str)> {
    names(uncommented)
        .map(|(at, name)| (at, name, &uncommented[at + name.len()..]))
        .filter(|(at, _, behind)| !uncommented[..*at].ends_with(':') && !behind.starts_with(':'))
        .map(|(_, name, behind)| (name.to_owned(), behind))
        .collect()
}

/// Every word of `text` that begins with `ringward_`, and where.
fn names(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices("ringward_").map(|(at, _)| {
        let rest = &text[at..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        (at, &rest[..end])
    })
}

/// The metric that a series of this name belongs to.
fn catalogued(series: &str) -> Option<&'static Metric> {
    CATALOGUE.iter().find(|metric| match metric.kind {
        Kind::Counter | Kind::Gauge => metric.name == series,
        Kind::Histogram(_) => ["_bucket", "_sum", "_count"]
            .iter()
            .any(|suffix| series.strip_suffix(suffix) == Some(metric.name)),
    })
}

fn promtool(arguments: &[&str]) {
    promtool_in(&deploy().join("prometheus"), arguments);
}

fn promtool_in(directory: &Path, arguments: &[&str]) {
    let output = Command::new("promtool").args(arguments).current_dir(directory).output();
    let output = output.unwrap_or_else(|error| panic!("promtool (Debian package prometheus): {error}"));
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
}

fn read(path: &str) -> String {
    fs::read_to_string(deploy().join(path)).unwrap()
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy")
}

const RULES: &str = "ringward.rules.yml";
const TESTS: &str = "ringward.rules.test.yml";
const TESTS_OF_DAYS: &str = "ringward.rules.days.test.yml";
