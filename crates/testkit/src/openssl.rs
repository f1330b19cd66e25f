//! The OpenSSL command line, as the second opinion on what is made and said here.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

mod s_client;

pub use s_client::{SClient, SClientRun};

/// Runs `openssl` with these arguments and this input to its end, and returns its standard output.
///
/// ```
/// let digest = ringward_testkit::openssl(["dgst", "-sha256", "-binary"], b"abc");
/// assert_eq!(digest.len(), 32);
/// ```
///
/// # Panics
/// With everything it wrote, if it fails.
#[track_caller]
pub fn openssl<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>, input: &[u8]) -> Vec<u8> {
    let mut command = Command::new("openssl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("start openssl, which these tests need");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let output = thread::scope(|scope| {
        // Beside reading, as both pipes have an end. It may stop reading early, which its status tells.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().expect("openssl ends")
    });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    output.stdout
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_input_and_output() {
        let long = vec![7; 1 << 20];
        assert_eq!(openssl(["enc", "-base64", "-A"], &long).len(), long.len().div_ceil(3) * 4);
    }

    #[test]
    #[should_panic(expected = "asn1parse")]
    fn shows_what_went_wrong() {
        openssl(["asn1parse", "-inform", "PEM"], b"no PEM");
    }
}
