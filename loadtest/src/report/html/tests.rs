use crate::report::tests::{synthetic, with_failures};

/// What a target says, or what a plan holds, is text and nothing else.
#[test]
fn nothing_can_be_put_into_a_page() {
    for evil in [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "'onmouseover='alert(1)",
        "</style><script>",
        "</title></svg><iframe src=//example.com>",
        "&lt;script&gt;<!--",
        "\u{202e}\u{0}\u{1b}]8;;http://example.com\u{7}<a href=x>",
    ] {
        let clean = with_failures(synthetic("a", 1_800_000_000, 5), 1, "x").to_html();
        let mut report = with_failures(synthetic(evil, 1_800_000_000, 5), 1, evil);
        report.mode = evil.to_owned();
        report.target = evil.to_owned();
        report.tls = Some(evil.to_owned());
        report.plan.insert(evil.to_owned(), evil.to_owned());
        let process = &mut report.processes[0];
        for text in [&mut process.kernel, &mut process.cpu, &mut process.harness] {
            evil.clone_into(text);
        }
        report.targets[0].host = evil.to_owned();
        let page = report.to_html();
        // One row more for the plan, and otherwise the same elements.
        let tags = |page: &str| page.matches('<').count();
        assert_eq!(tags(&page), tags(&clean) + 6, "{evil}");
        let quotes = |page: &str| page.matches(['"', '\'']).count();
        assert_eq!(quotes(&page), quotes(&clean) + 2, "{evil}");
        assert!(!page.contains(['\0', '\u{1b}', '\u{202e}']), "{evil}");
    }
}

#[test]
fn a_page_needs_nothing_from_elsewhere() {
    let page = with_failures(synthetic("a", 1_800_000_000, 5), 1, "x").to_html();
    for word in ["<script", "<link", "<img", "<iframe", "@import", "url(", "http://", "https://", "src="] {
        assert!(!page.contains(word), "{word}");
    }
    assert_eq!(page.matches("<svg").count(), 6, "with a target");
    let mut alone = synthetic("a", 1_800_000_000, 5);
    alone.targets.clear();
    assert_eq!(alone.to_html().matches("<svg").count(), 5);
}

/// Also of a run in which nothing came to pass.
#[test]
fn an_empty_report_has_a_page() {
    let mut report = synthetic("a", 1_800_000_000, 0);
    report.histograms.clear();
    report.targets.clear();
    report.refused = None;
    report.series.clear();
    report.seconds = 0.0;
    report.sum_up();
    let page = report.to_html();
    assert!(
        page.contains("nothing was answered") && !page.contains("NaN") && !page.contains("inf"),
        "{page}"
    );
}
