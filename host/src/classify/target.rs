//! The request target in its one normal form: what cannot be brought into it is refused with 400.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// A path and query that mean the same to every reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTarget {
    /// The path, percent-decoded, as Go's `URL.Path`.
    pub path: String,
    /// The query, decoded, in the order written, as Go's `url.ParseQuery` reads it.
    pub query: Vec<(String, String)>,
}

/// Why a request target has no normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abnormal {
    /// The path does not begin with `/`.
    NotAbsolute,
    /// An empty segment (`//`).
    EmptySegment,
    /// A segment `.` or `..`, written plainly or encoded.
    DotSegment,
    /// An encoded slash or backslash.
    EncodedSlash,
    /// A NUL or another control character.
    Control,
    /// `%` without two hexadecimal digits, or bytes that are no UTF-8.
    Encoding,
    /// A `;` in the query, which some readers take for a separator and others do not.
    Semicolon,
}

impl std::fmt::Display for Abnormal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotAbsolute => "the path does not begin with /",
            Self::EmptySegment => "the path has an empty segment (//); write each slash once",
            Self::DotSegment => "the path has a . or .. segment; write the path it leads to",
            Self::EncodedSlash => "the path has an encoded slash (%2f or %5c); no Kubernetes name has one",
            Self::Control => "the path or query has a control character",
            Self::Encoding => "the path or query is not valid percent-encoded UTF-8",
            Self::Semicolon => "the query has a ;; separate parameters with & and write ; as %3B",
        })
    }
}

impl RequestTarget {
    /// Normalises the path and query of a request line.
    pub fn parse(path: &str, query: Option<&str>) -> Result<Self, Abnormal> {
        Ok(Self { path: normal_path(path)?, query: query.map_or(Ok(Vec::new()), parse_query)? })
    }

    /// The first value of a query parameter.
    pub fn first(&self, key: &str) -> Option<&str> {
        first(&self.query, key)
    }
}

/// The first value of a query parameter, as Go's `url.Values.Get` gives it.
pub(super) fn first<'a>(query: &'a [(String, String)], key: &str) -> Option<&'a str> {
    query.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
}

fn normal_path(raw: &str) -> Result<String, Abnormal> {
    if !raw.starts_with('/') {
        return Err(Abnormal::NotAbsolute);
    }
    let decoded = decode(raw)?;
    let slashes = |text: &str| text.bytes().filter(|b| *b == b'/').count();
    if slashes(&decoded) != slashes(raw) || decoded.contains('\\') {
        return Err(Abnormal::EncodedSlash);
    }
    let inner = decoded.strip_prefix('/').unwrap_or(&decoded);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    if inner.is_empty() {
        return if decoded.len() <= 1 { Ok(decoded.into_owned()) } else { Err(Abnormal::EmptySegment) };
    }
    for segment in inner.split('/') {
        match segment {
            "" => return Err(Abnormal::EmptySegment),
            "." | ".." => return Err(Abnormal::DotSegment),
            _ => {}
        }
    }
    Ok(decoded.into_owned())
}

fn parse_query(raw: &str) -> Result<Vec<(String, String)>, Abnormal> {
    if raw.contains(';') {
        return Err(Abnormal::Semicolon);
    }
    let word = |text: &str| -> Result<String, Abnormal> {
        if text.contains('+') { decode(&text.replace('+', " ")).map(Cow::into_owned) } else { decode(text).map(Cow::into_owned) }
    };
    raw.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((word(key)?, word(value)?))
        })
        .collect()
}

fn decode(text: &str) -> Result<Cow<'_, str>, Abnormal> {
    let bytes = text.as_bytes();
    for (index, _) in bytes.iter().enumerate().filter(|(_, b)| **b == b'%') {
        if !bytes.get(index + 1..index + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) {
            return Err(Abnormal::Encoding);
        }
    }
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| Abnormal::Encoding)?;
    // A command or a selector may hold tabs and newlines; no path or key means anything by the other control characters.
    if decoded.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r')) {
        return Err(Abnormal::Control);
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_normal_form_is_refused() {
        for (path, why) in [
            ("api", Abnormal::NotAbsolute),
            ("//api", Abnormal::EmptySegment),
            ("//", Abnormal::EmptySegment),
            ("/api//v1", Abnormal::EmptySegment),
            ("/api/v1//", Abnormal::EmptySegment),
            ("/api/../v1", Abnormal::DotSegment),
            ("/api/%2e%2E/v1", Abnormal::DotSegment),
            ("/api/./v1", Abnormal::DotSegment),
            ("/api%2fv1", Abnormal::EncodedSlash),
            ("/api%5cv1", Abnormal::EncodedSlash),
            ("/api/v1%00", Abnormal::Control),
            ("/api/%zz", Abnormal::Encoding),
            ("/api/%", Abnormal::Encoding),
            ("/api/%ff", Abnormal::Encoding),
        ] {
            assert_eq!(RequestTarget::parse(path, None), Err(why), "{path}");
        }
        assert_eq!(RequestTarget::parse("/api", Some("a=1;b=2")), Err(Abnormal::Semicolon));
        assert_eq!(RequestTarget::parse("/api", Some("a=%0")), Err(Abnormal::Encoding));
    }

    #[test]
    fn a_query_reads_as_go_reads_it() {
        let target = RequestTarget::parse("/a%20b/", Some("watch&x=1&x=2&&y=a+b%2Bc")).unwrap();
        assert_eq!(target.path, "/a b/");
        assert_eq!(target.first("watch"), Some(""));
        assert_eq!(target.first("x"), Some("1"));
        assert_eq!(target.first("y"), Some("a b+c"));
        assert_eq!(target.first("z"), None);
    }
}
