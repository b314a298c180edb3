//! An OIDC issuer whose keys, clock and health a test decides. It stands for the real one of the cluster, which has one key and is never down.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::KeyPair;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

/// A running issuer.
pub struct Issuer {
    /// Its URL.
    pub url: String,
    /// Its certificate, PEM.
    pub ca: String,
    shared: Arc<Shared>,
}

struct Shared {
    url: String,
    keys: Mutex<Vec<(String, KeyPair)>>,
    is_down: AtomicBool,
    asked: AtomicU32,
}

impl Issuer {
    /// Starts one with a key.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let key = KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let private = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let tls = Arc::new(tls.with_single_cert(vec![certificate.der().clone()], private).unwrap());
        let shared =
            Arc::new(Shared { url: url.clone(), keys: Mutex::default(), is_down: AtomicBool::new(false), asked: AtomicU32::new(0) });
        let issuer = Self { url, ca: certificate.pem(), shared: Arc::clone(&shared) };
        issuer.add_key("first");
        std::thread::spawn(move || {
            for tcp in listener.incoming().flatten() {
                if shared.is_down.load(Ordering::Relaxed) {
                    continue;
                }
                let _ = tcp.set_read_timeout(Some(Duration::from_secs(5)));
                let mut stream = StreamOwned::new(ServerConnection::new(Arc::clone(&tls)).unwrap(), tcp);
                let mut request = Vec::new();
                let mut buffer = [0; 1024];
                while !request.windows(4).any(|w| w == b"\r\n\r\n") {
                    match stream.read(&mut buffer) {
                        Ok(read) if read > 0 => request.extend_from_slice(&buffer[..read]),
                        _ => break,
                    }
                }
                let body = shared.answer(&String::from_utf8_lossy(&request)).to_string();
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all((head + &body).as_bytes());
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        });
        issuer
    }

    /// Publishes one more key.
    pub fn add_key(&self, id: &str) {
        self.shared.keys.lock().unwrap().push((id.to_owned(), KeyPair::generate().unwrap()));
    }

    /// Takes a key back.
    pub fn remove_key(&self, id: &str) {
        self.shared.keys.lock().unwrap().retain(|(known, _)| known != id);
    }

    /// Answers nobody any more, or again.
    pub fn set_down(&self, is_down: bool) {
        self.shared.is_down.store(is_down, Ordering::Relaxed);
    }

    /// How often its keys were asked for.
    pub fn asked(&self) -> u32 {
        self.shared.asked.load(Ordering::Relaxed)
    }

    /// A token, signed with a key; `exp` is seconds from now.
    pub fn token(&self, key: &str, exp: i64, more: &Value) -> String {
        let keys = self.shared.keys.lock().unwrap();
        let (id, pair) = keys.iter().find(|(id, _)| id == key).unwrap();
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(id.clone());
        let mut claims = json!({"iss": self.url, "aud": "postern", "sub": "ann", "exp": now() + exp, "iat": now()});
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap()).unwrap()
    }

    /// Its entry under `authentication.jwt`; `more` are further lines of it.
    pub fn entry(&self, more: &str) -> String {
        let ca = self.ca.replace('\n', "\n        ");
        format!("  - issuer:\n      url: '{}'\n      audiences: [postern]\n      certificateAuthority: |\n        {ca}\n{more}", self.url)
    }
}

impl Shared {
    fn answer(&self, request: &str) -> Value {
        if !request.contains("/keys ") {
            return json!({"issuer": self.url, "jwks_uri": format!("{}/keys", self.url)});
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        let jwk = |(id, pair): &(String, KeyPair)| {
            // An uncompressed point: 4, x, y.
            let point = pair.public_key_raw();
            json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": id, "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..])})
        };
        // A key of a kind that is not known must not hide the others.
        let mut keys = vec![json!({"kty": "??", "kid": "unknown"})];
        keys.extend(self.keys.lock().unwrap().iter().map(jwk));
        json!({ "keys": keys })
    }
}

/// Unix seconds.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}
