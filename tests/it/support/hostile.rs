//! An endpoint that misbehaves: a small HTTP server that a test tells how to answer.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A request, as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// The operation that the client asked for, as `CreateKey`; empty if the request names none.
    pub operation: String,
    /// How often this operation had been asked for before.
    pub earlier: usize,
    /// When it had come.
    pub at: Instant,
    /// The request line and the headers.
    pub head: String,
    body: Vec<u8>,
}

impl Request {
    /// Its content.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Does its content have this text?
    pub fn body_has(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.body).contains(text)
    }
}

/// What becomes of a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A whole answer: status, type of content, content.
    Answer(u16, &'static str, String),
    /// An answer without content, with a header.
    With(u16, &'static str, String),
    /// An answer that ends before its announced length.
    Truncated,
    /// No answer, ever.
    Never,
    /// The connection ends without an answer.
    Hangup,
    /// What the server at this endpoint answers.
    Forward(String),
    /// The server at this endpoint acts, and its answer is lost.
    ActAndHangup(String),
    /// The same, and its answer ends in the middle.
    ActAndTruncate(String),
    /// What the server at this endpoint answers, piece by piece over so long a time.
    Drip(String, Duration),
    /// The request is held back for a while; then the server at this endpoint acts and answers, whoever still listens.
    Late(String, Duration),
}

impl Reply {
    /// An error as AWS KMS words it.
    pub fn error(status: u16, code: &str) -> Self {
        let body = format!(r#"{{"__type":"{code}","message":"as the test wants it"}}"#);
        Self::Answer(status, "application/x-amz-json-1.1", body)
    }

    /// A page of a proxy or portal.
    pub fn page(status: u16) -> Self {
        Self::Answer(status, "text/html", "<html><body>Please sign in to the network</body></html>".to_owned())
    }
}

/// The running server. Its threads end with the test's process.
pub struct Hostile {
    endpoint: String,
    requests: Arc<Mutex<Vec<Request>>>,
    /// How many connections are open.
    open: Arc<AtomicUsize>,
}

impl Hostile {
    /// Starts a server that answers each request as `behave` says.
    pub fn start(behave: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (log, behave) = (requests.clone(), Arc::new(behave));
        let open = Arc::new(AtomicUsize::new(0));
        let opened = open.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (log, behave, open) = (log.clone(), behave.clone(), Open::one_of(&opened));
                thread::spawn(move || {
                    serve(stream, &log, &*behave);
                    drop(open);
                });
            }
        });
        Self { endpoint, requests, open }
    }

    /// Waits until everything that was sent to it before has had its effect, also what clients sent that are dead by now.
    pub fn settle(&self) {
        // Connections are taken one after the other: those from before are counted once this one is answered.
        let mut last = TcpStream::connect(self.endpoint.trim_start_matches("http://")).unwrap();
        last.shutdown(Shutdown::Write).unwrap();
        let _ = last.read(&mut [0; 1]);
        while self.open.load(Ordering::SeqCst) > 0 {
            thread::yield_now();
        }
    }

    /// Its address.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Starts a server before `endpoint` that breaks an operation by this reply, for as long as the flag is set.
    pub fn that_breaks(operation: &'static str, reply: Reply, endpoint: &str) -> (Self, Arc<AtomicBool>) {
        let (endpoint, broken) = (endpoint.to_owned(), Arc::new(AtomicBool::new(false)));
        let is_broken = broken.clone();
        let server = Self::start(move |request| {
            let breaks = request.operation == operation && is_broken.load(Ordering::SeqCst);
            if breaks { reply.clone() } else { Reply::Forward(endpoint.clone()) }
        });
        (server, broken)
    }

    /// How often an operation was asked for.
    pub fn count(&self, operation: &str) -> usize {
        self.requests.lock().unwrap().iter().filter(|request| request.operation == operation).count()
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// Counts a connection for as long as it is served.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn one_of(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An address where nothing listens.
pub fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn serve(mut stream: TcpStream, log: &Mutex<Vec<Request>>, behave: &(dyn Fn(&Request) -> Reply + Send + Sync)) {
    let Some(mut request) = read(&mut stream) else { return };
    {
        let mut log = log.lock().unwrap();
        request.earlier = log.iter().filter(|earlier| earlier.operation == request.operation).count();
        log.push(request.clone());
    }
    let answer = match behave(&request) {
        Reply::Answer(status, content_type, body) => whole(status, content_type, &body),
        Reply::With(status, name, value) => {
            format!("HTTP/1.1 {status} Test\r\n{name}: {value}\r\nContent-Length: 0\r\n\r\n").into_bytes()
        }
        Reply::Truncated => b"HTTP/1.1 200 OK\r\nContent-Length: 4000\r\n\r\n{\"KeyMetadata\":{\"Arn\":\"arn:".to_vec(),
        Reply::Never => {
            // Until the client has had enough.
            let _ = stream.read(&mut [0; 1]);
            return;
        }
        Reply::Hangup => Vec::new(),
        Reply::Forward(endpoint) => forward(&endpoint, &request),
        Reply::ActAndHangup(endpoint) => {
            forward(&endpoint, &request);
            Vec::new()
        }
        Reply::ActAndTruncate(endpoint) => {
            let mut answer = forward(&endpoint, &request);
            let body = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
            answer.truncate(body + (answer.len() - body) / 2);
            answer
        }
        Reply::Drip(endpoint, time) => {
            let answer = forward(&endpoint, &request);
            let pieces = answer.chunks(answer.len() / 8 + 1);
            pieces.for_each(|piece| {
                until_it_leaves(&mut stream, time / 8);
                let _ = stream.write_all(piece);
            });
            Vec::new()
        }
        Reply::Late(endpoint, time) => {
            until_it_leaves(&mut stream, time);
            forward(&endpoint, &request)
        }
    };
    let _ = stream.write_all(&answer);
    let _ = stream.shutdown(Shutdown::Both);
}

/// Waits for the client to give up, for this time at the most. (It sends nothing more: it waits for its answer.)
fn until_it_leaves(stream: &mut TcpStream, time: Duration) {
    let _ = stream.set_read_timeout(Some(time.max(Duration::from_millis(1))));
    let _ = stream.read(&mut [0; 1]);
    let _ = stream.set_read_timeout(None);
}

fn whole(status: u16, content_type: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} Test\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n");
    format!("{head}Connection: close\r\n\r\n{body}").into_bytes()
}

/// Reads one request; none if the client gave up, or does not speak HTTP.
fn read(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
        // A TLS client's first byte: it waits for an answer that does not come.
        if bytes[0] == 0x16 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let length: usize = header(&head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    while bytes.len() < end + length {
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
    }
    let operation = header(&head, "x-amz-target").and_then(|target| target.rsplit('.').next()).unwrap_or_default();
    Some(Request {
        operation: operation.to_owned(),
        earlier: 0,
        at: Instant::now(),
        body: bytes[end..].to_vec(),
        head: head.clone(),
    })
}

/// The value of a header.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// The answer of the server at an endpoint.
pub fn forward(endpoint: &str, request: &Request) -> Vec<u8> {
    let mut upstream = TcpStream::connect(endpoint.trim_start_matches("http://")).unwrap();
    let head = request.head.trim_end();
    upstream.write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    upstream.write_all(&request.body).unwrap();
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer).unwrap();
    answer
}
