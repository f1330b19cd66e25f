use super::*;

fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

#[test]
fn input_and_output_pass_through() {
    let input = vec![b'x'; 1 << 20];
    let (status, output) = converse(shell("cat"), &input, Duration::from_secs(30)).unwrap();
    assert!(status.success());
    assert_eq!(output, input);
}

#[test]
fn a_child_that_takes_too_long_is_killed() {
    let error = converse(shell("exec sleep 600"), &[b'x'; 1 << 20], Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, ChildError::Exceeded(_)), "{error}");
}

#[test]
fn a_child_that_talks_without_end_is_killed() {
    let error = converse(shell("exec cat /dev/zero"), b"", Duration::from_secs(30)).unwrap_err();
    assert!(matches!(error, ChildError::Exceeded(_)), "{error}");
    let exactly = format!("head -c {ANSWER_BYTES_MAX} /dev/zero");
    let (_, output) = converse(shell(&exactly), b"", Duration::from_secs(30)).unwrap();
    assert_eq!(output.len() as u64, ANSWER_BYTES_MAX);
}

#[test]
fn every_way_to_die_is_told_apart() {
    for (script, expected) in [
        ("kill -SEGV $$", "crashed"),
        ("kill -ABRT $$", "crashed"),
        ("kill -XCPU $$", "CPU time"),
        ("exit 4", "crashed"),
        ("exit 3", "set itself up"),
    ] {
        let (status, _) = converse(shell(script), b"", Duration::from_secs(30)).unwrap();
        let error = death(status);
        assert!(error.to_string().contains(expected), "{script}: {error}");
    }
}
