use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Scratch;
use crate::postgres::server_user;

/// A certificate authority (`ca.crt`), one that nobody trusts (`other.crt`), and certificates that the first has
/// signed: for a server (`server.crt`, `server.key`) and for a client (`client.crt`, `client.key`).
#[derive(Debug)]
pub struct Certificates {
    scratch: Scratch,
}

impl Certificates {
    /// The server's certificate is for `name`, such as `DNS:localhost` or `IP:127.0.0.1`.
    pub fn new(name: &str) -> Certificates {
        let certificates = Certificates { scratch: Scratch::new("certificates") };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
        for authority in ["ca", "other"] {
            certificates.openssl(&format!(
                "req -x509 {key} -keyout {authority}.key -out {authority}.crt -subj /CN={authority}"
            ));
        }
        for (owner, alternative) in [("server", name), ("client", "DNS:client")] {
            let names = certificates.file("names");
            std::fs::write(&names, format!("subjectAltName={alternative}\n"))
                .unwrap_or_else(|e| panic!("{}: {e}", names.display()));
            certificates.openssl(&format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {owner}.key -out {owner}.csr -subj /CN={owner}"
            ));
            certificates.openssl(&format!(
                "x509 -req -in {owner}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -extfile names -days 2 -out {owner}.crt"
            ));
        }
        if let Some(user) = server_user() {
            // PostgreSQL wants its key to be its own.
            let key = certificates.file("server.key");
            let status = Command::new("chown").arg(&user).arg(&key).status();
            assert!(status.is_ok_and(|status| status.success()), "chown {user} {}", key.display());
        }
        certificates
    }

    /// The path of one of the files; also of one that does not exist.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// As [`Certificates::file`], as text.
    pub fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    fn dir(&self) -> &Path {
        self.scratch.path()
    }

    fn openssl(&self, words: &str) {
        let output =
            Command::new("openssl").args(words.split(' ')).current_dir(self.dir()).output();
        let output = output.unwrap_or_else(|e| panic!("openssl: {e}: apt install openssl"));
        assert!(
            output.status.success(),
            "openssl {words}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
