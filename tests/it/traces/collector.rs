//! A collector that takes OTLP over HTTP, keeps what it gets, and can be told to refuse.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// One request: its head in small letters, and its body.
#[derive(Clone)]
pub struct Batch {
    pub head: String,
    pub body: Vec<u8>,
}

impl Batch {
    pub fn message(&self) -> ExportTraceServiceRequest {
        ExportTraceServiceRequest::decode(&self.body[..]).expect("an OTLP message")
    }
}

#[derive(Default)]
struct Shared {
    batches: Mutex<Vec<Batch>>,
    /// The status that is answered next, or 0 for no answer.
    status: AtomicUsize,
}

pub struct Collector {
    pub port: u16,
    shared: Arc<Shared>,
}

impl Collector {
    pub fn start() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let shared = Arc::<Shared>::default();
        shared.status.store(200, Ordering::SeqCst);
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, shared) = (stream.expect("a connection"), Arc::clone(&serving));
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Collector { port, shared }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Answers with this status from now on; 0: does not answer.
    pub fn answer(&self, status: usize) {
        self.shared.status.store(status, Ordering::SeqCst);
    }

    pub fn batches(&self) -> Vec<Batch> {
        self.shared.batches.lock().expect("no panic").clone()
    }

    pub fn spans(&self) -> Vec<Span> {
        let messages = self.batches().into_iter().map(|batch| batch.message());
        let resources = messages.flat_map(|message| message.resource_spans);
        resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) {
    let mut reader = BufReader::new(stream.try_clone().expect("a copy"));
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            match reader.read_line(&mut head) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.and_then(|text| text.parse().ok()).expect("a length");
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a body");
        shared.batches.lock().expect("no panic").push(Batch { head, body });
        let status = shared.status.load(Ordering::SeqCst);
        let answer = format!("HTTP/1.1 {status} Said\r\ncontent-length: 0\r\n\r\n");
        if status > 0 && stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// The text of an attribute; numbers in decimal.
pub fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|pair| pair.key == key)?;
    match &found.value {
        Some(AnyValue { value: Some(Value::StringValue(text)) }) => Some(text.clone()),
        Some(AnyValue { value: Some(Value::IntValue(number)) }) => Some(number.to_string()),
        _ => None,
    }
}
