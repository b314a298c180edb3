//! Tokens: what stands for a value so that equal ones stay equal and different ones different, in one object and nowhere else.
//!
//! A token that were the same everywhere would be a way to guess: whoever may create an object of his own, if only with `dryRun`, could try values there until
//! one reads like somebody else's. So the object's own name is hashed with the value, and the member's: to compare one must be able to write that very object, and
//! one request tries one value.

use aws_lc_rs::hmac;

use super::json::Unreadable;
use super::json::walk::{skip_space, skip_value, start_of};

/// The key tokens are made with. It never leaves the gateway.
#[derive(Clone)]
pub struct TokenKey(hmac::Key);

impl TokenKey {
    /// Takes 32 random bytes.
    pub fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The key of one of several clusters: what has equal tokens in one has others in another.
    pub fn of_cluster(key: &[u8], cluster: &str) -> Self {
        let all = hmac::Key::new(hmac::HMAC_SHA256, key);
        Self::new(hmac::sign(&all, format!("cluster {cluster}").as_bytes()).as_ref())
    }

    /// Sixteen hexadecimal digits for a value of a member in a scope: the first 64 bits of an HMAC-SHA-256 of all three.
    pub(super) fn token(&self, scope: &Scope, member: &[u8], value: &[u8]) -> [u8; 16] {
        let mut text = hmac::Context::with_key(&self.0);
        // Each part after its length, so that no two are written alike.
        text.update(&length(&scope.0));
        text.update(&scope.0);
        text.update(&length(member));
        text.update(member);
        text.update(value);
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let (tag, mut token) = (text.sign(), [0; 16]);
        for (byte, digits) in tag.as_ref().iter().zip(token.chunks_exact_mut(2)) {
            digits.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        token
    }
}

fn length(part: &[u8]) -> [u8; 8] {
    (part.len() as u64).to_be_bytes()
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey")
    }
}

/// Where tokens are compared: within one object. The default is what belongs to none, an error's text for example.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope(Vec<u8>);

impl Scope {
    /// What is written of one object. A resource is written as kubectl has it, with its group: `deployments.apps`. It and its subresources are the same object.
    pub fn of(resource: &str, namespace: &str, name: &str) -> Self {
        Self::default().within(resource, namespace.as_bytes(), name.as_bytes())
    }

    /// The scope of an object as JSON has it. One that lies in another adds to the other's: what is in it may have been written to look like any object.
    pub(super) fn of_object(around: &Self, object: &[u8], resource: &str) -> Result<Self, Unreadable> {
        // Both stand near the beginning: what comes after them, the most of an object, is not read for them.
        let metadata = start_of(object, skip_space(object, 0), b"metadata")?;
        let text = |name: &[u8]| {
            let start = metadata.map_or(Ok(None), |at| start_of(object, at, name))?;
            let raw = start.map_or(Ok(&b""[..]), |at| Ok(&object[at..skip_value(object, at)?]))?;
            // Names have nothing that JSON writes in two ways (RFC 1123, and path segment names).
            Ok(raw.strip_prefix(b"\"").and_then(|raw| raw.strip_suffix(b"\"")).unwrap_or(raw))
        };
        Ok(around.within(resource, text(b"namespace")?, text(b"name")?))
    }

    fn within(&self, resource: &str, namespace: &[u8], name: &[u8]) -> Self {
        let resource = resource.split('/').next().unwrap_or_default();
        let mut scope = self.0.clone();
        for part in [resource.as_bytes(), namespace, name] {
            scope.extend(length(part));
            scope.extend(part);
        }
        Self(scope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_compared_in_one_object_and_nowhere_else() {
        let key = TokenKey::new(&[7; 32]);
        let db = Scope::of("secrets", "shop", "db");
        assert_eq!(key.token(&db, b"k", b"a"), key.token(&db, b"k", b"a"));
        let of = |resource: &str, object: &str| Scope::of_object(&Scope::default(), object.as_bytes(), resource).unwrap();
        assert_eq!(of("secrets", r#"{"data":{"a":"b"},"metadata":{"name":"db","namespace":"shop"}}"#), db);
        assert_eq!(of("secrets/status", r#"{"metadata":{"namespace":"shop","name":"db"}}"#), db);
        let mut tokens = vec![
            key.token(&db, b"k", b"a"),
            key.token(&db, b"l", b"a"),
            key.token(&db, b"", b"ka"),
            key.token(&db, b"k", b"b"),
            TokenKey::new(&[8; 32]).token(&db, b"k", b"a"),
        ];
        for other in [
            Scope::default(),
            Scope::of("configmaps", "shop", "db"),
            Scope::of("secrets.example.com", "shop", "db"),
            Scope::of("secrets", "shop", "db2"),
            Scope::of("secrets", "shopdb", ""),
            Scope::of("secrets", "", "shopdb"),
            of("widgets", "{}"),
            Scope::of_object(&of("widgets", r#"{"metadata":{"name":"mine"}}"#), br#"{"metadata":{"name":"db","namespace":"shop"}}"#, "")
                .unwrap(),
        ] {
            tokens.push(key.token(&other, b"k", b"a"));
        }
        let count = tokens.len();
        tokens.sort();
        tokens.dedup();
        assert_eq!(tokens.len(), count);
    }
}
