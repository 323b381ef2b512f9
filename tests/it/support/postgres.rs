//! PostgreSQL servers: one that all tests share, and ones of a test's own.
//!
//! The shared server is started by the first test that wants it, whichever process that is in, and ends by itself some
//! seconds after the last process that used it. Each test has a database of its own there.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

/// The password of the only user, `keywheel`. No output may ever have it.
pub const PASSWORD: &str = "correct-horse-battery-s3cret";

/// A database that goes when it is dropped.
pub struct Database {
    pub name: String,
    pub url: String,
    pub port: u16,
}

/// An empty database on the shared server.
pub fn database() -> Database {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let port = shared_server();
    let name = format!("test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    query(port, "postgres", &format!("CREATE DATABASE {name}")).unwrap();
    Database { url: url(port, &name), name, port }
}

impl Database {
    /// What `psql` answers, as a person would ask it.
    pub fn query(&self, sql: &str) -> Result<String, String> {
        query(self.port, &self.name, sql)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = query(self.port, "postgres", &format!("DROP DATABASE {} WITH (FORCE)", self.name));
    }
}

/// A server that is a test's own, and ends with it.
#[derive(Clone)]
pub struct Server {
    pub port: u16,
    process: Arc<Process>,
}

struct Process {
    folder: PathBuf,
    _lives: tempfile::TempDir,
}

impl Server {
    /// Starts an empty server with these lines added to its configuration.
    pub fn start(configuration: &str) -> Self {
        let lives = tempfile::tempdir().unwrap();
        let folder = lives.path().join("server");
        let port = free_port();
        make(&folder, port, configuration);
        start(&folder, &[]);
        Self { port, process: Arc::new(Process { folder, _lives: lives }) }
    }

    /// Starts it after it was stopped, with further variables.
    pub fn start_again(&self, variables: &[(&str, String)]) {
        start(&self.process.folder, variables);
    }

    /// Stops it; `immediate` is like a crash, `fast` cuts connections in good order.
    pub fn stop(&self, mode: &str) {
        run(as_server(&self.process.folder, program("pg_ctl")).args(["stop", "--wait", "--mode", mode]));
    }

    /// A standby that follows it: it can be read, and not be written.
    pub fn standby(&self) -> Self {
        let lives = tempfile::tempdir().unwrap();
        let folder = lives.path().join("server");
        let port = free_port();
        fs::create_dir(&folder).unwrap();
        own(&folder);
        let address = format!("host=127.0.0.1 port={} user=keywheel password={PASSWORD}", self.port);
        run(as_server(&folder, program("pg_basebackup"))
            .args(["--write-recovery-conf", "--checkpoint=fast", "--dbname", &address, "--pgdata"])
            .arg(folder.join("data")));
        let mut settings = File::options().append(true).open(folder.join("data/postgresql.auto.conf")).unwrap();
        writeln!(settings, "port = {port}\nunix_socket_directories = '{}'", folder.display()).unwrap();
        start(&folder, &[]);
        Self { port, process: Arc::new(Process { folder, _lives: lives }) }
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.process.folder.join("log")).unwrap()
    }

    pub fn url(&self, database: &str) -> String {
        url(self.port, database)
    }

    pub fn query(&self, database: &str, sql: &str) -> Result<String, String> {
        query(self.port, database, sql)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = as_server(&self.folder, program("pg_ctl")).args(["stop", "--mode", "immediate"]).output();
    }
}

pub fn url(port: u16, database: &str) -> String {
    format!("postgres://keywheel:{PASSWORD}@127.0.0.1:{port}/{database}")
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

fn query(port: u16, database: &str, sql: &str) -> Result<String, String> {
    let output = Command::new(program("psql"))
        .args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--command", sql])
        .arg(format!("host=127.0.0.1 port={port} user=keywheel dbname={database}"))
        .env("PGPASSWORD", PASSWORD)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// The port of the shared server.
fn shared_server() -> u16 {
    static PORT: OnceLock<u16> = OnceLock::new();
    *PORT.get_or_init(|| {
        let base = std::env::temp_dir().join(format!("keywheel-postgres-{}", user_id()));
        let file = |extension: &str| base.with_extension(extension);
        // Held until this process ends: while anybody holds it, the server stays.
        let users = File::create(file("users")).unwrap();
        users.lock_shared().unwrap();
        std::mem::forget(users);
        let starting = File::create(file("starting")).unwrap();
        starting.lock().unwrap();
        let port = fs::read_to_string(file("port")).ok().and_then(|text| text.parse().ok());
        if let Some(port) = port.filter(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok()) {
            return port;
        }
        let _ = fs::remove_dir_all(&base);
        let port = free_port();
        // Nothing here outlives the machine, so nothing waits for its disk.
        make(&base, port, "fsync = off\nfull_page_writes = off\n");
        start(&base, &[]);
        stop_when_unused(&base, &file("users"));
        fs::write(file("port"), port.to_string()).unwrap();
        port
    })
}

/// Leaves somebody behind who stops the server once no process holds `users`.
#[expect(clippy::zombie_processes, reason = "it outlives the test that starts it: other tests use the server too")]
fn stop_when_unused(folder: &Path, users: &Path) {
    let script = r#"while sleep 10; do
            flock --nonblock "$2" sh -c 'kill -QUIT "$(head -n 1 "$1/data/postmaster.pid")"; rm -rf "$1"' sh "$1" && exit
        done"#;
    let mut watcher = Command::new("sh");
    watcher.args(["-c", script, "sh"]).args([folder, users]);
    watcher.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    std::os::unix::process::CommandExt::process_group(&mut watcher, 0);
    watcher.spawn().unwrap();
}

fn make(folder: &Path, port: u16, configuration: &str) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("password"), PASSWORD).unwrap();
    own(folder);
    let data = folder.join("data");
    run(as_server(folder, program("initdb"))
        .args(["--no-sync", "--username=keywheel", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"])
        .arg(format!("--pwfile={}", folder.join("password").display())));
    let settings = format!(
        "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nmax_connections = 200\n\
         shared_buffers = 64MB\n{configuration}",
        folder.display()
    );
    fs::write(data.join("postgresql.auto.conf"), settings).unwrap();
    own(folder);
}

fn start(folder: &Path, variables: &[(&str, String)]) {
    let log = folder.join("log");
    // Not of this process's child: what it would make as root, the server could not use.
    let variables = variables.iter().map(|(name, value)| format!("{name}={value}"));
    let mut command = as_server(folder, "env");
    command.args(variables).arg(program("pg_ctl")).args(["start", "--wait", "--log"]).arg(&log);
    run(&mut command);
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// A program, run as somebody as whom PostgreSQL runs: it refuses root.
fn as_server(folder: &Path, program: impl AsRef<OsStr>) -> Command {
    let mut command = if user_id() == 0 {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.env("PGDATA", folder.join("data")).current_dir("/");
    command
}

/// Gives a folder to whom the server runs as.
pub fn own(folder: &Path) {
    if user_id() == 0 {
        // The folder above may be for root alone.
        if let Some(parent) = folder.parent().filter(|parent| *parent != std::env::temp_dir()) {
            run(Command::new("chmod").arg("go+x").arg(parent));
        }
        run(Command::new("chown").args(["--recursive", "nobody:nogroup"]).arg(folder));
    }
}

fn user_id() -> u32 {
    std::os::unix::fs::MetadataExt::uid(&fs::metadata("/proc/self").unwrap())
}

/// Debian keeps the programs of a server apart from those of its clients.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut programs: Vec<_> = versions.map(|version| version.path().join("bin").join(name)).collect();
    programs.retain(|program| program.exists());
    programs.sort();
    programs.pop().unwrap_or_else(|| panic!("{name} of a PostgreSQL server is missing: tests/run installs it"))
}
