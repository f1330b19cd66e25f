//! The identity of a client: once for each connection whose chain is not remembered.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ringward_benches::{BROWSER_REQUEST, Certificates, CpuTime, criterion, parsed};
use ringward_identity::{IdentityOptions, PeerIdentity, headers};

/// Reading names and claims out of a verified leaf and its intermediate, and rendering the header values.
fn extract(c: &mut Criterion<CpuTime>) {
    let certificates = Certificates::new();
    let chain = certificates.client.chain();
    let options = IdentityOptions::default();
    c.bench_function("identity/leaf_and_intermediate", |b| {
        b.iter(|| PeerIdentity::from_verified_chain(black_box(chain), &options));
    });
}

/// The search for look-alikes of identity headers among the sixteen fields of a browser: done for every request, and once
/// more when it is counted.
fn lookalikes(c: &mut Criterion<CpuTime>) {
    let head = parsed(BROWSER_REQUEST);
    c.bench_function("identity/lookalikes_of_16_fields", |b| {
        b.iter(|| {
            black_box(&head)
                .fields()
                .filter(|field| headers::is_stripped_inbound(field.name.as_bytes()))
                .count()
        });
    });
}

criterion_group! {
    name = benches;
    config = criterion();
    targets = extract, lookalikes
}
criterion_main!(benches);
