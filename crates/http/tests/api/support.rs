//! A server on a port of its own, and a client that sees every byte.

use std::{net::SocketAddr, rc::Rc};

use annulus_http::{Limits, serve};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};

use crate::fake::Fake;

/// A running server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) node: Rc<Fake>,
    shutdown: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

/// Runs a test against a server with the usual limits.
pub(crate) fn test(body: impl AsyncFnOnce(&mut Server)) {
    test_with(Limits::default(), body);
}

/// Runs a test against a server.
pub(crate) fn test_with(limits: Limits, body: impl AsyncFnOnce(&mut Server)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut server = Server::start(limits).await;
        body(&mut server).await;
        server.stop().await;
    });
}

impl Server {
    async fn start(limits: Limits) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let node = Rc::new(Fake::default());
        let (shutdown, stop) = oneshot::channel::<()>();
        let stop = async {
            let _ = stop.await;
        };
        let serving = tokio::task::spawn_local(serve(listener, Rc::clone(&node), limits, stop));
        Server {
            address,
            node,
            shutdown: Some(shutdown),
            serving,
        }
    }

    /// Tells the server to drain.
    pub(crate) fn shut_down(&mut self) {
        drop(self.shutdown.take());
    }

    /// Waits until the server has drained.
    pub(crate) async fn stop(&mut self) {
        self.shut_down();
        if !self.serving.is_finished() {
            (&mut self.serving).await.expect("the server does not panic");
        }
    }

    pub(crate) async fn connect(&self) -> Client {
        Client {
            stream: TcpStream::connect(self.address).await.expect("it listens"),
            unread: Vec::new(),
        }
    }

    /// One request on a connection of its own. `head` is the request line and further headers, a line each.
    pub(crate) async fn ask(&self, head: &str, body: &[u8]) -> Response {
        let mut client = self.connect().await;
        client.request(head, body).await;
        client.response(head).await
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.ask(&format!("GET {path}"), b"").await
    }

    pub(crate) async fn put(&self, path: &str, body: &[u8]) -> Response {
        self.ask(&format!("PUT {path}"), body).await
    }
}

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("the server reads");
    }

    /// Closes the direction towards the server.
    pub(crate) async fn end(&mut self) {
        self.stream.shutdown().await.expect("it is open");
    }

    /// Sends a request with `Host`, and `Content-Length` where there is a body.
    pub(crate) async fn request(&mut self, head: &str, body: &[u8]) {
        let mut lines = head.lines();
        let first = lines.next().expect("a request line");
        let mut request = format!("{first} HTTP/1.1\r\nhost: test\r\n");
        for line in lines {
            request.push_str(line);
            request.push_str("\r\n");
        }
        if !body.is_empty() {
            request.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        let mut bytes = request.into_bytes();
        bytes.extend_from_slice(body);
        self.send(bytes).await;
    }

    /// The response to a request whose first line begins with this.
    pub(crate) async fn response(&mut self, request: &str) -> Response {
        let end = loop {
            if let Some(end) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(
                self.read().await > 0,
                "closed before a response to {request:?}: {:?}",
                self.unread
            );
        };
        let head = String::from_utf8(self.unread.drain(..end).collect()).expect("a head of text");
        let mut response = Response::parse(&head);
        let bodiless = request.starts_with("HEAD") || matches!(response.status, 100 | 204 | 304);
        if !bodiless {
            response.body = self.body(&response).await;
        }
        response
    }

    async fn body(&mut self, response: &Response) -> Vec<u8> {
        if response.header("transfer-encoding") == Some("chunked") {
            let mut body = Vec::new();
            loop {
                let line = self.line().await;
                let size = usize::from_str_radix(line.trim(), 16).expect("a chunk's size");
                body.extend(self.take(size).await);
                self.take(2).await;
                if size == 0 {
                    return body;
                }
            }
        }
        let length = response
            .header("content-length")
            .expect("a length")
            .parse()
            .expect("a number");
        self.take(length).await
    }

    /// One line, with its end.
    pub(crate) async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
                return String::from_utf8(self.unread.drain(..=end).collect()).expect("text");
            }
            assert!(self.read().await > 0, "closed within a line");
        }
    }

    async fn take(&mut self, count: usize) -> Vec<u8> {
        while self.unread.len() < count {
            assert!(self.read().await > 0, "closed within a body");
        }
        self.unread.drain(..count).collect()
    }

    async fn read(&mut self) -> usize {
        self.stream.read_buf(&mut self.unread).await.unwrap_or(0)
    }

    /// Waits for the server to close; what came until then.
    pub(crate) async fn closed(&mut self) -> Vec<u8> {
        while self.read().await > 0 {}
        std::mem::take(&mut self.unread)
    }
}

/// A response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    fn parse(head: &str) -> Response {
        let mut lines = head.lines();
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1.1 "))
            .expect("a status line");
        let status = status[..3].parse().expect("a status");
        let header = |line: &str| {
            line.split_once(": ")
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        Response {
            status,
            headers: lines.filter_map(header).collect(),
            body: Vec::new(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// The problem's document, checked to be one of this status and type.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, slug: &str) -> Value {
        assert_eq!(self.status, status, "{:?} {}", self.headers, self.body.escape_ascii());
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!(problem["type"], format!("urn:annulus:problem:{slug}"), "{problem}");
        assert_eq!(problem["status"], status);
        assert!(problem["title"].is_string() && problem["detail"].is_string());
        problem
    }
}
