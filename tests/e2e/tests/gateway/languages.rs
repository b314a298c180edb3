//! Clients of other languages must not notice the gateway: the same program through it and directly, with the same output.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use e2e::{Ran, Setup, cluster, path, scratch, setup};
use testbed::{binary, clients};

/// A port where whatever is said comes back.
fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let Ok(mut connection) = connection else { return };
            std::thread::spawn(move || {
                let mut said = [0; 1024];
                while let Ok(n @ 1..) = connection.read(&mut said) {
                    let _ = connection.write_all(&said[..n]);
                }
            });
        }
    });
    port
}

/// Runs a program with a kubeconfig, directly and through the gateway: what it printed must be the same, and have these in it.
fn same(s: &Setup, command: impl Fn(&Path) -> Command, told: &[&str]) {
    let run = |kubeconfig: &Path| Ran::new(command(kubeconfig).env("HOME", scratch("home")).output().unwrap());
    let (direct, through) = (run(&cluster().acts_as_kubeconfig().unwrap()), run(&s.caller));
    assert_eq!(through.success(), direct.success(), "{}{}", through.err, direct.err);
    for part in told {
        assert!(direct.out.contains(part), "{part}: {}", direct.out);
    }
}

#[test]
fn clients_of_python_see_the_same_through_the_gateway() {
    let (s, port) = (setup(vec![], ""), echo().to_string());
    for (client, told) in [
        (
            "kubernetes",
            &["patched {'key': 'after'}", "('DELETED', 'after')", "exec out", "typed typed by python", "port-forward b'there and back'"][..],
        ),
        ("kr8s", &["patched {'key': 'after'}", r"exec b'out\n' b'err\n' 3", "missing"]),
        ("lightkube", &["applied {'key': 'applied'}", "watch ADDED", "missing 404"]),
    ] {
        let command = |kubeconfig: &Path| {
            let mut command = Command::new(clients("python").join("venv/bin/python"));
            command.args(["-W", "ignore"]).arg(clients("python").join("use.py")).arg(client).arg(kubeconfig).args([&s.namespace, &port]);
            command
        };
        same(&s, command, told);
        println!("{client}: the same through the gateway");
    }
}

#[test]
fn the_client_of_javascript_sees_the_same_through_the_gateway() {
    let (s, port) = (setup(vec![], ""), echo().to_string());
    let command = |kubeconfig: &Path| {
        let mut command = Command::new("node");
        command.arg(clients("node").join("use.mjs")).arg(kubeconfig).args([&s.namespace, &port]);
        command
    };
    let informer = r#"informer [["add","before"],["update","after"]]"#;
    same(&s, command, &[informer, "\"NonZeroExitCode\"", "typed \"typed by node", "port-forward \"there and back\"", "may true"]);
}

/// Its informers watch over WebSocket, and every operator in Java stands on them.
#[test]
fn fabric8_sees_the_same_through_the_gateway() {
    let (s, port) = (setup(vec![], ""), echo().to_string());
    let command = |kubeconfig: &Path| {
        let mut command = Command::new("java");
        command.arg("-cp").arg(format!("{0}/target/classes:{0}/target/dependency/*", clients("java").display()));
        command.arg("Use").arg(kubeconfig).args([&s.namespace, &port]);
        command
    };
    let informer = "informer [[add {key=before}, update {key=after}, delete {key=after}]]";
    same(&s, command, &[informer, "deleted [true]", "typed [[typed by java", "port-forward [there and back]", "refused [422, Invalid]"]);
}

#[test]
fn stern_sees_the_same_through_the_gateway() {
    let s = setup(vec![], "");
    let command = |kubeconfig: &Path| {
        let mut command = Command::new(binary("stern"));
        command.args([".", "--no-follow", "--tail", "2", "--color", "never", "-n", &s.namespace, "--kubeconfig"]).arg(kubeconfig);
        command
    };
    same(&s, command, &["web main 3 of web, token tok-1003"]);
}

fn k9s(s: &Setup, kubeconfig: &Path) -> Command {
    let mut command = Command::new(clients("python").join("venv/bin/python"));
    command.arg(clients("python").join("terminal.py")).arg(binary("k9s")).arg(kubeconfig).arg(&s.namespace).arg(scratch("k9s"));
    command.env("PATH", path());
    command
}

#[test]
fn k9s_shows_the_same_through_the_gateway() {
    let s = setup(vec![], "");
    let told = ["pods: True", "describe: web node-1", "logs: tok", "shell: opened", "typed: from-42"];
    same(&s, |kubeconfig| k9s(&s, kubeconfig), &told);
    // And what policies say is on its screen.
    let patterns = "settings: {patterns: ['tok-[0-9]{4}']}\n";
    let s = setup(vec![("30-guard-exec", "guard-exec", String::new()), ("20-patterns", "mask-patterns", patterns.into())], "");
    let ran = Ran::new(k9s(&s, &s.caller).output().unwrap());
    for part in ["logs: postern-masked", "shell: refused"] {
        assert!(ran.success().contains(part), "{part}: {}", ran.out);
    }
}
