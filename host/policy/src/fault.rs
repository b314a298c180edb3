//! What went wrong in a policy, in the words of the language it is written in: out of what its runtime wrote before it gave up.

/// What stands between a policy in Go and the contract.
const OF_THE_PACKAGE: [&str; 3] = ["/postern/abi_wasip1.go:", "/postern/policy.go:", "/postern/postern.go:"];
/// What is told of an exception, at most, in characters.
const LONGEST: usize = 400;

/// The exception or panic that a policy's output ends with: its type and message, and the place in the author's source. None where there is none that is known.
pub(crate) fn of(output: &str) -> Option<String> {
    let lines: Vec<&str> = output.lines().collect();
    let told = python(&lines).or_else(|| javascript(&lines)).or_else(|| rust(&lines)).or_else(|| go(&lines)).or_else(|| plain(&lines))?;
    Some(told.chars().take(LONGEST).collect())
}

/// `Traceback (most recent call last):`, a line for each call, and the exception.
fn python(lines: &[&str]) -> Option<String> {
    let begin = lines.iter().rposition(|line| *line == "Traceback (most recent call last):")?;
    let rest = &lines[begin + 1..];
    let exception = rest.iter().position(|line| !line.starts_with(' ') && !line.is_empty())?;
    let place = rest[..exception].iter().rev().find_map(|line| {
        let (file, rest) = line.trim_start().strip_prefix("File \"")?.split_once("\", line ")?;
        let (line, function) = rest.split_once(", in ").unwrap_or((rest, ""));
        let file = file.rsplit('/').next().unwrap_or(file);
        Some(if function.is_empty() { format!("{file}:{line}") } else { format!("{file}:{line}, in {function}") })
    });
    Some(with_place(rest[exception], place))
}

/// The message, `Stack:`, and a line `function@file:line:column` for each call.
fn javascript(lines: &[&str]) -> Option<String> {
    let stack = lines.iter().rposition(|line| *line == "Stack:")?;
    let message = lines[..stack].last()?;
    // What stands between a policy and the contract says the type first, in a line of its own.
    let typed =
        stack.checked_sub(2).map(|before| lines[before]).filter(|line| line.strip_suffix(message).is_some_and(|kind| kind.ends_with(": ")));
    let message = typed.unwrap_or(message);
    let place = lines[stack + 1..].iter().map_while(|line| line.strip_prefix("  ")).find_map(|line| {
        let (function, place) = line.rsplit_once('@')?;
        // What is between a policy and the contract is not the author's.
        let is_own = !place.starts_with("postern.js:") && !place.contains("/initializer.js:");
        is_own.then(|| if function.is_empty() { place.to_owned() } else { format!("{place}, in {function}") })
    });
    Some(with_place(message, place))
}

/// `panicked at file:line:column:`, and the message in the next line. What componentize-py says after a traceback was told by that.
fn rust(lines: &[&str]) -> Option<String> {
    let at = lines.iter().rposition(|line| line.contains("panicked at "))?;
    let place = lines[at].split_once("panicked at ")?.1.trim_end_matches(':');
    Some(with_place(lines.get(at + 1).copied().unwrap_or("it panicked"), Some(place.to_owned())))
}

/// `panic: message`, a goroutine, and two lines for each call: the function, and where it is.
fn go(lines: &[&str]) -> Option<String> {
    let at = lines.iter().rposition(|line| line.starts_with("panic: ") || line.starts_with("fatal error: "))?;
    let message = lines[at].split_once(": ")?.1;
    let place = lines[at + 1..].iter().find_map(|line| {
        // Of a call that became part of its caller no offset is told.
        let place = line.strip_prefix('\t')?;
        let place = place.split_once(" +0x").map_or(place, |(place, _)| place);
        // The runtime's own calls come first, and what stands between a policy and the contract is not the author's.
        let is_own =
            !place.contains("/src/runtime/") && !place.starts_with("runtime/") && !OF_THE_PACKAGE.iter().any(|file| place.contains(file));
        is_own.then(|| place.rsplit('/').next().unwrap_or(place).to_owned())
    });
    Some(with_place(message, place))
}

/// What C's `assert` and Zig's panic say stands in one line, and so does what is told of a trap.
fn plain(lines: &[&str]) -> Option<String> {
    let is_one = |line: &&&str| line.starts_with("Assertion failed: ") || line.starts_with("[stopped in ") || line.contains("panic: ");
    let line = lines.iter().rev().find(is_one)?;
    Some(line.trim_matches(['[', ']']).to_owned())
}

/// Where a call stopped that trapped: the function, and its line in the source where the module has those.
pub(crate) fn place(error: &wasmtime::Error) -> Option<String> {
    let trace = error.downcast_ref::<wasmtime::WasmBacktrace>()?;
    let shown = trace.frames().iter().find_map(|frame| {
        frame.symbols().iter().find_map(|symbol| {
            let file = symbol.file()?.rsplit('/').next()?;
            Some(format!("{} ({file}:{})", symbol.name().or(frame.func_name()).unwrap_or("a function"), symbol.line()?))
        })
    });
    shown.or_else(|| trace.frames().iter().find_map(|frame| Some(frame.func_name()?.to_owned())))
}

fn with_place(message: &str, place: Option<String>) -> String {
    match place {
        Some(place) => format!("{message} ({place})"),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn an_exception_is_told_with_its_place_in_the_authors_source() {
        let python = "hello\nTraceback (most recent call last):\n  File \"/0/postern.py\", line 230, in on_request\n  File \"/0/policy.py\", line 21, in inner\nKeyError: 'nope'\n\nthread '<unnamed>' (1) panicked at runtime/src/lib.rs:1280:25:\nPython function threw an unexpected exception\n";
        assert_eq!(of(python).unwrap(), "KeyError: 'nope' (policy.py:21, in inner)");
        let javascript = "hello\nTypeError: d.nope is undefined\nd.nope is undefined\nStack:\n  inner@policy.js:18:16\n  onRequest@policy.js:12:43\n  onRequest@postern.js:126:49\n  x@/tmp/a/sources/initializer.js:782:17\n\nRedirecting call to abort() to mozalloc_abort\n";
        assert_eq!(of(javascript).unwrap(), "TypeError: d.nope is undefined (policy.js:18:16, in inner)");
        assert_eq!(of("panicked at src/lib.rs:12:5:\nindex out of bounds: 3\n").unwrap(), "index out of bounds: 3 (src/lib.rs:12:5)");
        let go = "panic: runtime error: index out of range [5] with length 0\n\ngoroutine 1 [running]:\nruntime.goPanicIndex(0x5, 0x0)\n\t/usr/local/go/src/runtime/panic.go:115 +0x1\nmain.onRequest(...)\n\t/tmp/p/policy.go:17 +0x5\n";
        assert_eq!(of(go).unwrap(), "runtime error: index out of range [5] with length 0 (policy.go:17)");
        let trimmed = "panic: what stands at $.a is not what was expected\n\ngoroutine 1 [running]:\npanic({0x1, 0x2})\n\truntime/panic.go:787 +0x132\nmy-policy/postern.read(...)\n\tmy-policy/postern/postern.go:152 +0x2\nmain.inner(...)\n\tmy-policy/policy.go:31\nmain.init.func2(0x1)\n\tmy-policy/policy.go:12 +0x5\n";
        assert_eq!(of(trimmed).unwrap(), "what stands at $.a is not what was expected (policy.go:31)");
        assert_eq!(of("Assertion failed: n > 1 (policy.c: inner: 18)\n").unwrap(), "Assertion failed: n > 1 (policy.c: inner: 18)");
        assert_eq!(of("only a line that was printed\n"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn what_is_told_is_not_long_and_no_output_panics() {
        assert!(of(&format!("panic: {}", "\u{e9}".repeat(10_000))).unwrap().chars().count() <= 400);
        for odd in [
            "Traceback (most recent call last):",
            "Stack:",
            "panicked at ",
            "panic: ",
            "Traceback (most recent call last):\n  File \"",
            "x\nStack:\n  @",
            "\n\n",
        ] {
            let _ = of(odd);
        }
    }
}
