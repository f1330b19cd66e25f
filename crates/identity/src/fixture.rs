//! DER written by hand, for certificates that no certificate generator would make.
//!
//! The certificates here carry no valid signature: this crate never looks at it.

/// One element.
pub(crate) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut der = vec![tag];
    match content.len() {
        short @ 0..0x80 => der.push(short as u8),
        long => {
            let octets = long.to_be_bytes();
            let significant = &octets[octets.iter().position(|&octet| octet != 0).unwrap()..];
            der.push(0x80 | significant.len() as u8);
            der.extend(significant);
        }
    }
    der.extend(content);
    der
}

pub(crate) fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

pub(crate) fn set(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(0x31, &parts.concat())
}

pub(crate) fn utf8(text: &str) -> Vec<u8> {
    tlv(0x0c, text.as_bytes())
}

pub(crate) fn oid(dotted: &str) -> Vec<u8> {
    tlv(0x06, dotted.parse::<crate::ObjectId>().unwrap().der())
}

/// A relative name of one attribute.
pub(crate) fn rdn(kind: &str, value: Vec<u8>) -> Vec<u8> {
    set(&[sequence(&[oid(kind), value])])
}

/// A version 3 certificate in parts, each of which a test may replace.
pub(crate) struct Certificate {
    pub(crate) serial: Vec<u8>,
    pub(crate) issuer: Vec<u8>,
    pub(crate) subject: Vec<u8>,
    pub(crate) not_after: &'static str,
    pub(crate) extensions: Vec<Vec<u8>>,
}

impl Certificate {
    pub(crate) fn new(common_name: &str) -> Self {
        Self {
            serial: vec![1],
            issuer: sequence(&[rdn("2.5.4.3", utf8("Test CA"))]),
            subject: sequence(&[rdn("2.5.4.3", utf8(common_name))]),
            not_after: "300101000000Z",
            extensions: Vec::new(),
        }
    }

    pub(crate) fn extension(mut self, id: &str, critical: bool, value: &[u8]) -> Self {
        let mut parts = vec![oid(id)];
        if critical {
            parts.push(tlv(0x01, &[0xff]));
        }
        parts.push(tlv(0x04, value));
        self.extensions.push(sequence(&parts));
        self
    }

    pub(crate) fn subject_alt_names(self, names: &[Vec<u8>]) -> Self {
        self.extension("2.5.29.17", false, &sequence(names))
    }

    pub(crate) fn uris(self, uris: &[&str]) -> Self {
        let names: Vec<_> = uris.iter().map(|uri| tlv(0x86, uri.as_bytes())).collect();
        self.subject_alt_names(&names)
    }

    pub(crate) fn der(&self) -> Vec<u8> {
        let algorithm = sequence(&[oid("1.2.840.10045.4.3.2")]);
        let key = sequence(&[
            sequence(&[oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7")]),
            tlv(0x03, &[0, 4]),
        ]);
        let validity = sequence(&[tlv(0x17, b"250101000000Z"), tlv(0x17, self.not_after.as_bytes())]);
        let mut parts = vec![
            tlv(0xa0, &tlv(0x02, &[2])),
            tlv(0x02, &self.serial),
            algorithm.clone(),
            self.issuer.clone(),
            validity,
            self.subject.clone(),
            key,
        ];
        if !self.extensions.is_empty() {
            parts.push(tlv(0xa3, &sequence(&self.extensions)));
        }
        sequence(&[sequence(&parts), algorithm, tlv(0x03, &[0, 0])])
    }
}
