use std::io::Read;

use super::*;

const ALL: [Algorithm; 3] = [Algorithm::Gzip, Algorithm::Brotli, Algorithm::Zstd];

/// What a decoder makes of it; `None` unless it is complete.
fn decode(algorithm: Algorithm, encoded: &[u8]) -> Option<Vec<u8>> {
    let (decoded, is_complete) = decode_some(algorithm, encoded);
    is_complete.then_some(decoded)
}

/// What a decoder makes of the beginning of a body, and whether that was all.
fn decode_some(algorithm: Algorithm, encoded: &[u8]) -> (Vec<u8>, bool) {
    let mut decoded = Vec::new();
    let is_complete = match algorithm {
        Algorithm::Gzip => flate2::read::GzDecoder::new(encoded).read_to_end(&mut decoded).is_ok(),
        Algorithm::Brotli => ::brotli::Decompressor::new(encoded, 4096).read_to_end(&mut decoded).is_ok(),
        Algorithm::Zstd => {
            let mut context = zstd_safe::DCtx::create();
            let mut input = zstd_safe::InBuffer::around(encoded);
            loop {
                decoded.reserve(ROOM);
                let position = decoded.len();
                let mut output = zstd_safe::OutBuffer::around_pos(&mut decoded, position);
                let left = context.decompress_stream(&mut output, &mut input).unwrap();
                let made = output.pos() - position;
                if left == 0 {
                    break input.pos() == encoded.len();
                }
                if made == 0 && input.pos() == encoded.len() {
                    break false;
                }
            }
        }
    };
    (decoded, is_complete)
}

/// Text that repeats itself a little, and bytes that do not.
fn body(bytes: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    let mut body = Vec::with_capacity(bytes + 64);
    while body.len() < bytes {
        match random() {
            0..32 => body.extend((0..40).map(|_| random())),
            number => body.extend(format!("the order {number} of {} is on its way\n", random()).bytes()),
        }
    }
    body.truncate(bytes);
    body
}

#[test]
fn decoders_get_what_was_given_in_whatever_pieces() {
    let body = body(300_000);
    for algorithm in ALL {
        for level in algorithm.levels() {
            for piece in [1000, 16 * 1024, 300_000] {
                let mut encoder = Encoder::new(algorithm, level).unwrap();
                let mut encoded = Vec::new();
                body.chunks(piece).for_each(|piece| encoder.write(piece, &mut encoded).unwrap());
                encoder.finish(&mut encoded).unwrap();
                assert!(encoded.len() < body.len() * 2 / 3, "{algorithm:?} {level}: {}", encoded.len());
                let decoded = decode(algorithm, &encoded).expect("complete");
                assert!(decoded == body, "{algorithm:?} {level} in pieces of {piece}");
            }
        }
    }
}

#[test]
fn what_is_flushed_can_be_decoded_and_is_not_yet_whole() {
    for algorithm in ALL {
        let mut encoder = Encoder::new(algorithm, 3).unwrap();
        let (mut encoded, mut given) = (Vec::new(), Vec::new());
        for number in 0..20 {
            let event = format!("data: {number}\n\n");
            given.extend(event.bytes());
            encoder.write(event.as_bytes(), &mut encoded).unwrap();
            encoder.flush(&mut encoded).unwrap();
            assert_eq!(decode_some(algorithm, &encoded), (given.clone(), false), "{algorithm:?}");
            let before = encoded.len();
            encoder.flush(&mut encoded).unwrap();
            assert_eq!(encoded.len(), before, "there was nothing to flush");
        }
        encoder.finish(&mut encoded).unwrap();
        assert_eq!(decode(algorithm, &encoded), Some(given), "{algorithm:?}");
    }
}

#[test]
fn an_empty_body_is_a_body() {
    for algorithm in ALL {
        let mut encoded = Vec::new();
        Encoder::new(algorithm, 3).unwrap().finish(&mut encoded).unwrap();
        assert_eq!(decode(algorithm, &encoded), Some(Vec::new()), "{algorithm:?}");
    }
}

#[test]
fn what_is_held_is_bounded() {
    let body = body(1 << 20);
    for algorithm in ALL {
        let mut encoder = Encoder::new(algorithm, 3).unwrap();
        let mut encoded = Vec::new();
        for (index, piece) in body.chunks(1024).enumerate() {
            encoder.write(piece, &mut encoded).unwrap();
            if index % 100 == 99 {
                let (decoded, _) = decode_some(algorithm, &encoded);
                assert!((index + 1) * 1024 - decoded.len() <= HELD_BYTES_MAX, "{algorithm:?} at {index}");
            }
        }
    }
}

#[test]
fn a_used_encoder_is_as_a_new_one() {
    let (first, second) = (body(100_000), body(70_000));
    for algorithm in ALL {
        // Left in the middle of a body, with something in it.
        let mut used = Encoder::new(algorithm, 3).unwrap();
        used.write(&first, &mut Vec::new()).unwrap();
        let Some(mut used) = used.reset() else {
            assert_eq!(algorithm, Algorithm::Brotli);
            continue;
        };
        let mut new = Encoder::new(algorithm, 3).unwrap();
        let encoded = [&mut used, &mut new].map(|encoder| {
            let mut encoded = Vec::new();
            encoder.write(&second, &mut encoded).unwrap();
            encoder.finish(&mut encoded).unwrap();
            encoded
        });
        assert!(encoded[0] == encoded[1], "{algorithm:?}");
        // After an end, too.
        assert!(used.reset().is_some());
    }
}

#[test]
fn zstd_takes_no_more_memory_than_it_says() {
    let body = body(1 << 20);
    for level in Algorithm::Zstd.levels() {
        let mut zstd = zstd::Zstd::new(level).unwrap();
        for piece in body.chunks(HELD_BYTES_MAX) {
            zstd.run(piece, &mut Vec::new(), Until::Flushed).unwrap();
        }
        let bytes = zstd.memory_bytes();
        assert!(bytes <= memory_bytes_max(Algorithm::Zstd), "level {level}: {bytes}");
    }
}
