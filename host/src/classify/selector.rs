//! Label and field selectors, as far as RequestInfo depends on them: which ones parse, and which name one object.
//!
//! Source: `k8s.io/apimachinery/pkg/labels/selector.go` and `pkg/fields/selector.go`. A list whose options do not parse is
//! classified without its name, so that the answer to "does it parse" decides what a policy sees.

/// The value a field selector requires of `metadata.name`; an error when the selector does not parse.
pub(super) fn required_name(selector: &str) -> Result<Option<String>, Unparsable> {
    let mut terms = split_terms(selector);
    terms.sort_unstable();
    let mut name = None;
    for term in terms.into_iter().filter(|t| !t.is_empty()) {
        let (field, equal, value) = split_term(term).ok_or(Unparsable)?;
        let value = unescape(value)?;
        if equal && field == "metadata.name" && name.is_none() {
            name = Some(value);
        }
    }
    Ok(name)
}

/// Whether kube-apiserver would parse the label selector.
pub(super) fn labels_parse(selector: &str) -> bool {
    Parser { tokens: lex(selector), position: 0 }.selector().is_some()
}

/// The selector does not parse.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unparsable;

fn split_terms(selector: &str) -> Vec<&str> {
    if selector.is_empty() {
        return Vec::new();
    }
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (index, c) in selector.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == ',' {
            terms.push(&selector[start..index]);
            start = index + 1;
        }
    }
    terms.push(&selector[start..]);
    terms
}

/// Field, whether it must be equal, and the value as written.
fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    term.char_indices().find_map(|(index, _)| {
        let rest = &term[index..];
        [("!=", false), ("==", true), ("=", true)]
            .into_iter()
            .find_map(|(operator, equal)| Some((&term[..index], equal, rest.strip_prefix(operator)?)))
    })
}

fn unescape(value: &str) -> Result<String, Unparsable> {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => plain.push(escaped),
                _ => return Err(Unparsable),
            },
            ',' | '=' => return Err(Unparsable),
            _ => plain.push(c),
        }
    }
    Ok(plain)
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token<'a> {
    Identifier(&'a str),
    Comma,
    Open,
    Close,
    Not,
    Equals,
    NotEquals,
    Greater,
    Less,
    Error,
    End,
}

fn lex(selector: &str) -> Vec<Token<'_>> {
    let is_symbol = |c: char| matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<');
    let is_space = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    let mut rest = selector;
    let mut tokens = Vec::new();
    loop {
        rest = rest.trim_start_matches(is_space);
        let Some(first) = rest.chars().next() else {
            tokens.push(Token::End);
            return tokens;
        };
        if !is_symbol(first) {
            let end = rest.find(|c| is_symbol(c) || is_space(c)).unwrap_or(rest.len());
            tokens.push(Token::Identifier(&rest[..end]));
            rest = &rest[end..];
            continue;
        }
        // Upstream takes symbols as long as what it has may become an operator; what never does is an error.
        let run = rest.find(|c| !is_symbol(c)).unwrap_or(rest.len());
        let (mut taken, mut token) = (run, Token::Error);
        for end in 1..=run {
            match symbol(&rest[..end]) {
                Some(known) => (token, taken) = (known, end),
                None if token != Token::Error => break,
                None => {}
            }
        }
        tokens.push(token);
        rest = &rest[taken..];
    }
}

fn symbol(text: &str) -> Option<Token<'static>> {
    Some(match text {
        "," => Token::Comma,
        "(" => Token::Open,
        ")" => Token::Close,
        "!" => Token::Not,
        "=" | "==" => Token::Equals,
        "!=" => Token::NotEquals,
        ">" => Token::Greater,
        "<" => Token::Less,
        _ => return None,
    })
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    position: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        self.tokens.get(self.position).cloned().unwrap_or(Token::End)
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.position += 1;
        token
    }

    fn selector(&mut self) -> Option<()> {
        loop {
            match self.peek() {
                Token::Identifier(_) | Token::Not => self.requirement()?,
                Token::End => return Some(()),
                _ => return None,
            }
            match self.next() {
                Token::End => return Some(()),
                Token::Comma if matches!(self.peek(), Token::Identifier(_) | Token::Not) => {}
                _ => return None,
            }
        }
    }

    fn requirement(&mut self) -> Option<()> {
        let negated = self.peek() == Token::Not;
        if negated {
            self.next();
        }
        let Token::Identifier(key) = self.next() else { return None };
        if !is_label_key(key) {
            return None;
        }
        if negated || matches!(self.peek(), Token::End | Token::Comma) {
            return Some(());
        }
        match self.next() {
            Token::Identifier("in" | "notin") => self.values(),
            Token::Equals | Token::NotEquals => self.exact_value().filter(|v| is_label_value(v)).map(drop),
            Token::Greater | Token::Less => self.exact_value().filter(|v| is_label_value(v) && v.parse::<i64>().is_ok()).map(drop),
            _ => None,
        }
    }

    fn values(&mut self) -> Option<()> {
        if self.next() != Token::Open {
            return None;
        }
        if self.peek() == Token::Close {
            self.next();
            return Some(());
        }
        loop {
            match self.next() {
                Token::Identifier(value) if is_label_value(value) => match self.peek() {
                    Token::Comma => {}
                    Token::Close => break,
                    _ => return None,
                },
                Token::Comma => {
                    if self.peek() == Token::Close {
                        break;
                    }
                }
                _ => return None,
            }
        }
        self.next();
        Some(())
    }

    fn exact_value(&mut self) -> Option<&'a str> {
        if matches!(self.peek(), Token::End | Token::Comma) {
            return Some("");
        }
        match self.next() {
            Token::Identifier(value) => Some(value),
            _ => None,
        }
    }
}

fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_qualified(name),
        None => is_qualified(key),
    }
}

fn is_label_value(value: &str) -> bool {
    value.is_empty() || is_qualified(value)
}

fn is_qualified(name: &str) -> bool {
    let bytes = name.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes[bytes.len() - 1].is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn is_dns_subdomain(name: &str) -> bool {
    let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=253).contains(&name.len())
        && name.split('.').all(|label| {
            let bytes = label.as_bytes();
            !bytes.is_empty() && lower(bytes[0]) && lower(bytes[bytes.len() - 1]) && bytes.iter().all(|b| lower(*b) || *b == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_selectors_name_an_object_only_when_they_require_it() {
        assert_eq!(required_name("metadata.name=db"), Ok(Some("db".into())));
        assert_eq!(required_name("metadata.name!=db"), Ok(None));
        assert_eq!(
            required_name("metadata.name==b,metadata.name=a"),
            Ok(Some("b".into())),
            "upstream sorts the terms, and = sorts before a"
        );
        assert_eq!(required_name(r"metadata.name=a\,b"), Ok(Some("a,b".into())));
        assert_eq!(required_name("metadata.name"), Err(Unparsable));
        assert_eq!(required_name(r"a=b\x"), Err(Unparsable));
    }

    #[test]
    fn label_selectors_parse_as_upstream() {
        for good in ["", "a", "!a", "a=b", "a==b", "a in (b,c),d notin ()", "x>5", "in in (in)", "k8s.io/a=", "a in (,)"] {
            assert!(labels_parse(good), "{good}");
        }
        for bad in ["a b", "a=b=c", "a in b", "x>y", "!a=b", "a,", "/a", "-a", "a in (b", "a=!b", "=="] {
            assert!(!labels_parse(bad), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_selector_panics(text in r"[a-z,=!()<>\\\\ \tné./]{0,40}") {
            let _ = (required_name(&text), labels_parse(&text));
        }
    }
}
