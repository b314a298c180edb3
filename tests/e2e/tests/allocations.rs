//! How often a request asks the allocator for memory: on a request's path that is most of what the gateway's own code costs, and it creeps in unseen.
//!
//! The gateway is this program itself, started with an allocator that counts. The bounds are those of today and a little: whoever goes over one has made every
//! request dearer, and says so by raising it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;
use e2e::{Setup, cluster, setup_with};
use testbed::GatewayOptions;

/// Allocations of a GET of a pod, without policies; asked of a policy that is known to mask it; and of a create that is synced to the disk.
const BOUNDS: [(&str, u64); 3] = [("plain", 64), ("masked", 136), ("create", 100)];
/// Requests of a connection, beside the first: what it takes to open one is not counted.
const REQUESTS: usize = 40;
/// Where the gateway writes how often it has asked.
const COUNT: &str = "POSTERN_TEST_ALLOCATIONS";

struct Counting;

static ASKED: AtomicU64 = AtomicU64::new(0);

#[allow(unsafe_code)]
// SAFETY: everything is the system's own allocator's; what is counted changes nothing of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ASKED.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    if let Some(file) = std::env::var_os(COUNT).map(PathBuf::from) {
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_millis(20));
                let _ = std::fs::write(&file, ASKED.load(Ordering::Relaxed).to_string());
            }
        });
        if let Err(error) = postern::cli::Cli::parse().run() {
            eprintln!("error: {error:#}");
            std::process::exit(1);
        }
        return;
    }
    let plain = gateway("plain", Vec::new());
    let masked = gateway("masked", vec![("10-mask-env", "mask-env", String::new())]);
    let get = |at: &Gateway| format!("GET /api/v1/namespaces/{}/pods/web HTTP/1.1\r\n", at.setup.namespace);
    let create = |at: &Gateway, number: usize| {
        let object = format!("{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"c{number}\"}}}}");
        let head = format!("POST /api/v1/namespaces/{}/configmaps HTTP/1.1\r\nContent-Type: application/json\r\n", at.setup.namespace);
        (format!("{head}Content-Length: {}\r\n", object.len()), object)
    };
    let counted = [
        plain.count(200, &|_| (get(&plain), String::new())),
        masked.count(200, &|_| (get(&masked), String::new())),
        plain.count(201, &|number| create(&plain, number)),
    ];
    let mut over = false;
    for ((what, most), counted) in BOUNDS.into_iter().zip(counted) {
        println!("{what}: {counted} allocations a request, at most {most}");
        over |= counted > most;
    }
    drop((plain, masked));
    assert!(!over, "a request asks for memory more often than it did");
}

/// A gateway that counts.
struct Gateway {
    setup: Setup,
    count: PathBuf,
}

fn gateway(name: &'static str, policies: Vec<(&'static str, &'static str, String)>) -> Gateway {
    cluster();
    let count = e2e::scratch("count").join(name);
    let environment = vec![(COUNT, &*count.display().to_string().leak())];
    let program = std::env::current_exe().expect("this program is there");
    let setup = setup_with(GatewayOptions { policies, environment, program: Some(program), ..GatewayOptions::default() });
    Gateway { setup, count }
}

impl Gateway {
    /// Allocations of a request, the least of some rounds: what else the gateway does now and then is not the request's.
    fn count(&self, code: u16, request: &dyn Fn(usize) -> (String, String)) -> u64 {
        let mut number = 0;
        let mut round = |requests: usize| {
            let before = self.asked();
            let mut text = String::new();
            for left in (0..requests).rev() {
                number += 1;
                let (head, body) = request(number);
                let last = if left == 0 { "Connection: close\r\n" } else { "" };
                text += &format!("{head}Host: x\r\nAuthorization: Bearer {}\r\n{last}\r\n{body}", self.setup.token);
            }
            let answers = self.setup.raw(&text);
            assert_eq!(answers.matches(&format!("HTTP/1.1 {code} ")).count(), requests, "{answers}");
            self.asked() - before
        };
        // Verdicts come to be known, connections to be open.
        round(REQUESTS);
        let least = |requests: usize, round: &mut dyn FnMut(usize) -> u64| (0..5).map(|_| round(requests)).min().unwrap_or_default();
        let (one, many) = (least(1, &mut round), least(1 + REQUESTS, &mut round));
        assert!(many > one, "{many} allocations of {REQUESTS} requests more than the {one} of one");
        (many - one) / REQUESTS as u64
    }

    /// How often it has asked by now, when all that a request leaves to be done is done.
    fn asked(&self) -> u64 {
        std::thread::sleep(Duration::from_millis(200));
        let (mut found, file) = (0, &self.count);
        testbed::wait_until("it counts", Duration::from_secs(10), || {
            // One that is being written is empty.
            found = std::fs::read_to_string(file).ok().and_then(|text| text.parse().ok()).unwrap_or_default();
            Ok(found > 0)
        })
        .expect("it counts");
        found
    }
}
