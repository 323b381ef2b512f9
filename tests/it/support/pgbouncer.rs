//! `PgBouncer` in transaction mode, in front of a PostgreSQL server.

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use super::postgres::{PASSWORD, free_port, own, url};

/// A running pooler, which ends with this value.
pub struct PgBouncer {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl PgBouncer {
    /// Starts one with so many server connections for each database.
    pub fn start(server: u16, pool_size: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let users = folder.path().join("users.txt");
        fs::write(&users, format!("\"keywheel\" \"{PASSWORD}\"\n")).unwrap();
        let settings = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\n\
             pool_mode = transaction\ndefault_pool_size = {pool_size}\nmax_client_conn = 100\n",
            users.display()
        );
        fs::write(&settings, text).unwrap();
        own(folder.path());
        // It refuses to be root, too.
        let mut command = Command::new("setpriv");
        if own_user_is_root() {
            command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
        }
        command.arg("/usr/sbin/pgbouncer").arg("--quiet").arg(&settings);
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(process.try_wait().unwrap().is_none(), "PgBouncer did not start: tests/run installs it");
            std::thread::yield_now();
        }
        Self { process, port, _folder: folder }
    }

    pub fn url(&self, database: &str) -> String {
        url(self.port, database)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn own_user_is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").unwrap()) == 0
}
