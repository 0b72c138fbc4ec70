//! A program as a process of its own: started, killed, frozen and woken up again.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a program may take to stop when asked kindly.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// A program that can be started again and again. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    program: PathBuf,
    arguments: Vec<OsString>,
    log: PathBuf,
    child: Option<Child>,
    frozen: bool,
}

impl Process {
    /// Not started yet. What it prints goes to the end of the file `log`.
    pub(crate) fn new(program: PathBuf, arguments: Vec<OsString>, log: PathBuf) -> Self {
        Self {
            program,
            arguments,
            log,
            child: None,
            frozen: false,
        }
    }

    pub(crate) fn start(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("{} runs already", self.program.display());
        }
        let log: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        let child = Command::new(&self.program)
            .args(&self.arguments)
            // Held open as long as we live.
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} can't be started", self.program.display()))?;
        self.child = Some(child);
        self.frozen = false;
        Ok(())
    }

    /// Whether it was started and is neither stopped nor frozen.
    pub(crate) fn is_awake(&self) -> bool {
        self.child.is_some() && !self.frozen
    }

    #[cfg(test)]
    fn is_running(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// How it ended by itself, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child
            .as_mut()
            .and_then(|child| child.try_wait().ok().flatten())
    }

    /// SIGKILL: it has no time for anything.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("there is nothing to kill")?;
        child.kill().context("SIGKILL failed")?;
        child.wait()?;
        self.frozen = false;
        Ok(())
    }

    /// SIGTERM, and waits until it has ended; an error when it does not end well or in time.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        self.thaw()?;
        self.signal(Signal::TERM)?;
        let begun = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                self.child = None;
                if status.success() {
                    return Ok(());
                }
                bail!(
                    "it stopped with {status}; the last of its log:\n{}",
                    self.log_tail()
                );
            }
            if begun.elapsed() > STOP_PATIENCE {
                self.kill()?;
                bail!(
                    "it did not stop within {} s of SIGTERM",
                    STOP_PATIENCE.as_secs()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// SIGSTOP: connections stay, but it does nothing any more.
    pub(crate) fn freeze(&mut self) -> Result<()> {
        self.signal(Signal::STOP)?;
        self.frozen = true;
        Ok(())
    }

    /// SIGCONT, if it is frozen.
    pub(crate) fn thaw(&mut self) -> Result<()> {
        if self.frozen {
            self.signal(Signal::CONT)?;
            self.frozen = false;
        }
        Ok(())
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of its log.
    pub(crate) fn log_tail(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().rev().take(8).collect();
        lines
            .into_iter()
            .rev()
            .map(|line| format!("    {line}\n"))
            .collect()
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().context("it does not run")?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("a process without id")?, signal)?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.is_some() {
            let _ = self.kill();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(dir: &Path, script: &str) -> Process {
        let arguments = vec!["-c".into(), script.into()];
        Process::new("/bin/sh".into(), arguments, dir.join("log"))
    }

    async fn until(mut done: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !done() {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "it never happened"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn is_killed_and_started_again() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut process = shell(
            dir.path(),
            "trap '' TERM; echo up; while :; do sleep 0.05; done",
        );
        process.start().expect("sh starts");
        assert!(process.start().is_err(), "it runs already");
        until(|| process.log_tail().contains("up")).await;
        assert!(process.is_running());
        process.kill().expect("SIGKILL works");
        assert!(!process.is_running());
        assert!(process.kill().is_err(), "there is nothing to kill");
        process.start().expect("sh starts again");
        until(|| process.log_tail().matches("up").count() == 2).await;
    }

    #[tokio::test]
    async fn stops_kindly_and_says_when_it_ends_badly() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut good = shell(
            dir.path(),
            "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done",
        );
        good.start().expect("sh starts");
        until(|| good.log_tail().contains("up")).await;
        good.stop().await.expect("it stops with 0");

        let mut bad = shell(
            dir.path(),
            "trap 'echo oh no; exit 3' TERM; echo up; while :; do sleep 0.05; done",
        );
        bad.start().expect("sh starts");
        until(|| bad.log_tail().matches("up").count() == 2).await;
        let error = bad.stop().await.expect_err("it stops with 3");
        assert!(error.to_string().contains("oh no"), "{error}");
    }

    #[tokio::test]
    async fn does_nothing_while_frozen() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut process = shell(dir.path(), "while :; do echo tick; sleep 0.02; done");
        process.start().expect("sh starts");
        let size = |p: &Process| std::fs::metadata(p.log()).map_or(0, |m| m.len());
        until(|| size(&process) > 0).await;
        process.freeze().expect("SIGSTOP works");
        tokio::time::sleep(Duration::from_millis(100)).await;
        let before = size(&process);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(size(&process), before);
        process.thaw().expect("SIGCONT works");
        until(|| size(&process) > before).await;
    }
}
