//! Compressing responses: what a step of a body costs, and what it saves to use an encoder again.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ringward_benches::{CpuTime, criterion};
use ringward_coding::{Algorithm, Encoder};

/// The defaults of the configuration.
const DEFAULTS: [(Algorithm, u8); 3] = [(Algorithm::Zstd, 3), (Algorithm::Brotli, 4), (Algorithm::Gzip, 5)];

/// JSON with names that come again, numbers, and tokens that do not.
fn body(bytes: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(bytes + 100);
    for number in 0_u64.. {
        if body.len() >= bytes {
            break;
        }
        let odd = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let line = format!("{{\"order\": {number}, \"token\": \"{odd:08x}\", \"state\": \"on its way\"}}\n");
        body.extend(line.bytes());
    }
    body.truncate(bytes);
    body
}

/// One turn of a body that streams: 16 KiB that leave.
fn steps(c: &mut Criterion<CpuTime>) {
    let body = body(1 << 20);
    for (algorithm, level) in DEFAULTS {
        let mut encoder = Encoder::new(algorithm, level).expect("memory");
        let mut pieces = body.chunks_exact(16 << 10).cycle();
        let mut out = Vec::with_capacity(64 << 10);
        c.bench_function(&format!("coding/{}_of_16_KiB", algorithm.coding()), |b| {
            b.iter(|| {
                out.clear();
                encoder
                    .write(black_box(pieces.next().expect("it never ends")), &mut out)
                    .expect("it encodes");
                encoder.flush(&mut out).expect("it encodes");
                out.len()
            });
        });
    }
}

/// A small response, with a new encoder and with one that was used.
fn beginnings(c: &mut Criterion<CpuTime>) {
    let body = body(4 << 10);
    let encode = |encoder: &mut Encoder, out: &mut Vec<u8>| {
        out.clear();
        encoder.write(black_box(&body), out).expect("it encodes");
        encoder.finish(out).expect("it encodes");
    };
    for (algorithm, level) in DEFAULTS {
        let mut out = Vec::with_capacity(64 << 10);
        c.bench_function(&format!("coding/{}_of_4_KiB_new", algorithm.coding()), |b| {
            b.iter(|| encode(&mut Encoder::new(algorithm, level).expect("memory"), &mut out));
        });
        let mut kept = Encoder::new(algorithm, level).expect("memory").reset();
        if kept.is_some() {
            c.bench_function(&format!("coding/{}_of_4_KiB_used", algorithm.coding()), |b| {
                b.iter(|| {
                    let mut encoder = kept.take().expect("it was given back");
                    encode(&mut encoder, &mut out);
                    kept = encoder.reset();
                });
            });
        }
    }
}

criterion_group! {
    name = benches;
    config = criterion();
    targets = steps, beginnings
}
criterion_main!(benches);
