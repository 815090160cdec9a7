//! The certificate of the stub endpoint, and a bundle of roots that holds its issuer beside the system's own.
//!
//! The functions load the bundle as they load the roots of Lambda's image: with one root alone, their start would
//! look quicker than it is.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize,
    SanType,
};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// Where distributions keep their roots.
const SYSTEM: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

/// What the stub endpoint presents, and what its callers trust.
pub(crate) struct Tls {
    /// Accepts connections.
    pub(crate) acceptor: TlsAcceptor,
    /// How many roots the bundle holds.
    pub(crate) roots: usize,
}

/// Makes an issuer and a certificate for this machine, and writes the bundle.
pub(crate) fn prepare(bundle: &Path) -> Result<Tls> {
    let mut authority = CertificateParams::new(Vec::new())?;
    // By its name OpenSSL tells it from the certificate that it issues.
    authority.distinguished_name.push(DnType::CommonName, "Issuer of the stub");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority_key = key()?;
    let root = authority.self_signed(&authority_key)?;
    let mut leaf = CertificateParams::new(Vec::new())?;
    leaf.use_authority_key_identifier_extension = true;
    leaf.subject_alt_names = vec![SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST))];
    let leaf_key = key()?;
    let certificate = leaf.signed_by(&leaf_key, &Issuer::from_params(&authority, &authority_key))?;

    let mut roots = SYSTEM.iter().find_map(|path| fs::read_to_string(path).ok()).unwrap_or_default();
    roots.push_str(&root.pem());
    fs::write(bundle, &roots).with_context(|| format!("cannot write `{}`", bundle.display()))?;

    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
    // No protocol is offered: AWS's endpoints for these services speak HTTP/1.1.
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    let roots = roots.matches("-----BEGIN CERTIFICATE-----").count();
    Ok(Tls { acceptor: TlsAcceptor::from(Arc::new(config)), roots })
}

/// RSA of 2,048 bits, as the endpoints of AWS have: what is verified costs the functions what it costs there.
fn key() -> Result<KeyPair> {
    Ok(KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?)
}
