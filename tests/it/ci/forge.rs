//! The comments of GitHub and GitLab behind their APIs, as far as a job uses them.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::hostile::{Hostile, Reply, Request, header};

/// The token that may comment.
pub const TOKEN: &str = "a-token";

/// Who has the token.
pub const BOT: &str = "github-actions[bot]";
const BOT_ID: u64 = 1000;

/// A comment.
#[derive(Debug, Clone)]
pub struct Comment {
    pub id: u64,
    pub author: String,
    pub body: String,
}

/// The server.
pub struct Forge {
    server: Hostile,
    comments: Arc<Mutex<Vec<Comment>>>,
}

impl Forge {
    /// With so many comments of other people, each of which begins as a plan's does.
    pub fn start(others: u64) -> Self {
        let comment =
            |id| Comment { id, author: "mallory".to_owned(), body: "<!-- keywheel:plan -->\nLGTM".to_owned() };
        let comments = Arc::new(Mutex::new((1..=others).map(comment).collect::<Vec<_>>()));
        let of_server = comments.clone();
        let server = Hostile::start(move |request| answer(request, &mut of_server.lock().unwrap()));
        Self { server, comments }
    }

    pub fn endpoint(&self) -> &str {
        self.server.endpoint()
    }

    /// The comments of the one with the token.
    pub fn ours(&self) -> Vec<Comment> {
        self.comments.lock().unwrap().iter().filter(|comment| comment.author == BOT).cloned().collect()
    }

    /// Are those of the others as they were?
    pub fn others_are_untouched(&self) -> bool {
        self.comments.lock().unwrap().iter().filter(|it| it.author != BOT).all(|it| it.body.ends_with("LGTM"))
    }

    /// How many requests there were.
    pub fn requests(&self) -> usize {
        self.server.requests().len()
    }
}

fn answer(request: &Request, comments: &mut Vec<Comment>) -> Reply {
    let json = |status, value: Value| Reply::Answer(status, "application/json", value.to_string());
    let token = header(&request.head, "authorization").and_then(|it| it.strip_prefix("Bearer "));
    if token.or_else(|| header(&request.head, "private-token")) != Some(TOKEN) {
        return json(401, json!({"message": "Bad credentials"}));
    }
    let mut line = request.head.split(' ');
    let (method, target) = (line.next().unwrap(), line.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let number = |name: &str| {
        let field = query.split('&').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        field.map(|text| text.parse::<usize>().unwrap())
    };
    let body = || -> String {
        let content: Value = serde_json::from_slice(request.body()).unwrap();
        content["body"].as_str().unwrap().to_owned()
    };
    let shown = |it: &Comment| {
        let author_id = if it.author == BOT { BOT_ID } else { 1 };
        json!({
            "id": it.id, "body": it.body,
            "user": {"login": it.author, "type": "User"}, "author": {"id": author_id, "username": it.author},
        })
    };
    let one = path.rsplit_once('/').and_then(|(_, id)| id.parse::<u64>().ok());
    match (method, path) {
        ("GET", "/api/v4/user") => json(200, json!({"id": BOT_ID, "username": BOT})),
        ("GET", "/repos/acme/policies/issues/7/comments" | "/api/v4/projects/42/merge_requests/7/notes") => {
            let (size, page) = (number("per_page").unwrap_or(20).min(100), number("page").unwrap_or(1));
            json(200, comments.iter().skip((page - 1) * size).take(size).map(shown).collect())
        }
        ("POST", "/repos/acme/policies/issues/7/comments" | "/api/v4/projects/42/merge_requests/7/notes") => {
            let id = comments.len() as u64 + 1;
            comments.push(Comment { id, author: BOT.to_owned(), body: body() });
            json(201, shown(comments.last().unwrap()))
        }
        ("PATCH", _) if path.starts_with("/repos/acme/policies/issues/comments/") => change(comments, one, body()),
        ("PUT", _) if path.starts_with("/api/v4/projects/42/merge_requests/7/notes/") => change(comments, one, body()),
        _ => json(404, json!({"message": "Not Found"})),
    }
}

fn change(comments: &mut [Comment], id: Option<u64>, body: String) -> Reply {
    match comments.iter_mut().find(|comment| Some(comment.id) == id) {
        Some(comment) => comment.body = body,
        None => return Reply::Answer(404, "application/json", "{}".to_owned()),
    }
    Reply::Answer(200, "application/json", "{}".to_owned())
}
