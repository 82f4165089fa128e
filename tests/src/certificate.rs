//! Certificates for tests, made with the `openssl` program: one CA, and what it signs.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A certificate authority in a folder of the test.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
}

/// A signed certificate with its key.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Certificate and key in one file, as haproxy wants them.
    pub bundle: PathBuf,
}

impl Authority {
    /// Makes a self-signed CA of this name in `folder`.
    ///
    /// # Panics
    /// When `openssl` is missing or fails.
    pub fn new(folder: &Path, name: &str) -> Self {
        let subject = format!("/CN={name}");
        let authority = Self { folder: folder.to_owned() };
        let (key, certificate) = (folder.join("ca.key"), authority.certificate());
        openssl(
            &["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"],
            &[("-subj", Path::new(&subject)), ("-keyout", &key), ("-out", &certificate)],
        );
        authority
    }

    /// The CA's own certificate, PEM: what a client trusts.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Makes a certificate for a server of this DNS name, or for a client called so.
    ///
    /// # Panics
    /// When `openssl` fails.
    pub fn sign(&self, name: &str) -> Certificate {
        let file = |ending: &str| self.folder.join(format!("{name}.{ending}"));
        let (key, request, certificate, bundle) = (file("key"), file("csr"), file("pem"), file("bundle"));
        let extensions = file("ext");
        let subject = format!("/CN={name}");
        std::fs::write(&extensions, format!("subjectAltName=DNS:{name}\nextendedKeyUsage=serverAuth,clientAuth\n"))
            .expect("the test's folder can be written");
        openssl(
            &["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"],
            &[("-subj", Path::new(&subject)), ("-keyout", &key), ("-out", &request)],
        );
        openssl(
            &["x509", "-req", "-days", "2", "-CAcreateserial"],
            &[
                ("-in", &request),
                ("-CA", &self.certificate()),
                ("-CAkey", &self.folder.join("ca.key")),
                ("-extfile", &extensions),
                ("-out", &certificate),
            ],
        );
        let both = [&certificate, &key].map(|path| std::fs::read(path).expect("openssl has written it")).concat();
        std::fs::write(&bundle, both).expect("the test's folder can be written");
        Certificate { certificate, key, bundle }
    }
}

fn openssl(args: &[&str], paths: &[(&str, &Path)]) {
    let mut command = Command::new("openssl");
    command.args(args);
    for (option, path) in paths {
        command.arg(option).arg(path);
    }
    let output = command.output().expect("openssl is installed (./run brings it)");
    assert!(output.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}
