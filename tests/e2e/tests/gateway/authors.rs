//! What authors are told of their policies while they run: lines that they print, and why a call failed, with its place in their own source. Callers are told neither.

use std::time::Duration;

use e2e::{code, put, scratch, setup};
use serde_json::Value;
use testbed::wait_until;

use crate::tool::{build, postern, text};

/// A policy as `policy new` makes it, which also prints a line, and fails on what is called `boom`.
struct Failing {
    language: &'static str,
    file: &'static str,
    /// What stands in the template, and what stands there instead.
    changes: &'static [(&'static str, &'static str)],
    /// What is told of the failure, in one line, with `LINE` for the line of [`Failing::at`].
    fault: &'static str,
    /// What stands in the line that fails.
    at: &'static str,
}

const PYTHON: Failing = Failing {
    language: "python",
    file: "policy.py",
    changes: &[(
        "        if request.is_in(settings.groups):\n",
        "        print(\"asked about\", request.object_name)\n        if request.object_name == \"boom\":\n            raise KeyError(\"nope\")\n        if request.is_in(settings.groups):\n",
    )],
    fault: "KeyError: 'nope' (policy.py:LINE, in on_request)",
    at: "raise KeyError",
};

const JS: Failing = Failing {
    language: "js",
    file: "policy.js",
    changes: &[(
        "    if (request.isIn(settings.groups)) return allow();\n",
        "    console.log('asked about', request.objectName);\n    if (request.objectName === 'boom') return settings.nothing.there;\n    if (request.isIn(settings.groups)) return allow();\n",
    )],
    fault: "TypeError: can't access property \"there\", settings.nothing is undefined (policy.js:LINE:",
    at: "settings.nothing.there",
};

const RUST: Failing = Failing {
    language: "rust",
    file: "src/lib.rs",
    changes: &[(
        "        if request.is_in(&self.0.groups) {\n",
        "        let name = request.object_name().unwrap_or_default();\n        log!(\"asked about {name}\");\n        assert!(name != \"boom\", \"nope\");\n        if request.is_in(&self.0.groups) {\n",
    )],
    fault: "nope (src/lib.rs:LINE:9)",
    at: "assert!(name",
};

const C: Failing = Failing {
    language: "c",
    file: "policy.c",
    changes: &[
        (
            "#include \"postern.h\"\n",
            "#include \"postern.h\"\n#include <stdio.h>\n\nstatic int divided(volatile int by) {\n  return 100 / by;\n}\n",
        ),
        (
            "  if (request_is_in(request, groups)) return allow();\n",
            "  bool boom = text_is(request_object_name(request), \"boom\");\n  printf(\"asked about %s: %d\\n\", boom ? \"boom\" : \"another\", divided(!boom));\n  if (request_is_in(request, groups)) return allow();\n",
        ),
    ],
    // Small functions become part of those that call them: the line is told all the same.
    fault: "(policy.c:LINE)",
    at: "return 100 / by",
};

const GO: Failing = Failing {
    language: "go",
    file: "policy.go",
    changes: &[
        (
            "\t\tif request.IsIn",
            "\t\tfmt.Println(\"asked about\", request.ObjectName())\n\t\tfmt.Println(chosen(request.ObjectName()))\n\t\tif request.IsIn",
        ),
        (
            "func main() {}\n",
            "func main() {}\n\nfunc chosen(name string) string {\n\tnopes, at := []string{\"a\"}, 0\n\tif name == \"boom\" {\n\t\tat = len(name)\n\t}\n\treturn nopes[at]\n}\n",
        ),
    ],
    fault: "runtime error: index out of range [4] with length 1 (policy.go:LINE)",
    at: "return nopes[at]",
};

fn tells(failing: &Failing) {
    let (place, name) = (scratch("authors"), format!("tells-{}", failing.language));
    postern(&["policy", "new", &name, "--lang", failing.language, "--directory", text(&place)]).success();
    let folder = place.join(&name);
    let file = folder.join(failing.file);
    let mut source = std::fs::read_to_string(&file).unwrap();
    for (before, after) in failing.changes {
        assert!(source.contains(before), "{source}");
        source = source.replacen(before, after, 1);
    }
    put(&file, source.as_bytes());
    let line = source.lines().position(|line| line.contains(failing.at)).unwrap() + 1;
    let fault = failing.fault.replace("LINE", &line.to_string());
    put(
        &folder.join("cases.yaml"),
        b"cases:\n- name: web\n  operation: {verb: delete, resource: pods, namespace: default, name: web, caller: {username: ann, groups: [sre]}}\n  expect: allow\n- name: boom\n  operation: {verb: delete, resource: pods, namespace: default, name: boom, caller: {username: ann, groups: [sre]}}\n  expect: failed\n",
    );
    let tested = build(&["policy", "test", text(&folder)]);
    let told = tested.success();
    assert!(told.contains("on-request| asked about") && told.contains(&fault), "{}: no {fault:?} in {told}", failing.language);

    // In a gateway the same stands in its log, and in nothing that a caller is sent.
    let s = setup(vec![], "");
    let module = std::fs::read(folder.join(format!("{name}.wasm"))).unwrap();
    put(&s.gateway.directory.join(format!("policies.d/50-{name}.wasm")), &module);
    put(&s.gateway.directory.join(format!("policies.d/50-{name}.yaml")), b"settings: {groups: ['postern:caller']}\n");
    wait_until("the policy is in force", Duration::from_secs(180), || {
        let events = s.events();
        let is_it =
            |event: &Value| event["inForce"].as_array().is_some_and(|all| all.iter().any(|policy| policy["name"] == format!("50-{name}")));
        Ok(events.iter().any(is_it))
    })
    .unwrap();
    let answer = s.raw(&format!(
        "DELETE /api/v1/namespaces/default/configmaps/boom HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n",
        s.token
    ));
    assert!(code(&answer) == 500 && answer.contains(&format!("the policy 50-{name} failed, so nothing passed")), "{answer}");
    let log = || std::fs::read_to_string(s.gateway.directory.join("postern.log")).unwrap();
    // C's module for the gateway does not know its lines, but for the names of its functions.
    let in_log = if failing.language == "c" { "divide by zero".to_owned() } else { fault.replace('"', "\\\"") };
    wait_until("the log has it", Duration::from_secs(10), || Ok(log().contains(&in_log) && log().contains("the policy failed"))).unwrap();
    let audit = std::fs::read_to_string(s.gateway.audit()).unwrap();
    for told in [answer, audit] {
        assert!(!["nope", "asked about", "TypeError", "KeyError"].iter().any(|word| told.contains(word)), "{}: {told}", failing.language);
    }
    // Nothing that a policy prints makes it fail.
    assert!(s.kubectl(&["delete", "configmap", "none"]).failure().contains("not found"));
}

#[test]
fn an_exception_in_python_is_told_with_its_line() {
    tells(&PYTHON);
}

#[test]
fn an_exception_in_javascript_is_told_with_its_line() {
    tells(&JS);
}

#[test]
fn a_panic_in_go_is_told_with_its_line() {
    tells(&GO);
}

#[test]
fn a_panic_in_rust_and_a_trap_in_c_are_told_with_their_lines() {
    tells(&RUST);
    tells(&C);
}
