//! A proxy in front of a PostgreSQL server, which understands just enough of the wire to cut a connection at a COMMIT.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// Where the next commits are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Before the server hears of it: it is not carried out.
    Before,
    /// After the server has carried it out: the answer is lost.
    After,
}

/// A proxy on a port of its own, for as long as the process lives.
#[derive(Clone)]
pub struct Proxy {
    pub port: u16,
    plan: Arc<Plan>,
}

#[derive(Default)]
struct Plan {
    commits: Mutex<VecDeque<Option<Cut>>>,
    /// How many messages pass before each cut that concerns no commit in particular.
    gaps: Mutex<VecDeque<u32>>,
    cut: AtomicU32,
}

impl Proxy {
    pub fn start(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let proxy = Self { port: listener.local_addr().unwrap().port(), plan: Arc::default() };
        let plan = Arc::clone(&proxy.plan);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let plan = Arc::clone(&plan);
                // A server that is down refuses its clients: so does the proxy.
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { continue };
                // Small messages, each of which waits for an answer: the kernel is not to gather them.
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                std::thread::spawn(move || drop(between(client, server, &plan)));
            }
        });
        proxy
    }

    /// Says what happens to the next commits, one after the other.
    pub fn cut(&self, commits: impl IntoIterator<Item = Option<Cut>>) {
        self.plan.commits.lock().unwrap().extend(commits);
    }

    /// Says after how many messages of clients a connection is cut, and after how many more the next one: by turns before
    /// the server hears of a message, and before the client hears of its answer.
    pub fn cut_after(&self, gaps: impl IntoIterator<Item = u32>) {
        self.plan.gaps.lock().unwrap().extend(gaps);
    }

    /// How many messages were cut.
    pub fn count(&self) -> u32 {
        self.plan.cut.load(Ordering::SeqCst)
    }
}

impl Plan {
    /// What becomes of a message.
    fn next(&self, message: &[u8]) -> Option<Cut> {
        let is_commit = message.first() == Some(&b'Q') && message.get(5..) == Some(b"COMMIT\0");
        let of_commit = if is_commit { self.commits.lock().unwrap().pop_front().flatten() } else { None };
        let cut = of_commit.or_else(|| self.by_number(message));
        if cut.is_some() {
            self.cut.fetch_add(1, Ordering::SeqCst);
        }
        cut
    }

    fn by_number(&self, message: &[u8]) -> Option<Cut> {
        let mut gaps = self.gaps.lock().unwrap();
        let gap = gaps.front_mut()?;
        if let Some(less) = gap.checked_sub(1) {
            *gap = less;
            return None;
        }
        gaps.pop_front();
        // Only a query and the end of a batch of messages (Sync) are answered at once.
        let is_answered = matches!(message.first(), Some(b'Q' | b'S'));
        Some(if is_answered && gaps.len().is_multiple_of(2) { Cut::After } else { Cut::Before })
    }
}

fn between(mut client: TcpStream, mut server: TcpStream, plan: &Plan) -> io::Result<()> {
    let swallow = Arc::new(AtomicBool::new(false));
    let (mut answers, mut to_client) = (server.try_clone()?, client.try_clone()?);
    let swallows = Arc::clone(&swallow);
    std::thread::spawn(move || {
        let mut buffer = [0; 16 << 10];
        while let Ok(length @ 1..) = answers.read(&mut buffer) {
            if swallows.load(Ordering::SeqCst) || to_client.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = to_client.shutdown(Shutdown::Both);
        let _ = answers.shutdown(Shutdown::Both);
    });
    let result = forward(&mut client, &mut server, plan, &swallow);
    // A swallowed answer is waited for by the other thread, which then ends both.
    if !swallow.load(Ordering::SeqCst) {
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    }
    result
}

/// Forwards the client's messages: the first has no type, the others have one byte of it before their length
/// (postgresql.org/docs/15/protocol-message-formats.html).
fn forward(client: &mut TcpStream, server: &mut TcpStream, plan: &Plan, swallow: &AtomicBool) -> io::Result<()> {
    let mut message = vec![0; 4];
    client.read_exact(&mut message)?;
    body(client, &mut message, 0)?;
    server.write_all(&message)?;
    loop {
        let mut message = vec![0; 5];
        client.read_exact(&mut message)?;
        body(client, &mut message, 1)?;
        match plan.next(&message) {
            Some(Cut::Before) => return Ok(()),
            Some(Cut::After) => swallow.store(true, Ordering::SeqCst),
            None => {}
        }
        server.write_all(&message)?;
        if swallow.load(Ordering::SeqCst) {
            return Ok(());
        }
    }
}

/// Reads what follows a message's length, which counts itself.
fn body(client: &mut TcpStream, message: &mut Vec<u8>, type_length: usize) -> io::Result<()> {
    let length = u32::from_be_bytes(message[type_length..].try_into().unwrap());
    let mut rest = vec![0; length as usize - 4];
    client.read_exact(&mut rest)?;
    message.append(&mut rest);
    Ok(())
}
