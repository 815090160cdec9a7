//! The public half of the key that signs manifests: P-256, as KMS and X.509 write it.

use crate::ids::{hex, sha256_hex, unhex};

/// What stands before the point in the `SubjectPublicKeyInfo` of every P-256 key: the algorithm `id-ecPublicKey`, the
/// curve `prime256v1`, and a bit string of 66 bytes, none of whose bits are unused.
const BEFORE: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A point that is not compressed: 0x04, x, y.
const POINT: usize = 65;

/// Not the public half of a P-256 key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not the public half of a P-256 key")]
pub struct Unsuitable;

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(Vec<u8>);

impl PublicKey {
    /// From its DER.
    ///
    /// # Errors
    /// Where that is another kind of key, or none.
    pub fn from_der(der: &[u8]) -> Result<Self, Unsuitable> {
        let point = der.strip_prefix(&BEFORE).ok_or(Unsuitable)?;
        if point.len() == POINT && point.first() == Some(&4) { Ok(Self(der.to_vec())) } else { Err(Unsuitable) }
    }

    /// From the hex of its DER.
    ///
    /// # Errors
    /// Where that is another kind of key, or none.
    pub fn from_hex(text: &str) -> Result<Self, Unsuitable> {
        Self::from_der(&unhex(text).ok_or(Unsuitable)?)
    }

    /// The DER, in hex.
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }

    /// The point.
    pub fn point(&self) -> &[u8] {
        self.0.get(BEFORE.len()..).unwrap_or_default()
    }

    /// SHA-256 of the DER: what people compare.
    pub fn fingerprint(&self) -> String {
        sha256_hex(&self.0)
    }

    /// As PEM, given the base64 of a text.
    pub fn to_pem(&self, base64: impl Fn(&[u8]) -> String) -> String {
        let text = base64(&self.0);
        let mut pem = "-----BEGIN PUBLIC KEY-----\n".to_owned();
        for (n, c) in text.chars().enumerate() {
            if n > 0 && n % 64 == 0 {
                pem.push('\n');
            }
            pem.push(c);
        }
        pem + "\n-----END PUBLIC KEY-----\n"
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn der() -> Vec<u8> {
        BEFORE.iter().copied().chain([4]).chain(0..64).collect()
    }

    #[test]
    fn a_key_is_p256_whole_and_nothing_else() {
        let key = PublicKey::from_der(&der()).unwrap();
        assert_eq!((key.point().len(), key.point().first()), (65, Some(&4)));
        assert_eq!(PublicKey::from_hex(&key.to_hex()).unwrap(), key);
        let mut other_curve = der();
        *other_curve.get_mut(22).unwrap() ^= 1;
        let compressed: Vec<u8> = BEFORE.iter().copied().chain([2]).chain(0..64).collect();
        for wrong in [&der()[..90], &[der(), vec![0]].concat(), &other_curve, &compressed, &[]] {
            assert_eq!(PublicKey::from_der(wrong), Err(Unsuitable));
        }
        for wrong in ["", "30", "zz", "3", "+f"] {
            assert_eq!(PublicKey::from_hex(wrong), Err(Unsuitable), "{wrong}");
        }
    }
}
