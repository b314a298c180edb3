//! What was begun does not outlive the right to it: the cluster's access rules are changed while callers are in the middle.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use e2e::{Ran, Setup, cluster, code, raw, scratch, setup_behind, setup_with};
use serde_json::json;
use testbed::{Between, GatewayOptions, wait_until};

/// An access rule by which callers are a ServiceAccount of their own, which is made.
fn acts_as(account: &str) -> String {
    cluster().apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": "postern"}})).unwrap();
    format!("[{{as: {{serviceAccount: {{namespace: postern, name: {account}}}}}}}]")
}

/// Begins what goes on, for less than a minute should nothing else end it.
fn begin(s: &Setup, websocket: bool, args: &[&str]) -> Child {
    let mut command = Command::new(testbed::binary("kubectl"));
    command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websocket.to_string()).arg("--kubeconfig").arg(&s.caller);
    command.args(["-n", &s.namespace, "--request-timeout=40s"]).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// How many operations are recorded to have ended so.
fn withdrawn(s: &Setup) -> usize {
    s.events().iter().filter(|e| e["ended"] == "right-withdrawn").count()
}

#[test]
fn a_right_that_is_taken_away_ends_its_streams_within_seconds_and_says_so() {
    let as_account = acts_as("for-a-while");
    for (access, who, websocket) in
        [(as_account.as_str(), "for-a-while", true), (&as_account, "for-a-while", false), ("[{as: {impersonate: {}}}]", "caller", true)]
    {
        let s = setup_with(GatewayOptions { access: access.into(), ..GatewayOptions::default() });
        cluster().run_pod(&s.namespace, "web").unwrap();
        s.direct(&["create", "rolebinding", "for-a-while", "--clusterrole=cluster-admin", &format!("--serviceaccount=postern:{who}")])
            .success();
        wait_until("it may", Duration::from_secs(20), || Ok(s.kubectl(&["exec", "web", "--", "true"]).ok)).unwrap();
        let child = begin(
            &s,
            websocket,
            &["exec", "web", "--", "sh", "-c", "i=0; while [ $i -lt 150 ]; do echo tick; sleep 0.2; i=$((i+1)); done"],
        );
        // It goes on while it may.
        std::thread::sleep(Duration::from_secs(5));
        s.direct(&["delete", "rolebinding", "for-a-while"]).success();
        let began = Instant::now();
        let ended = Ran::new(child.wait_with_output().unwrap());
        assert!(ended.failure().contains("you may do this no longer"), "{}", ended.err);
        assert!(ended.out.matches("tick").count() > 15 && began.elapsed() < Duration::from_secs(5), "{:?}: {}", began.elapsed(), ended.out);
        assert_eq!(withdrawn(&s), 1);
    }
}

/// From Kubernetes 1.35 on who begins by GET, as WebSocket must, needs the right to `create` as well.
#[test]
fn a_websocket_ends_where_nothing_but_the_right_to_create_is_taken_away() {
    let s = setup_with(GatewayOptions { access: acts_as("for-a-minute"), ..GatewayOptions::default() });
    cluster().run_pod(&s.namespace, "web").unwrap();
    for (role, verb, resources) in [("looks", "get", "pods,pods/exec"), ("executes", "create", "pods/exec")] {
        s.direct(&["create", "role", role, &format!("--verb={verb}"), &format!("--resource={resources}")]).success();
        s.direct(&["create", "rolebinding", role, &format!("--role={role}"), "--serviceaccount=postern:for-a-minute"]).success();
    }
    wait_until("it may", Duration::from_secs(20), || Ok(s.kubectl(&["exec", "web", "--", "true"]).ok)).unwrap();
    let child = begin(&s, true, &["exec", "web", "--", "sleep", "60"]);
    std::thread::sleep(Duration::from_secs(3));
    s.direct(&["delete", "rolebinding", "executes"]).success();
    let began = Instant::now();
    let ended = Ran::new(child.wait_with_output().unwrap());
    assert!(ended.failure().contains("you may do this no longer"), "{}", ended.err);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn what_is_followed_watched_or_proxied_ends_too_and_says_so_where_it_can() {
    // It stands for the API server where a node is asked through it.
    let between = Between::start(cluster(), &scratch("between")).unwrap();
    let s = setup_behind(
        &between,
        GatewayOptions {
            policies: vec![("20-mask-secrets", "mask-secrets", String::new())],
            access: acts_as("for-a-day"),
            config: "nodesProxy: {users: ['system:serviceaccount:postern:caller']}\n".into(),
            ..GatewayOptions::default()
        },
    );
    s.direct(&["create", "clusterrolebinding", "for-a-day", "--clusterrole=cluster-admin", "--serviceaccount=postern:for-a-day"]).success();
    wait_until("it may", Duration::from_secs(20), || Ok(s.kubectl(&["get", "secrets"]).ok)).unwrap();
    s.direct(&["create", "configmap", "news"]).success();
    let commands = [
        &["logs", "-f", "web"][..],
        &["get", "secrets", "-w", "-o", "yaml"],
        &["get", "configmaps", "-w"],
        &["get", "pods", "-w", "--field-selector=metadata.name=web", "-l", "a!=b"],
    ];
    let requests = [
        (format!("/api/v1/namespaces/{}/configmaps?watch=1", s.namespace), "Accept: application/vnd.kubernetes.protobuf;stream=watch\r\n"),
        (format!("/api/v1/nodes/node-1/proxy/containerLogs/{}/web/main?follow=true", s.namespace), ""),
    ];
    std::thread::scope(|scope| {
        let children: Vec<Child> = commands.iter().map(|args| begin(&s, true, args)).collect();
        let mut answers: Vec<_> = requests.iter().map(|(path, headers)| scope.spawn(|| (s.get(path, headers), Instant::now()))).collect();
        answers.push(scope.spawn(|| (s.exec_by_node("while+sleep+0.2%3Bdo+echo+tick%3Bdone", Duration::from_secs(40)), Instant::now())));
        // They go on while they may.
        std::thread::sleep(Duration::from_secs(6));
        assert_eq!(withdrawn(&s), 0);
        s.direct(&["delete", "clusterrolebinding", "for-a-day"]).success();
        let began = Instant::now();
        let ended: Vec<Ran> = children.into_iter().map(|child| Ran::new(child.wait_with_output().unwrap())).collect();
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        let [log, secrets, configmaps, pods] = &ended[..] else { unreachable!() };
        assert!(log.out.contains("line 9") && log.out.contains("\npostern: you may do this no longer"), "{}", log.out);
        assert!(secrets.out.contains("kind: Secret"), "{}", secrets.out);
        for watch in [secrets, configmaps, pods] {
            // kubectl prints an error among events as it prints an object, or says it.
            let said = format!("{}{}", watch.out, watch.err);
            assert!(said.contains("you may do this no longer"), "{said}");
        }
        let answers: Vec<_> = answers.into_iter().map(|answer| answer.join().unwrap()).collect();
        assert!(answers.iter().all(|(_, ended)| *ended < began + Duration::from_secs(5)));
        let [(watch, _), (proxied, _), (tunnel, _)] = &answers[..] else { unreachable!() };
        // What cannot say why ends as a watch may at any time, and what is no watch does not look whole.
        assert!(code(watch) == 200 && watch.contains("k8s\0") && watch.ends_with("0\r\n\r\n"), "{watch}");
        assert!(code(proxied) == 200 && proxied.contains("line 9") && !proxied.ends_with("0\r\n\r\n"), "{proxied}");
        assert!(code(tunnel) == 101 && tunnel.matches("tick").count() > 10, "{tunnel}");
    });
    assert_eq!(withdrawn(&s), commands.len() + requests.len() + 1);
    assert!(!s.kubectl(&["get", "configmaps", "-w"]).ok, "nor can they be begun anew");
}

#[test]
fn an_account_that_is_deleted_ends_its_streams() {
    let s = setup_with(GatewayOptions { access: acts_as("for-an-hour"), ..GatewayOptions::default() });
    s.direct(&["create", "rolebinding", "for-an-hour", "--clusterrole=cluster-admin", "--serviceaccount=postern:for-an-hour"]).success();
    wait_until("it may", Duration::from_secs(20), || Ok(s.kubectl(&["exec", "web", "--", "true"]).ok)).unwrap();
    let child = begin(&s, true, &["exec", "web", "--", "sleep", "60"]);
    std::thread::sleep(Duration::from_secs(2));
    s.direct(&["delete", "serviceaccount", "for-an-hour", "--namespace=postern"]).success();
    let began = Instant::now();
    let ended = Ran::new(child.wait_with_output().unwrap());
    assert!(ended.failure().contains("you may do this no longer"), "{}", ended.err);
    // The API server itself knows a token for ten seconds after it looked it up (`token-cache` in its authenticator).
    assert!(began.elapsed() < Duration::from_secs(10 + 5), "{:?}", began.elapsed());
}

/// What it costs: one question for all that stand on the same right, and none for what is short.
#[test]
fn a_right_is_asked_about_once_for_all_who_stand_on_it_and_not_for_what_is_short() {
    let between = Between::start(cluster(), &scratch("between")).unwrap();
    let s = setup_behind(&between, GatewayOptions::default());
    let asked = || between.seen().unwrap().iter().filter(|seen| seen.target.contains("selfsubjectaccessreviews")).count();
    for _ in 0..20 {
        s.kubectl(&["logs", "web"]).success();
    }
    assert_eq!(asked(), 0);
    let watch = format!("/api/v1/namespaces/{}/configmaps?watch=1&timeoutSeconds=8", s.namespace);
    let watch = format!("GET {watch} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n", s.token);
    std::thread::scope(|scope| {
        for _ in 0..30 {
            scope.spawn(|| assert_eq!(code(&raw(&s.gateway, &watch)), 200));
        }
    });
    let times = asked();
    println!("30 watches of 8 seconds: the API server was asked {times} times");
    assert!((2..10).contains(&times), "{times}");
    std::thread::sleep(Duration::from_secs(5));
    assert!(asked() <= times + 1, "nobody wants to know any more: {times}, {}", asked());
}
