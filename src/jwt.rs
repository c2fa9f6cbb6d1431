//! The cryptography of `jsonwebtoken`, which has one provider per process: HMAC-SHA256 for the gateway's own tokens,
//! and the public keys of a sign-in provider, which only verify.
//!
//! A key verifies with algorithms of its own family alone: a public key is never taken for the secret of an HMAC.

use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind};
use ring::signature as algorithms;
use ring::signature::{RsaPublicKeyComponents, UnparsedPublicKey};
use sha2::Sha256;
use signature::{Signer, Verifier};

/// The algorithm of the gateway's own tokens.
pub const OWN_ALGORITHM: Algorithm = Algorithm::HS256;

/// The provider of the process.
static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| Ok(Box::new(Hs256::new(*algorithm, key.as_bytes())?)),
    verifier_factory: |algorithm, key| {
        if key.family() != algorithm.family() {
            return Err(ErrorKind::InvalidAlgorithm.into());
        }
        match key.family() {
            AlgorithmFamily::Hmac => Ok(Box::new(Hs256::new(*algorithm, key.try_get_as_bytes()?)?)),
            AlgorithmFamily::Rsa | AlgorithmFamily::Ec | AlgorithmFamily::Ed => {
                Ok(Box::new(PublicKey { algorithm: *algorithm, key: key.clone() }))
            }
        }
    },
    key_utils: KeyUtils::new_unimplemented(),
};

/// Installs the provider, before the first token is signed or verified. Further calls change nothing.
pub fn install() {
    let _ = PROVIDER.install_default();
}

struct Hs256(Hmac<Sha256>);

impl Hs256 {
    fn new(algorithm: Algorithm, key: &[u8]) -> Result<Self, Error> {
        let mac = Hmac::<Sha256>::new_from_slice(key);
        match (algorithm, mac) {
            (OWN_ALGORITHM, Ok(mac)) => Ok(Self(mac)),
            _ => Err(ErrorKind::InvalidAlgorithm.into()),
        }
    }
}

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        let mut mac = self.0.clone();
        mac.update(message);
        Ok(mac.finalize().into_bytes().to_vec())
    }
}

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let mut mac = self.0.clone();
        mac.update(message);
        mac.verify_slice(signature).map_err(signature::Error::from_source)
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        OWN_ALGORITHM
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        OWN_ALGORITHM
    }
}

/// The public key of a provider, for one algorithm of its family.
struct PublicKey {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl Verifier<Vec<u8>> for PublicKey {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let verified = match (self.key.kind(), rsa(self.algorithm), curve(self.algorithm)) {
            (DecodingKeyKind::RsaModulusExponent { n, e }, Some(parameters), _) => {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            (DecodingKeyKind::SecretOrDer(point), _, Some(curve)) => {
                UnparsedPublicKey::new(curve, point).verify(message, signature)
            }
            _ => return Err(signature::Error::new()),
        };
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for PublicKey {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

/// Keys of less than 2048 bits are refused.
fn rsa(algorithm: Algorithm) -> Option<&'static algorithms::RsaParameters> {
    match algorithm {
        Algorithm::RS256 => Some(&algorithms::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Some(&algorithms::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Some(&algorithms::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Some(&algorithms::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Some(&algorithms::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Some(&algorithms::RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}

fn curve(algorithm: Algorithm) -> Option<&'static dyn algorithms::VerificationAlgorithm> {
    match algorithm {
        Algorithm::ES256 => Some(&algorithms::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => Some(&algorithms::ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => Some(&algorithms::ED25519),
        _ => None,
    }
}
