//! Where a campaign takes place: a repository, the real binary, a real moto behind a proxy, a database, and a clock that
//! all but moto follow.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, Days, NaiveTime, TimeDelta, Utc};
use keywheel::engine::clock;
use serde_json::Value;

use crate::support::cut::Proxy;
use crate::support::hostile::{Hostile, Reply, Request};
use crate::support::kms::Kms;
use crate::support::moto::Moto;
use crate::support::postgres::{Server, own, url};
use crate::support::sandbox::{Run, Sandbox, shifted};

use super::sealed::Sealed;

pub const APPLY: &[&str] = &["apply", "--auto-approve"];

/// Longer than the lease of a process that died lasts.
pub const LEASE: i64 = 100;

/// Where the state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Database {
    Sqlite,
    Postgres,
}

/// The whole of it.
pub struct World {
    pub sandbox: Sandbox,
    pub proxy: Hostile,
    moto: Moto,
    server: Option<Server>,
    /// The proxy before the server.
    pub cuts: Option<Proxy>,
    /// The folder of the file that says how far the server's clock is ahead.
    clock: tempfile::TempDir,
    /// How far the clocks are ahead of the machine's, in seconds.
    ahead: i64,
    /// What was encrypted, signed or sealed.
    pub sealed: Vec<Sealed>,
    /// How often it died at each point.
    pub died: BTreeMap<String, usize>,
}

impl World {
    /// A repository without documents, at noon of tomorrow.
    pub fn new(database: Database, consistency_delay: &str) -> Self {
        Self::behind(database, consistency_delay, |endpoint, request| match request.operation.as_str() {
            // moto breaks down over what it does not know; an endpoint that keeps no record of uses says so.
            "GetKeyLastUsage" => Reply::error(400, "UnknownOperationException"),
            _ => Reply::Forward(endpoint.to_owned()),
        })
    }

    /// The same with a proxy before moto that behaves so, told moto's endpoint.
    pub fn behind(
        database: Database,
        consistency_delay: &str,
        behave: impl Fn(&str, &Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        // Its keys are older than anything that happens from then on. (Under libfaketime it would be ten times as slow.)
        let moto = Moto::start();
        let endpoint: Arc<str> = moto.endpoint().into();
        let proxy = Hostile::start(move |request| behave(&endpoint, request));
        let mut sandbox = Sandbox::new(&format!(
            "apply_from: refs/heads/main\nstate: ${{KEYWHEEL_STATE}}\nlimits: {{max_destructions: 99, max_percent: 100}}\nproviders:\n  aws_kms: {{region: us-east-1, \
             endpoint_url: \"{}\", consistency_delay: {consistency_delay}, operation_timeout: 3s, connect_timeout: 1s}}\n",
            proxy.endpoint()
        ));
        sandbox.set("AWS_ACCESS_KEY_ID", "AKIAKEYWHEELTESTS000");
        sandbox.set("AWS_SECRET_ACCESS_KEY", "nobodys");
        let server = (database == Database::Postgres).then(|| Server::start("fsync = off\n"));
        let cuts = server.as_ref().map(|server| Proxy::start(server.port));
        let state = match &cuts {
            Some(proxy) => url(proxy.port, "postgres") + "?sslmode=disable",
            None => "sqlite:.keywheel/state.db".to_owned(),
        };
        sandbox.set("KEYWHEEL_STATE", &state);
        let clock = tempfile::tempdir().unwrap();
        own(clock.path());
        let noon = NaiveTime::from_hms_opt(12, 0, 0).unwrap();
        let noon = (clock::now().date_naive() + Days::new(1)).and_time(noon).and_utc();
        let ahead = (noon - clock::now()).num_seconds();
        if let Some(server) = &server {
            write_clock(clock.path(), ahead);
            server.stop("fast");
            server.start_again(&follows(clock.path()));
        }
        Self { sandbox, proxy, moto, server, cuts, clock, ahead, sealed: Vec::new(), died: BTreeMap::new() }
    }

    /// AWS KMS as others see it, in a region.
    pub fn kms(&self, region: &'static str) -> Kms {
        Kms::new(self.moto.endpoint()).in_region(region)
    }

    /// What time it is.
    pub fn now(&self) -> DateTime<Utc> {
        clock::now() + TimeDelta::seconds(self.ahead)
    }

    /// Lets time go by.
    pub fn pass(&mut self, seconds: i64) {
        self.ahead += seconds;
        write_clock(self.clock.path(), self.ahead);
    }

    /// Goes to ten seconds after the next night's slot.
    pub fn next_night(&mut self) {
        let slot = NaiveTime::from_hms_opt(2, 0, 10).unwrap();
        let night = (self.now().date_naive() + Days::new(1)).and_time(slot).and_utc();
        self.pass((night - self.now()).num_seconds());
    }

    /// The binary, ready to run.
    pub fn run(&self, arguments: &[&str]) -> Run {
        let mut run = self.sandbox.keywheel(arguments);
        run.command.envs(shifted(self.ahead));
        run
    }

    /// Runs a command that is to die at a fault point, which is said by number or by name. Gives the point's name; none
    /// if the command came to its end before, and well.
    pub fn dies(&mut self, at: &str, command: &[&str]) -> Option<String> {
        let points = self.sandbox.path("../points");
        let _ = fs::remove_file(&points);
        let run = self.run(command).env("KEYWHEEL_DIE_AT", at);
        let done = run.env("KEYWHEEL_FAULT_POINTS", points.to_str().unwrap()).ends();
        if done.status.is_some() {
            assert_eq!(done.status, Some(0), "{command:?}\n{}\n{}", done.stdout, done.stderr);
            return None;
        }
        let passed = fs::read_to_string(points).unwrap();
        let mut passed = passed.lines().map(|line| line.split_once(' ').unwrap());
        let (_, point) = passed.find(|(number, name)| [*number, *name].contains(&at)).unwrap();
        *self.died.entry(point.to_owned()).or_default() += 1;
        // What the dead process had sent is done before anybody else comes, as it is at AWS after `consistency_delay`.
        self.proxy.settle();
        self.pass(LEASE);
        Some(point.to_owned())
    }

    /// Runs a command that comes to its end, and well.
    pub fn ends(&self, command: &[&str]) {
        self.run(command).exits(0);
    }

    /// How often it was killed.
    pub fn kills(&self) -> usize {
        self.died.values().sum()
    }

    /// Has it been killed as often as this run is to, if that was said?
    pub fn is_enough(&self) -> bool {
        let wanted = env::var("KEYWHEEL_KILLS").ok().and_then(|text| text.parse().ok());
        wanted.is_none_or(|wanted: usize| self.kills() >= wanted)
    }

    /// The rows of a query, as JSON objects.
    pub fn sql(&self, query: &str) -> Vec<Value> {
        let Some(server) = &self.server else { return self.sandbox.sql(query) };
        let rows = server.query("postgres", &format!("SELECT coalesce(json_agg(t), '[]') FROM ({query}) AS t"));
        serde_json::from_str(&rows.unwrap()).unwrap()
    }
}

/// The variables under which a program's clock follows a file.
fn follows(clock: &Path) -> Vec<(&'static str, String)> {
    let mut variables = shifted(0);
    variables.retain(|(name, _)| *name != "FAKETIME");
    variables.push(("FAKETIME_TIMESTAMP_FILE", clock.join("ahead").to_str().unwrap().to_owned()));
    variables.push(("FAKETIME_NO_CACHE", "1".to_owned()));
    variables
}

/// At once: the file is read all the time.
fn write_clock(clock: &Path, ahead: i64) {
    fs::write(clock.join("new"), format!("{ahead:+}")).unwrap();
    fs::rename(clock.join("new"), clock.join("ahead")).unwrap();
}
