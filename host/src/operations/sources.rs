//! What is looked at when somebody asks for metrics.

use std::sync::Arc;

use crate::gateway::Gateway;
use crate::metrics::{Kind, Sample, Source};
use crate::policy::{Hook, HookOutcome, Remembering};
use crate::telemetry::Fate;

/// All sources of a gateway.
pub(super) fn of(gateway: &Arc<Gateway>) -> Vec<Box<dyn Source>> {
    vec![Box::new(Open(Arc::clone(gateway))), Box::new(Policies(Arc::clone(gateway))), Box::new(Process)]
}

/// What is open, and what waits.
struct Open(Arc<Gateway>);

impl Source for Open {
    fn samples(&self) -> Vec<Sample> {
        let gateway = &self.0;
        let gauge = |name, help, value: usize| Sample::of(name, help, Kind::Gauge, value as f64);
        let yes = |is: bool| usize::from(is);
        let recording = gateway.sessions().waiting();
        let table = gateway.clusters();
        let by_cluster = |name, help, which: usize| {
            let of = |(cluster, open): (&str, [usize; 3])| (vec![("cluster", cluster.to_owned())], open[which] as f64);
            let values = table.ready().map(|cluster| of((cluster.name(), cluster.open_now()))).collect();
            Sample { name, help, kind: Kind::Gauge, values }
        };
        let set_up =
            table.all().iter().map(|listed| (vec![("cluster", listed.name().to_owned())], f64::from(u8::from(listed.cluster().is_ok()))));
        let mut samples = vec![
            by_cluster("postern_requests_in_flight", "Requests that are under way", 0),
            by_cluster("postern_watches_open", "Watches and followed logs that are open", 1),
            by_cluster("postern_streams_open", "Streams into containers and tunnels that are open", 2),
            Sample {
                name: "postern_cluster_set_up",
                help: "1 for a cluster that can be asked, 0 for one that could not be set up",
                kind: Kind::Gauge,
                values: set_up.collect(),
            },
            gauge("postern_approvals_waiting", "Requests that wait for an approval at this moment", gateway.approvals().waiting()),
            gauge("postern_audit_waiting_events", "Events that wait to be written to the audit log", gateway.audit().waiting()),
            gauge("postern_audit_writable", "1 while the audit log can be written", yes(gateway.audit().check().is_ok())),
            gauge("postern_recorder_waiting_calls", "Calls that wait to be added to their sessions", recording.calls),
            gauge("postern_recorder_waiting_body_bytes", "Bytes of bodies that wait to be added to their sessions", recording.bodies),
        ];
        let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        let help = "The version that runs; always 1";
        samples.push(Sample { name: "postern_build_info", help, kind: Kind::Gauge, values: vec![(version, 1.0)] });
        let ages = gateway.identifier().ages_of_keys();
        let values = ages.into_iter().map(|(issuer, age)| (vec![("issuer", issuer)], age.as_secs_f64())).collect();
        let help = "Seconds since the keys of an issuer were fetched";
        samples.push(Sample { name: "postern_issuer_keys_age_seconds", help, kind: Kind::Gauge, values });
        let count = |fate| gateway.spans().map_or(0, |spans| spans.count(fate)) as f64;
        let values = Fate::ALL.map(|fate| (vec![("fate", fate.name().to_owned())], count(fate))).into();
        let help = "Spans of traces, by what became of them; those neither sent nor failed wait or were dropped";
        samples.push(Sample { name: "postern_telemetry_spans", help, kind: Kind::Counter, values });
        samples
    }
}

/// What policies did.
struct Policies(Arc<Gateway>);

impl Source for Policies {
    fn samples(&self) -> Vec<Sample> {
        let directories = self.0.directories();
        if directories.is_empty() {
            return Vec::new();
        }
        let (mut calls, mut seconds, mut states) = (Vec::new(), Vec::new(), Vec::new());
        let (mut remembered, mut paths, mut spoilt) = (Vec::new(), Vec::new(), Vec::new());
        for (cluster, directory) in &directories {
            // Policies of one cluster alone are told apart from those that all share.
            let with = |labels: Vec<(&'static str, String)>| -> Vec<_> {
                labels.into_iter().chain(cluster.iter().map(|cluster| ("cluster", cluster.clone()))).collect()
            };
            let set = directory.current();
            for policy in &set.policies {
                let of = |hook: Hook| with(vec![("policy", policy.name.clone()), ("hook", hook.name().to_owned())]);
                for hook in Hook::ALL {
                    for outcome in HookOutcome::ALL {
                        let count = policy.stats.count(hook, outcome);
                        if count > 0 {
                            let mut labels = of(hook);
                            labels.push(("verdict", outcome.name().to_owned()));
                            calls.push((labels, count as f64));
                        }
                    }
                    if policy.stats.took(hook) > std::time::Duration::ZERO {
                        seconds.push((of(hook), policy.stats.took(hook).as_secs_f64()));
                    }
                }
                let of_policy = with(vec![("policy", policy.name.clone())]);
                let is_spoilt = match policy.remembering() {
                    Remembering::On | Remembering::PerCaller => false,
                    Remembering::NotDeterministic => true,
                    Remembering::Off | Remembering::Contract => continue,
                };
                remembered.push((of_policy.clone(), policy.stats.remembered() as f64));
                paths.push((of_policy.clone(), policy.known_paths() as f64));
                spoilt.push((of_policy, f64::from(u8::from(is_spoilt))));
            }
            let counts =
                [("in-force", set.policies.len()), ("broken", set.broken.len()), ("missing", set.missing.len()), ("gone", set.gone.len())];
            states.extend(counts.map(|(state, count)| (with(vec![("state", state.to_owned())]), count as f64)));
        }
        let reloads = directories.iter().map(|(_, directory)| directory.reloads()).sum::<u64>();
        let kind = Kind::Counter;
        vec![
            Sample {
                name: "postern_policy_calls",
                help: "Calls of policies since they were loaded, by what they said",
                kind,
                values: calls,
            },
            Sample { name: "postern_policy_call_seconds", help: "Seconds that calls of policies took", kind, values: seconds },
            Sample {
                name: "postern_policy_remembered_calls",
                help: "Calls of policies that were answered from memory, of all calls",
                kind,
                values: remembered,
            },
            Sample {
                name: "postern_policy_known_paths",
                help: "Ways to a verdict of a policy that are known",
                kind: Kind::Gauge,
                values: paths,
            },
            Sample {
                name: "postern_policy_not_deterministic",
                help: "Policies that said two things of the same answers: nothing of them is remembered",
                kind: Kind::Gauge,
                values: spoilt,
            },
            Sample { name: "postern_policies", help: "Policies, by whether they are in force", kind: Kind::Gauge, values: states },
            Sample::of("postern_policy_reloads", "How often the policy directory was read anew", kind, reloads as f64),
        ]
    }
}

/// The process, by the names that Prometheus clients give.
struct Process;

impl Source for Process {
    fn samples(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kibibytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
        if let Some(kibibytes) = kibibytes {
            samples.push(Sample::of("process_resident_memory_bytes", "Resident memory size in bytes", Kind::Gauge, kibibytes * 1024.0));
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            samples.push(Sample::of("process_open_fds", "Number of open file descriptors", Kind::Gauge, open.count() as f64));
        }
        samples
    }
}
