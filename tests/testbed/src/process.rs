//! Child processes that end with their parent.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// A running server. Dropping it ends it.
pub struct Process {
    name: String,
    child: Child,
    /// The signal that ends it, by name.
    signal: &'static str,
}

impl Process {
    /// Starts a server whose output goes to a log. `setpriv` makes the kernel end it should this process be killed.
    pub fn start(name: &str, command: Command, log: &Path) -> anyhow::Result<Self> {
        Self::start_ended_by("KILL", name, command, log)
    }

    /// The same, for a server that has processes of its own to end: killed, it would leave them behind.
    pub fn start_ended_by(signal: &'static str, name: &str, mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let out = OpenOptions::new().create(true).append(true).open(log).with_context(|| log.display().to_string())?;
        let mut wrapped = Command::new("setpriv");
        wrapped.args(["--pdeathsig", signal, "--"]).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(key, value),
                None => wrapped.env_remove(key),
            };
        }
        command = wrapped;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = spawn(command).with_context(|| format!("cannot start {name} (setpriv of util-linux is needed)"))?;
        Ok(Self { name: name.into(), child, signal })
    }

    /// Waits until it listens on a port of this machine.
    pub fn listening(mut self, port: u16, log: &Path) -> anyhow::Result<Self> {
        wait_until(&format!("{} listens", self.name), Duration::from_secs(20), || {
            self.check().with_context(|| tail(log))?;
            Ok(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())
        })?;
        Ok(self)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// An error when it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended: {status}", self.name);
        }
        Ok(())
    }

    /// Asks it to end, and waits until it has.
    pub fn terminate(&mut self, wait: Duration) -> anyhow::Result<()> {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        wait_until(&format!("{} ends", self.name), wait, || Ok(self.child.try_wait()?.is_some()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.signal != "KILL" {
            let _ = Command::new("kill").args(["-s", self.signal, &self.child.id().to_string()]).status();
            let _ = wait_until(&format!("{} ends", self.name), Duration::from_secs(5), || Ok(self.child.try_wait()?.is_some()));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Spawns on a thread that lives as long as this process: the kernel's signal comes when the spawning thread ends.
fn spawn(command: Command) -> anyhow::Result<Child> {
    type Job = (Command, Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, jobs) = channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, done) in jobs {
                let _ = done.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let (done, result) = channel();
    spawner.lock().unwrap_or_else(PoisonError::into_inner).send((command, done)).context("the spawner ended")?;
    Ok(result.recv().context("the spawner ended")??)
}

/// A port of this process alone, for as long as it lives: below the range the kernel gives to outgoing connections, and locked, so that
/// neither a connection nor another testbed takes it between here and the server that will listen on it.
pub fn free_port() -> anyhow::Result<u16> {
    static LOCKS: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let directory = crate::cache().join("ports");
    std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    for port in 20_000..32_000 {
        let lock = File::create(directory.join(port.to_string()))?;
        if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            LOCKS.lock().unwrap_or_else(PoisonError::into_inner).push(lock);
            return Ok(port);
        }
    }
    bail!("no port between 20000 and 32000 is free")
}

/// Writes a file whole: whoever reads it meanwhile sees the old one or the new one.
pub(crate) fn write_whole(file: &Path, content: &str) -> anyhow::Result<()> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let partial = file.with_extension(format!("partial-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
    std::fs::write(&partial, content).with_context(|| partial.display().to_string())?;
    std::fs::rename(&partial, file).with_context(|| file.display().to_string())
}

/// Waits until something holds; says what it waited for when it does not.
pub fn wait_until(what: &str, longest: Duration, mut holds: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let start = Instant::now();
    while !holds()? {
        if start.elapsed() > longest {
            bail!("waited {} s in vain until {what}", longest.as_secs());
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    Ok(())
}

/// The end of a log, for an error message.
pub(crate) fn tail(log: &Path) -> String {
    use std::io::Read;
    let mut text = String::new();
    let _ = File::open(log).and_then(|mut f| f.read_to_string(&mut text));
    let lines: Vec<&str> = text.lines().rev().take(15).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
