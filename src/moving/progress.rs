//! Progress on the standard error: a line that is overwritten on a terminal, a line every ten seconds
//! elsewhere.

use engramdb_engine::env::Env;
use std::io::IsTerminal;
use std::time::Duration;

pub struct ProgressLine {
    env: Env,
    began: Duration,
    last: Duration,
    is_terminal: bool,
    is_open: bool,
}

impl ProgressLine {
    pub fn new(env: &Env) -> ProgressLine {
        let now = env.clock.monotonic();
        let is_terminal = std::io::stderr().is_terminal();
        ProgressLine { env: env.clone(), began: now, last: now, is_terminal, is_open: false }
    }

    /// Shows how far a step is, if it is time: bytes of what is read (0 for unknown), and keys.
    pub fn show(&mut self, step: &str, (done_bytes, total_bytes): (u64, u64), keys: u64) {
        let now = self.env.clock.monotonic();
        let pause = if self.is_terminal { Duration::from_millis(200) } else { Duration::from_secs(10) };
        if now - self.last < pause {
            return;
        }
        self.last = now;
        let share = match total_bytes {
            0 => String::new(),
            total => format!(", {}% of {}", done_bytes * 100 / total, size(total)),
        };
        let line = format!("{step}: {keys} keys{share}");
        if self.is_terminal {
            self.is_open = true;
            engramdb_console::note_part(format_args!("\r{line:<70}"));
        } else {
            engramdb_console::note(line);
        }
    }

    /// Ends the line; how long the work took.
    pub fn end(&mut self) -> Duration {
        if std::mem::take(&mut self.is_open) {
            engramdb_console::note_part(format_args!("\r{:<70}\r", ""));
        }
        self.env.clock.monotonic() - self.began
    }
}

pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} KB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}
