use super::*;

/// `content` behind its length in `bytes` bytes.
fn vector(bytes: usize, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    [&length[length.len() - bytes..], content].concat()
}

fn hello(extensions: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let extension = |(kind, content): &(u8, Vec<u8>)| [vec![0, *kind], vector(2, content)].concat();
    let extensions: Vec<u8> = extensions.iter().flat_map(extension).collect();
    let body = [
        vec![3, 3],
        vec![7; 32],
        vector(1, &[9; 32]),
        vector(2, &[0x13, 0x01]),
        vector(1, &[0]),
        vector(2, &extensions),
    ]
    .concat();
    let message = [vec![1], vector(3, &body)].concat();
    [vec![22, 3, 1], vector(2, &message)].concat()
}

fn sessions(identities: &[&[u8]]) -> Vec<u8> {
    let identity = |identity: &&[u8]| [vector(2, identity), vec![1, 2, 3, 4]].concat();
    let identities: Vec<u8> = identities.iter().flat_map(identity).collect();
    let binders = vector(2, &vector(1, &[5; 32]));
    [vector(2, &identities), binders].concat()
}

fn offered(bytes: &[u8]) -> Vec<&[u8]> {
    offered_sessions(bytes).collect()
}

#[test]
fn the_first_two_sessions_are_found_in_the_last_extension() {
    let other = (10, vec![0, 2, 0, 29]);
    let two = hello(&[other.clone(), (41, sessions(&[b"first", b"second"]))]);
    assert_eq!(offered(&two), [&b"first"[..], b"second"]);
    let three = hello(&[(41, sessions(&[b"first", b"second", b"third"]))]);
    assert_eq!(offered(&three), [&b"first"[..], b"second"]);
    assert_eq!(offered(&hello(std::slice::from_ref(&other))), [&b""[..]; 0]);
    assert_eq!(offered(&hello(&[(41, sessions(&[b"first"])), other])), [&b""[..]; 0], "it is not the last");
}

#[test]
fn one_that_is_cut_offers_nothing_anywhere() {
    let whole = hello(&[(10, vec![0, 2, 0, 29]), (41, sessions(&[b"first"]))]);
    for cut in 0..whole.len() {
        assert_eq!(offered(&whole[..cut]), [&b""[..]; 0], "cut at {cut}");
    }
    let behind = [&whole[..], &[20, 3, 3, 0, 1, 1]].concat();
    assert_eq!(offered(&behind), [&b"first"[..]]);
}

#[test]
fn no_length_reaches_beyond_its_bytes() {
    let whole = hello(&[(41, sessions(&[b"first"]))]);
    for at in 0..whole.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut changed = whole.clone();
            changed[at] = value;
            assert!(offered(&changed).iter().map(|session| session.len()).sum::<usize>() < changed.len());
        }
    }
}
